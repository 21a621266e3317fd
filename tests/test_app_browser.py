"""The web app from end to end, in a headless Chromium: one server for all tests, each test a visitor of its own."""

from __future__ import annotations

import json
import os
import signal
import time
import zipfile
from importlib.util import find_spec

import numpy as np
import pytest

from app_kit import CLIP, PATIENCE_MS, Visit, browser_path, served
from elysium.video import VideoWriter, open_source

for _package in ("gradio", "gradio_image_annotation", "playwright"):
    if find_spec(_package) is None:
        pytest.skip(f"{_package} is not installed", allow_module_level=True)
if browser_path() is None:
    pytest.skip("no Chromium on this machine (set ELYSIUM_CHROMIUM to one)", allow_module_level=True)

from playwright.sync_api import Browser, sync_playwright  # noqa: E402 - after it is known to be there

SIZE = (576, 432)
WALKER = (317.0, 259.0, 371.0, 410.0)  # of the bundled clip's demo.json
WORDS = "the person at the bottom"


SHORT, LONG = 24, 310  # frames of the samples; nobody waits for the end of the long one
MANY_WORDS = f"{WORDS}\nthe man in white\na woman\nthe man on the left"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("app")
    (folder / "samples").mkdir()
    with VideoWriter(folder / "samples" / "street.mp4", 10, SIZE) as writer:
        for frame in open_source(CLIP, max_frames=SHORT):
            writer.write(frame.image)
    with VideoWriter(folder / "samples" / "long.mp4", 10, SIZE) as writer:
        for _ in range(LONG // 62):
            for frame in open_source(CLIP):
                writer.write(frame.image)
    with served(folder, "--stream", str(CLIP), "--samples", "samples") as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-dev-shm-usage"]  # as root, and in a container
        chromium = playwright.chromium.launch(executable_path=browser_path(), args=options)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(server, browser: Browser):
    """A tab, all requests of which go to the server."""
    context = browser.new_context(viewport={"width": 1320, "height": 950}, accept_downloads=True)
    page, strangers = context.new_page(), []
    page.on("request", lambda request: strangers.append(request.url) if _strange(request.url, server.url) else None)
    yield Visit(page, server.url)
    context.close()
    assert strangers == [], "the page asked somebody else for something"


def _strange(url: str, own: str) -> bool:
    return not url.startswith((own.rstrip("/"), "data:", "blob:"))


@pytest.mark.slow
def test_upload_a_box_correct_it_and_save(visit):
    visit.upload(CLIP)
    visit.wait_for_clip("pedestrians.mp4 · 576 × 432 pixels · 62 frames · 6.2 s")
    visit.draw(WALKER, SIZE)
    visit.track()
    assert "of 62 frames" in visit.wait_for_status(r"Tracking: \d+ of 62 frames · [\d.]+ frames/s")
    assert "object 1:" in visit.wait_for_result()
    result = visit.tracks()
    (track,) = result["tracks"]
    assert result["num_frames"] == 62 and result["fps"] == 10 and result["resolution_wh"] == [576, 432]
    assert track["initial_box"] == pytest.approx(WALKER, abs=2.5)
    assert [frame["index"] for frame in track["frames"]] == list(range(62))
    _plays(visit.page)
    _opens_frames(visit.page)
    _corrects(visit, track)


def _plays(page) -> None:
    page.evaluate("() => document.querySelector('#video video').play()")
    page.wait_for_function("() => document.querySelector('#video video').currentTime > 0.5")
    video = page.evaluate(
        "() => { const v = document.querySelector('#video video');"
        " return {ready: v.readyState, error: v.error, length: v.duration, width: v.videoWidth}; }"
    )
    assert video["ready"] >= 2 and video["error"] is None
    assert video["length"] == pytest.approx(6.2, abs=0.15) and video["width"] == 576


def _opens_frames(page) -> None:
    """A click on the timeline brings that frame up; so does Enter on a point."""
    svg = page.locator("#timeline svg")
    svg.scroll_into_view_if_needed()
    place = svg.bounding_box()
    page.mouse.click(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    page.wait_for_function("() => /Frame (30|31|32) of 62/.test(document.querySelector('#state').innerText)")
    point = page.locator("#timeline .point").first
    point.focus()
    page.keyboard.press("Enter")
    page.wait_for_function(
        "() => /Frame 0 of 62 .* tracked, score 1.00/.test(document.querySelector('#state').innerText)"
    )


def _corrects(visit: Visit, before: dict) -> None:
    """Gone from frame 40 on; then it is back where a box is drawn in frame 50; then that is taken back."""
    page = visit.page
    _goes_to(page, 40)
    page.click("#absent-on")
    page.wait_for_function("() => /absent, score 1.00 \\(by hand\\)/.test(document.querySelector('#state').innerText)")
    states = [frame["state"] for frame in visit.tracks()["tracks"][0]["frames"]]
    assert states[40:] == ["absent"] * 22 and states[:40] == [frame["state"] for frame in before["frames"][:40]]
    _goes_to(page, 50)
    visit.draw((200, 100, 260, 250), SIZE, view="loupe")
    page.click("#redraw")
    page.wait_for_function(
        "() => /Frame 50 .*tracked, score 1.00 \\(by hand\\)/.test(document.querySelector('#state').innerText)"
    )
    frames = visit.tracks()["tracks"][0]["frames"]
    assert [frame["state"] for frame in frames[40:50]] == ["absent"] * 10
    assert frames[50]["box_xyxy"] == pytest.approx([200, 100, 260, 250], abs=2.5)
    page.click("#save")
    page.wait_for_selector("#files a[href$='.zip'], #files a[download$='.zip']")
    with zipfile.ZipFile(visit.download(".zip")) as archive:
        (record,) = (json.loads(line) for line in archive.read("records.jsonl").decode().splitlines())
        assert record["metadata"]["by_hand"] == [40, 50] and record["absent"][40]
        assert f"images/{record['frames'][0]}" in archive.namelist()
    page.click("#undo")
    page.wait_for_function("() => !/frame 50/.test(document.querySelector('#status').innerText)")
    assert [frame["state"] for frame in visit.tracks()["tracks"][0]["frames"]] == states


def _goes_to(page, frame: int) -> None:
    number = page.locator("#place input[type=number]")
    number.fill(str(frame))
    number.press("Enter")
    page.wait_for_function(
        "(frame) => document.querySelector('#state').innerText.startsWith(`Frame ${frame} of`)", arg=frame
    )


def test_three_actions_from_a_sample_to_an_annotated_video(visit):
    visit.sample("street")
    visit.say(WORDS)
    visit.track()
    assert WORDS in visit.wait_for_result()
    (track,) = visit.tracks()["tracks"]
    boxes = np.array([frame["box_xyxy"] for frame in track["frames"] if frame["box_xyxy"]])
    assert track["expression"] == WORDS and len(boxes) > 12
    assert boxes.min() >= 0 and boxes[:, 2].max() <= 576 and boxes[:, 3].max() <= 432


def test_stop_keeps_what_was_done(visit):
    visit.sample("long")
    visit.say(MANY_WORDS)
    visit.track()
    visit.wait_for_status(rf"Tracking: \d\d+ of {LONG} frames")  # a clip is done
    visit.page.click("#stop")
    assert "Stopped" in visit.wait_for_result()
    frames = visit.tracks()["num_frames"]
    assert 0 < frames < LONG
    assert visit.page.is_enabled("#track")


BAD_UPLOADS = {
    "note.mp4": (b"this is no video", "'note.mp4' is not a video or image"),
    "list.mp4": (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", "'list.mp4' is not a video or image"),
    "cut.mp4": (CLIP.read_bytes()[:5000], "'cut.mp4' is not a video"),
    "empty.mp4": (b"", "'empty.mp4' is empty"),
}


def test_bad_uploads_are_told_and_the_page_goes_on(visit, tmp_path):
    for name, (content, told) in BAD_UPLOADS.items():
        (tmp_path / name).write_bytes(content)
        visit.upload(tmp_path / name)
        visit.page.wait_for_function("(told) => document.querySelector('#facts').innerText.includes(told)", arg=told)
    visit.sample("street")


@pytest.mark.slow
def test_two_visitors_at_once_see_their_own(server, browser):
    contexts = [browser.new_context() for _ in range(2)]
    first, second = (Visit(context.new_page(), server.url) for context in contexts)
    first.sample("long")
    second.sample("street")
    first.say("the man")
    second.say("the woman")
    first.track()
    first.wait_for_status(r"Tracking: \d\d+ of")
    second.track()
    second.wait_for_status("Waiting for the model: 1 job is before yours")
    first.page.click("#stop")
    first.wait_for_result()
    second.wait_for_result()
    assert [visit.tracks()["tracks"][0]["expression"] for visit in (first, second)] == ["the man", "the woman"]
    assert len(set(server.visits())) >= 2
    for context in contexts:
        context.close()


def test_a_closed_tab_ends_its_job_and_leaves_nothing(server, browser):
    before = set(server.visits())
    context = browser.new_context()
    visit = Visit(context.new_page(), server.url)
    visit.sample("long")
    visit.say(MANY_WORDS)
    visit.track()
    visit.wait_for_status(rf"Tracking: \d+ of {LONG} frames")
    (own,) = set(server.visits()) - before
    assert own.stat().st_mode & 0o777 == 0o700
    context.close()
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while own.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not own.exists()


@pytest.mark.slow
def test_a_killed_model_is_told_and_started_again(visit, server):
    visit.sample("long")
    visit.say(MANY_WORDS)
    visit.track()
    visit.wait_for_status(rf"Tracking: \d+ of {LONG} frames")
    os.kill(server.model_pid(), signal.SIGKILL)
    visit.wait_for_status("ended before the job was done")
    visit.sample("street")
    visit.say(WORDS)
    visit.track()
    visit.wait_for_result()


def test_describe_and_ask(visit):
    page = visit.page
    visit.sample("street")
    visit.draw(WALKER, SIZE)
    page.get_by_role("button", name="Describe and ask").click()
    page.click("#describe")
    page.wait_for_function("() => /person|man|woman/.test(document.querySelector('#answers').innerText)")
    page.fill("#question textarea, #question input", "How many people are there?")
    page.click("#ask")
    page.wait_for_function("() => /^\\d+$/.test(document.querySelector('#answers').innerText.trim())")


def test_the_live_view_shows_the_operators_stream(visit):
    page = visit.page
    page.get_by_role("tab", name="Live").click()
    page.fill("#live-words textarea", WORDS)
    page.click("#live-start")
    page.wait_for_selector("#live img")
    first = page.get_attribute("#live img", "src")
    page.wait_for_function("(first) => document.querySelector('#live img').src !== first", arg=first)
    assert first.startswith("data:image/jpeg;base64,/9j/")
    page.click("#live-stop")
    page.wait_for_function("() => /ended after \\d+ frames/.test(document.querySelector('#live-status').innerText)")


def test_the_interface_for_programs(server, tmp_path):
    from gradio_client import Client, handle_file

    client = Client(server.url, verbose=False, download_files=tmp_path)
    video = [handle_file(str(CLIP))]
    answer, files = client.predict(video, [list(WALKER)], [], 30, 2, api_name="/track")
    assert [frame["index"] for frame in answer["tracks"][0]["frames"]] == list(range(30, 62, 2))
    assert answer["tracks"][0]["initial_box"] == list(WALKER)
    assert sorted(name.rsplit(".", 1)[1] for name in files) == ["csv", "json", "mp4", "txt"]
    assert json.loads(next(open(name).read() for name in files if name.endswith(".json"))) == answer  # noqa: SIM115
    (found,) = client.predict(video, ["the person at the bottom"], 0, api_name="/ground")
    assert len(found["box_xyxy"]) == 4 and 0 < found["score"] <= 1
    assert isinstance(client.predict(video, [list(WALKER)], 0, api_name="/describe")[0], str)
    with pytest.raises(Exception, match="nothing to follow"):
        client.predict(video, [], [], 0, 1, api_name="/track")
    with pytest.raises(Exception, match="7 is no box"):
        client.predict(video, [7], 0, api_name="/describe")
    with pytest.raises(Exception, match="The expression 7 is no text"):
        client.predict(video, [7], 0, api_name="/ground")


def test_calls_of_programs_leave_nothing_but_their_files(server):
    import httpx

    def call(name: str, *data: object) -> str:
        event = httpx.post(f"{server.url}gradio_api/call/{name}", json={"data": data}).json()["event_id"]
        return httpx.get(f"{server.url}gradio_api/call/{name}/{event}", timeout=PATIENCE_MS / 1000).text

    before = set(server.visits())
    sent = {"files": ("a.mp4", CLIP.read_bytes())}
    (path,) = httpx.post(f"{server.url}gradio_api/upload", files=sent, timeout=60).json()
    video = [{"path": path, "meta": {"_type": "gradio.FileData"}}]
    assert "event: complete" in call("ask", video, "How many people are there?")
    assert "is no box" in call("track", video, [[1]], [], 0, 1)
    assert set(server.visits()) <= before
    assert "event: complete" in call("track", video, [WALKER], [], 58, 1)
    (own,) = set(server.visits()) - before
    assert {file.suffix for file in own.glob("result-*/*")} == {".mp4", ".json", ".csv", ".txt"}
    assert httpx.post(f"{server.url}gradio_api/process_recording", files=sent).status_code == 404


def test_nothing_of_this_looked_like_a_bug_to_the_server(server):
    """After all tests above, among them broken uploads, closed tabs and a killed process."""
    assert "Traceback" not in server.log()


def test_no_file_of_the_server_and_no_address_is_taken_for_an_upload(server):
    import httpx

    for path in ("/etc/passwd", str(CLIP), "http://127.0.0.1:9/clip.mp4"):
        ask = {"data": [[{"path": path, "meta": {"_type": "gradio.FileData"}}], "How many people are there?"]}
        event = httpx.post(f"{server.url}gradio_api/call/ask", json=ask).json()["event_id"]
        assert "event: error" in httpx.get(f"{server.url}gradio_api/call/ask/{event}", timeout=60).text
    assert httpx.get(f"{server.url}gradio_api/file=/etc/passwd").status_code == 403
    assert httpx.get(f"{server.url}gradio_api/file=http://127.0.0.1:9/x").status_code == 403
