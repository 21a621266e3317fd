"""manifest.json: what the records were made of, with what, and how much was lost where.

    elysium, python, platform, packages   versions
    captions, videos                      the list (its hash) and the folder
    plugins                               of each stage: name, and the files of its model with their hashes
    settings                              every threshold, defaults written out
    funnel                                see `funnel`
    records                               how many, and the hash of records.jsonl
    clips                                 of each video: its line, exact indices and times of its frames, its records

It says nothing of times and processes, so that a run that was stopped and went on ends with the same file. Knows
results, hashes and packages; does not know how anything was made.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from elysium.building.captions import CaptionedVideo
from elysium.building.funnel import Funnel
from elysium.building.pipeline import Plan
from elysium.building.results import VideoResult
from elysium.building.staff import sha256
from elysium.building.store import MANIFEST, RECORDS, Failure
from elysium.files import atomic_path

PACKAGES = (
    "av", "filterpy", "numpy", "opencv-contrib-python-headless", "pillow", "ray", "spacy", "torch", "transformers",
)  # fmt: skip


def installed(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """The versions of those that are there."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write_files(
    plan: Plan, items: Sequence[CaptionedVideo], failures: Sequence[Failure], captions: Path
) -> Funnel:
    """records.jsonl, failures.jsonl and manifest.json, from the results in the store, in the order of the ``items``,
    which are the lines of ``captions``.

    One result is in memory at a time. Raises OutputError, SourceError.
    """
    store, settings = plan.store, plan.settings
    failed = {failure.id for failure in failures}
    done = [item.id for item in items if item.id not in failed]
    count = store.write_records(map(store.load, done), settings.records.source)
    store.write_failures(failures)
    funnel = Funnel()
    for _ in failures:
        funnel.add_failure()
    for id in done:
        funnel.add(store.load(id))
    head = {
        "elysium": version("elysium-video"), "python": platform.python_version(), "platform": platform.platform(),
        "packages": installed(),
        "captions": {"file": str(captions), "sha256": sha256(captions), "lines": len(items)},
        "videos": str(plan.videos), "plugins": plan.staff.to_json(),
        "settings": settings.model_dump(mode="json", exclude={"running"}), "funnel": funnel.to_json(),
        "records": {"file": RECORDS, "sha256": sha256(store.folder / RECORDS), "count": count},
    }  # fmt: skip
    _write(store.folder / MANIFEST, head, (_clip(store.load(id)) for id in done))
    return funnel


def _clip(result: VideoResult) -> dict[str, Any]:
    clip = result.clip
    return {
        **result.captioned.model_dump(exclude_defaults=True),
        "set_aside": None if result.set_aside is None else result.set_aside.reason,
        "frame_indices": [] if clip is None else list(clip.indices),
        "times_s": [] if clip is None else list(clip.times_s),
        "left_out": [note.what for note in result.notes],
        "records": [f"{result.id}-{number}" for number in range(len(result.kept))],
    }


def _write(path: Path, head: Mapping[str, Any], clips: Iterator[dict[str, Any]]) -> None:
    """The keys of ``head``, then a line for each clip."""
    text = json.dumps(head, indent=1, ensure_ascii=False)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.write(text.removesuffix("\n}") + ',\n "clips": [')
        for number, clip in enumerate(clips):
            file.write(f"{',' if number else ''}\n  {json.dumps(clip, ensure_ascii=False)}")
        file.write("\n ]\n}\n")
