"""Makes the pictures of the README and of docs/app.md: a GIF of tracking, and the views of `elysium app`.

Everything in them is the clip that comes with the package (its licence: NOTICE), tracked by nano. The views need the
web app (pip install 'elysium-video[app]'), Playwright (pip install playwright) and a Chromium on this machine.

    python examples/make_pictures.py [--out docs/images] [--browser /usr/bin/chromium] [--only gif|app]
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

from PIL import Image

WIDTH, HEIGHT = 1280, 900  # of the browser's window
MAX_BYTES = 300_000  # of one picture
CLIP_NAME, CLIP_WH = "pedestrians", (576, 432)
SECOND_BOX = [526, 133, 570, 237]  # the man at the right border in the first frame
GIF_WIDTH, GIF_COLORS = 288, 64
QUALITIES = (88, 80, 70, 60)  # of JPEG, the first that is small enough


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--browser", default=shutil.which("chromium") or shutil.which("google-chrome"))
    parser.add_argument("--only", choices=("gif", "app"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    assets = Path(str(files("elysium") / "assets"))
    facts = json.loads((assets / "demo.json").read_text(encoding="utf-8"))
    if arguments.only != "app":
        make_gif(assets / f"{CLIP_NAME}.mp4", facts, arguments.out / "tracking.gif")
    if arguments.only != "gif":
        make_views(assets / f"{CLIP_NAME}.mp4", facts, arguments.out, arguments.browser)


def make_gif(clip: Path, facts: dict[str, Any], path: Path) -> None:
    """The clip of the demo, tracked by words, as a GIF of few frames and colours: noise makes large ones."""
    import elysium
    from elysium.draw import annotate_result
    from elysium.video import open_source

    result = elysium.load("nano").track(clip, facts["expression"], stride=6, search_window=facts["search_window"])
    size = (GIF_WIDTH, GIF_WIDTH * CLIP_WH[1] // CLIP_WH[0])
    drawn = (Image.fromarray(image).resize(size) for image in annotate_result(open_source(clip), result))
    first, *rest = [image.quantize(GIF_COLORS, dither=Image.Dither.NONE) for image in drawn]
    first.save(path, save_all=True, append_images=rest, duration=round(1000 / result.output_fps), loop=0, optimize=True)
    print(path, path.stat().st_size)


def make_views(clip: Path, facts: dict[str, Any], out: Path, browser: str) -> None:
    """Serve the app, use it as a visitor would, and keep what is seen."""
    from playwright.sync_api import sync_playwright

    from elysium.app.server import Server
    from elysium.app.worker import ModelSettings

    served = Server(ModelSettings(), port=0, samples={CLIP_NAME: clip}, stream=str(clip))
    with served as server, sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(180_000)
        page.goto(server.url)
        page.wait_for_selector("#upload")
        keep(page, out / "app-start.jpg")
        page.get_by_role("button", name=f"Sample: {CLIP_NAME}").click()
        page.wait_for_selector("#track", state="visible")
        drag(page, "#view canvas", SECOND_BOX)
        page.fill("#words textarea", facts["expression"])
        page.click("#track")
        page.wait_for_function("() => /of 62 frames/.test(document.querySelector('#status').innerText)")
        keep(page, out / "app-progress.jpg")
        page.wait_for_selector("#video video")
        time.sleep(3)  # the video has begun
        page.evaluate("() => window.scrollTo(0, 0)")
        keep(page, out / "app-result.jpg", whole=True)
        correct(page, out)
        live(page, facts["expression"], out)
        chromium.close()


def correct(page: Any, out: Path) -> None:
    """Open a frame by the timeline and keep the part of the page where it is corrected."""
    svg = page.locator("#timeline svg")
    svg.scroll_into_view_if_needed()
    place = svg.bounding_box()
    page.mouse.click(place["x"] + place["width"] * 0.7, place["y"] + place["height"] / 2)
    page.wait_for_function("() => /Frame 4[0-9]/.test(document.querySelector('#state').innerText)")
    time.sleep(1)
    shoot(page.locator("#results").screenshot(), out / "app-correct.jpg")


def live(page: Any, words: str, out: Path) -> None:
    """The live view, a few seconds after its start."""
    page.evaluate("() => window.scrollTo(0, 0)")
    page.get_by_role("tab", name="Live").click()
    page.fill("#live-words textarea", words)
    page.click("#live-start")
    page.wait_for_selector("#live img")
    page.wait_for_function("() => /[1-9]\\d frames/.test(document.querySelector('#live-status').innerText)")
    keep(page, out / "app-live.jpg")


def drag(page: Any, canvas: str, box: list[float]) -> None:
    """Draw a box, given in pixels of the clip, with the mouse."""
    target = page.locator(canvas).first
    target.scroll_into_view_if_needed()
    time.sleep(0.5)
    place = target.bounding_box()
    scale = min(place["width"] / CLIP_WH[0], place["height"] / CLIP_WH[1])
    left, top = (place[at] + (place[side] - scale * pixels) / 2
                 for at, side, pixels in (("x", "width", CLIP_WH[0]), ("y", "height", CLIP_WH[1])))  # fmt: skip
    page.mouse.move(left + scale * box[0], top + scale * box[1])
    page.mouse.down()
    page.mouse.move(left + scale * box[2], top + scale * box[3], steps=4)
    page.mouse.up()


def keep(page: Any, path: Path, *, whole: bool = False) -> None:
    """The window, or the whole page, as a picture."""
    shoot(page.screenshot(full_page=whole), path)


def shoot(png: bytes, path: Path) -> None:
    """A screenshot as a JPEG of at most MAX_BYTES."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for quality in QUALITIES:
        image.save(path, quality=quality, optimize=True)
        if path.stat().st_size <= MAX_BYTES:
            break
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
