"""`elysium app`: the web app. Checks what can be checked before anything heavy is imported; the rest is elysium.app."""

from __future__ import annotations

import importlib.util
import signal
from dataclasses import replace
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elysium.cli import common
from elysium.cli.demo import CLIP
from elysium.errors import ElysiumError, SourceError

if TYPE_CHECKING:
    from elysium.app.server import Server

_NEEDED = ("gradio", "gradio_image_annotation")


def app(
    model: common.Model = "nano",
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="127.0.0.1: this machine alone; 0.0.0.0: the network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="N", help="0 for any that is free.")] = 7860,
    stream: Annotated[
        str | None,
        typer.Option(
            "--stream", metavar="SOURCE", help="A webcam's number, an address or a video for the live view.",
            show_default=False,
        ),
    ] = None,
    samples: Annotated[
        str | None,
        typer.Option("--samples", metavar="DIR", help="Videos that visitors may pick.", show_default=False),
    ] = None,
    max_mb: Annotated[int, typer.Option("--max-mb", metavar="N", help="Largest upload in megabytes.")] = 200,
    max_seconds: Annotated[float, typer.Option("--max-seconds", metavar="S", help="Longest video.")] = 120.0,
    max_waiting: Annotated[
        int, typer.Option("--max-waiting", metavar="N", help="Jobs that may wait for the model.")
    ] = 8,
    device: common.Device = "auto",
    dtype: common.Dtype = "auto",
    threads: common.Threads = None,
) -> int:  # fmt: skip
    """Serve a page on which videos are tracked, described, asked about and corrected, until Ctrl-C.

    Uploads are decoded in a process of their own with limits of time and memory, and removed when a visitor leaves.
    There are no accounts: whoever reaches the address can use the model.

    Example: elysium app --port 8080
    """
    for name, value in (("--max-mb", max_mb), ("--max-waiting", max_waiting)):
        common.at_least(name, value, 1)
    common.at_least("--max-seconds", int(max_seconds), 1)
    common.at_least("--port", port, 0)
    check_installed()
    from elysium.app.limits import Limits
    from elysium.app.server import Server, free_port
    from elysium.app.worker import ModelSettings

    free_port(host, port)
    if stream is not None:
        common.open_frames(stream, start_s=None, end_s=None, stride=1, max_frames=None).close()
    common.at_least("--threads", threads, 1)
    limits = replace(Limits(), max_bytes=max_mb * 2**20, max_seconds=max_seconds, max_waiting=max_waiting)
    with as_file(files("elysium") / "assets" / CLIP) as bundled:
        server = Server(
            ModelSettings(model, device, dtype, threads), host=host, port=port, limits=limits,
            samples=_samples(samples, bundled), stream=stream,
        )  # fmt: skip
        signal.signal(signal.SIGTERM, partial(_end, server))
        with server:
            print(f"elysium is at {server.url}  (Ctrl-C ends it)", flush=True)
            server.wait()
    return common.DONE


def _end(server: Server, *_: object) -> None:
    """Asked to end (SIGTERM): as by Ctrl-C while it is starting, else without a word."""
    if not server.url:
        raise KeyboardInterrupt
    server.stop()


def check_installed() -> None:
    """Raise ElysiumError unless the packages of the app are there."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ElysiumError(
            f"The web app needs {' and '.join(name.replace('_', '-') for name in missing)}",
            "Install it with: pip install 'elysium-video[app]'",
        )


def _samples(folder: str | None, bundled: Path) -> dict[str, Path]:
    """What visitors may pick, by name: the videos of a folder, or the bundled clip. Raises SourceError."""
    if folder is None:
        return {"pedestrians": bundled} if bundled.is_file() else {}
    if not Path(folder).is_dir():
        raise SourceError(f"No such folder: {folder!r}", "Name a folder of videos with --samples.")
    from elysium.app.desk import clip_names

    found = clip_names(Path(folder))
    if not found:
        raise SourceError(f"There is no video in {folder!r}", "Put some there, or leave --samples out.")
    return found
