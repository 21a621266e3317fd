"""`elysium demo`: track the bundled clip once by a box and once by words, and describe what is in the box."""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elysium.cli import common
from elysium.cli.describe import DESCRIBE_FRAMES
from elysium.cli.outputs import OutputPlan, check_writable, make_folder, remove_empty, save_result, stem_names
from elysium.cli.progress import frame_progress
from elysium.errors import SourceError

if TYPE_CHECKING:
    from elysium.inference.pipelines import Elysium

CLIP, FACTS = "pedestrians.mp4", "demo.json"


def demo(
    output: Annotated[
        str | None,
        typer.Option("--output", metavar="DIR", help="Default: runs/demo, numbered up.", show_default=False),
    ] = None,
    model: common.Model = "nano",
    max_frames: common.MaxFrames = None,
    device: common.Device = "auto",
    dtype: common.Dtype = "auto",
    threads: common.Threads = None,
    quiet: common.Quiet = False,
) -> int:
    """Track a bundled clip, and print where the annotated videos and the JSON files lie."""
    plan = OutputPlan(Path(output or "runs/demo"), numbered=output is None)
    check_writable(plan.folder)
    facts, clip = _assets()
    with as_file(clip) as path:
        frames = common.open_frames(str(path), start_s=None, end_s=None, stride=1, max_frames=max_frames)
        common.check_machine(device, dtype, threads)
        loaded = common.load_model(model, device, dtype, threads)
        folder, made = make_folder(plan)
        window = facts["search_window"]  # null, the full frame: nano's default loses this pedestrian halfway
        try:
            _follow(loaded, frames, folder, "by-box", quiet, boxes=[facts["box_xyxy"]], search_window=window)
            _follow(loaded, frames, folder, "by-words", quiet, expression=facts["expression"], search_window=window)
        finally:
            remove_empty(made)
        first = common.open_frames(str(path), start_s=None, end_s=None, stride=1, max_frames=DESCRIBE_FRAMES)
        print(f"the object in the box {facts['box_xyxy']}: {loaded.describe(first, facts['box_xyxy'])}")
    return common.DONE


def _assets() -> tuple[dict[str, Any], Any]:
    """What to track, and the clip. Raises SourceError where the installation lacks them."""
    folder = files("elysium") / "assets"
    if not (folder / CLIP).is_file() or not (folder / FACTS).is_file():
        raise SourceError("The bundled clip is not in this installation", "Install the package again.")
    return json.loads((folder / FACTS).read_text(encoding="utf-8")), folder / CLIP


def _follow(model: Elysium, frames: Any, folder: Path, name: str, quiet: bool, **target: Any) -> None:
    """Track one object, write `<name>.mp4` and `<name>.json` into `folder`, and print their paths."""
    with frame_progress(name, quiet=quiet) as report:
        result = model.track(frames, **target, progress=report)
    for sentence in result.warnings:
        common.warn(sentence)
    written, failed = save_result(result, OutputPlan(folder, stem_names(name, ("json", "mp4"))))
    if failed:
        raise failed[0]
    told = f"words {target['expression']!r}" if "expression" in target else f"box {target['boxes'][0]}"
    print(f"tracked by {told}:")
    for path in reversed(written.values()):
        print(f"  {path}")
