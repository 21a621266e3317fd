"""What the tests of the web app share: a server of its own, a browser, and what to do on the page."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "src" / "elysium" / "assets" / "pedestrians.mp4"  # 62 frames of 576 x 432, 10 a second
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
START_S, END_S = 300, 120
PATIENCE_MS = 240_000  # no test takes that long; machines that are busy with other things do
PIXELS = "(canvas) => canvas.toDataURL()"


def browser_path() -> str | None:
    """A Chromium on this machine: ELYSIUM_CHROMIUM, or one on the path."""
    given = os.environ.get("ELYSIUM_CHROMIUM")
    return given or next((path for name in BROWSERS if (path := shutil.which(name))), None)


@contextmanager
def served(folder: Path, *options: str) -> Iterator[AppServer]:
    """`elysium app` as a process of its own, its files under ``folder``; ended as by Ctrl-C, which leaves nothing."""
    environment = {**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    log = (folder / "server.log").open("w+")
    process = subprocess.Popen(
        [sys.executable, "-m", "elysium", "app", "--port", "0", "--threads", "1", *options],
        stdout=subprocess.PIPE, stderr=log, text=True, env=environment, cwd=folder,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], START_S)
        line = process.stdout.readline() if ready else ""
        found = re.search(r"http://\S+", line)
        assert found, f"no address: {line!r} {(folder / 'server.log').read_text()}"
        yield AppServer(process, found[0], folder)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()
    assert process.returncode == 130  # as interrupted
    assert not list(folder.glob("elysium-app-*"))


class AppServer:
    """A server that runs."""

    def __init__(self, process: subprocess.Popen[str], url: str, folder: Path) -> None:
        self.process, self.url, self.folder = process, url, folder

    def log(self) -> str:
        """What it has said on stderr."""
        return (self.folder / "server.log").read_text()

    def visits(self) -> list[Path]:
        """The folders of the visitors who are here."""
        return sorted(self.folder.glob("elysium-app-*/visit-*"))

    def model_pid(self) -> int:
        """The process with the model: of the server's children the one that multiprocessing started."""
        import psutil

        for child in psutil.Process(self.process.pid).children(recursive=True):
            if "spawn_main" in " ".join(child.cmdline()):
                return child.pid
        raise AssertionError("there is no process with a model")


class Visit:
    """One tab. What is clicked here is what a person would click."""

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        page.set_default_timeout(PATIENCE_MS)
        page.goto(url)
        page.wait_for_selector("#upload")

    def upload(self, *paths: Path) -> None:
        self.page.set_input_files("#upload input[type=file]", [str(path) for path in paths])

    def wait_for_clip(self, name: str) -> None:
        self.page.wait_for_function("(name) => document.querySelector('#facts').innerText.includes(name)", arg=name)
        self.page.wait_for_selector("#track", state="visible")
        self.page.wait_for_selector("#view canvas")

    def sample(self, name: str) -> None:
        self.page.get_by_role("button", name=f"Sample: {name}").click()
        self.wait_for_clip(name)

    def draw(self, box: tuple[float, float, float, float], resolution_wh: tuple[int, int], view: str = "view") -> None:
        """Drag a box, given in pixels of the video."""
        canvas = self.page.locator(f"#{view} canvas").first
        canvas.scroll_into_view_if_needed()
        place, before = self._settled(canvas)
        scale = min(place["width"] / resolution_wh[0], place["height"] / resolution_wh[1])
        left = place["x"] + (place["width"] - scale * resolution_wh[0]) / 2
        top = place["y"] + (place["height"] - scale * resolution_wh[1]) / 2
        x1, y1, x2, y2 = box
        mouse = self.page.mouse
        mouse.move(left + scale * x1, top + scale * y1)
        mouse.down()
        mouse.move(left + scale * x2, top + scale * y2, steps=4)
        mouse.up()
        self._until(lambda: canvas.evaluate(PIXELS) != before, "no box has appeared")

    def _settled(self, canvas: Any) -> tuple[dict[str, float], str]:
        """Where a canvas is and what is on it, once neither changes: the component measures itself after the picture
        has come."""
        seen: list[Any] = []

        def same() -> bool:
            seen.append((canvas.bounding_box(), canvas.evaluate(PIXELS)))
            return len(seen) > 3 and seen[-1] == seen[-2] == seen[-3] and seen[-1][0] is not None

        self._until(same, "the picture does not come to rest")
        found: tuple[dict[str, float], str] = seen[-1]
        return found

    def _until(self, met: Callable[[], bool], told: str) -> None:
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while not met():
            assert time.monotonic() < deadline, told
            time.sleep(0.2)

    def say(self, words: str) -> None:
        self.page.fill("#words textarea", words)

    def track(self) -> None:
        self.page.click("#track")

    def status(self) -> str:
        return str(self.page.inner_text("#status"))

    def wait_for_status(self, pattern: str) -> str:
        """The status once it matches."""
        self.page.wait_for_function(
            "(pattern) => new RegExp(pattern).test(document.querySelector('#status').innerText)", arg=pattern
        )
        return self.status()

    def wait_for_result(self) -> str:
        told = self.wait_for_status(r"frames in [\d.]+ s")
        self.page.wait_for_selector("#video video")
        return told

    def download(self, ending: str) -> Path:
        """The file of this kind, as the browser saves it."""
        link = self.page.locator(f"#files a[href$='{ending}'], #files a[download$='{ending}']").first
        with self.page.expect_download() as coming:
            link.click()
        return Path(coming.value.path())

    def tracks(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.download(".json").read_text(encoding="utf-8"))
        return found
