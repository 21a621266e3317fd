"""The report: figures, pictures and words of the page, and that nothing in it comes from outside or runs."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from elysium.data.records import Record
from elysium.errors import InputError
from elysium.evaluation import gallery, report_tables
from elysium.evaluation.examples import example_cards, item_scores
from elysium.evaluation.gallery import ANSWER_COLOR, TRUTH_COLOR, picture, worst_frames, worst_row
from elysium.evaluation.raw import RawAnswer
from elysium.evaluation.report import RunView, write_report
from elysium.evaluation.results import Result
from elysium.evaluation.scoring import Truth, convention_for, score_tracking

NAN = float("nan")
SIZE = (64, 32)
GREY = 100
EVIL = "<script>alert(1)</script>"
IDS = ("a", EVIL, "c")
TRUE, HALF, FAR, NONE = [8.0, 8, 24, 24], [8.0, 8, 24, 16], [40.0, 8, 56, 24], [NAN] * 4


def one_record(number: int, id: str) -> Record:
    """Six frames with the same box; in the last of "c" the object is absent."""
    box = (8 / 64, 8 / 32, 24 / 64, 24 / 32)
    boxes = [None if id == "c" and row == 5 else box for row in range(6)]
    return Record(
        id=id, vid=id, frames=[f"{number}/{row}.png" for row in range(6)], box=boxes, absent=[b is None for b in boxes],
        frame_size=SIZE, object_description=f"the <i>{number}th</i> thing", metadata={"attributes": ["blur & rain"]},
    )  # fmt: skip


RECORDS = {id: one_record(number, id) for number, id in enumerate(IDS)}
BOXES = {
    "perfect": {id: [TRUE] * 6 for id in IDS},
    # AUC 20/21 of half the frames; of one in six; of one in five, and 10/21 of four in five
    "clumsy": {"a": [TRUE] * 3 + [FAR] * 3, EVIL: [TRUE] + [NONE] * 5, "c": [TRUE] + [HALF] * 5},
}
RUN = {
    "task": "SOT", "model": "m & m", "model_sha256": "0123abcd", "protocol": "whole <b>video</b>", "device": "cpu",
    "command": ["elysium", "evaluate", "my file.jsonl"], "versions": {"torch": "2.11", "numpy": "2.0"},
    "count_first": True, "seconds": 1.25, "my own": None,
}  # fmt: skip


def tracking_run(name: str, images: Path | None, run: dict | None = None) -> RunView:
    results = {
        id: Result(id, id, np.array(boxes), np.linspace(1, 0, 6), seconds=0.5, num_frames=6, notes=("note <1>",))
        for id, boxes in BOXES[name].items()
    }
    truths = {id: Truth.from_record(record) for id, record in RECORDS.items()}
    truths["gone"] = truths["a"]
    summary = score_tracking(results.values(), truths, convention_for("SOT"))
    failures = [{"id": "gone", "error": "The frame '<x>' is missing"}]
    return RunView(name, Path("runs") / name, RUN if run is None else run, RECORDS, results, failures, images, summary)


def language_run(images: Path | None = None, **figures: object) -> RunView:
    results = {id: Result(id, id, text=f"said of {id}") for id in IDS}
    return RunView("words", Path("words"), {"task": "Video-REG"}, RECORDS, results, [], images, language=figures)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The frames, plain grey."""
    folder = tmp_path_factory.mktemp("frames")
    for record in RECORDS.values():
        for frame in record.frames:
            (folder / frame).parent.mkdir(exist_ok=True)
            Image.new("RGB", SIZE, (GREY,) * 3).save(folder / frame)
    return folder


class Page(HTMLParser):
    """What a browser would see: tags in balance, text, pictures with their descriptions."""

    VOID = ("meta", "img", "br", "link", "input", "hr")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text: list[str] = []
        self.images: list[tuple[str, Image.Image]] = []
        self.links: list[str] = []
        self.feed(self.source)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.add(tag)
        self.links += [str(given[key]) for key in ("href", "src") if key in given]
        if tag == "img":
            kind, data = re.fullmatch(r"data:image/(png|jpeg);base64,(.+)", str(given["src"])).groups()
            image = Image.open(BytesIO(base64.b64decode(data, validate=True)))
            image.load()
            assert image.format == kind.upper()
            self.images.append((str(given["alt"]), image))
        elif tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "title"} & set(self.open):
            self.text += [data.strip()] if data.strip() else []

    def rows(self, first: str) -> list[list[str]]:
        """The cells of the rows that are named so."""
        found = re.findall(rf'<tr><th scope="row">{re.escape(first)}</th>(.*?)</tr>', self.source)
        return [re.findall(r"<td[^>]*>(?:<strong>)?(.*?)(?:</strong>)?</td>", row) for row in found]


@pytest.fixture(scope="module")
def written(images: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The report of two runs, the worse one first."""
    folder = tmp_path_factory.mktemp("report") / "new" / "folder"
    return write_report([tracking_run("clumsy", images), tracking_run("perfect", images)], folder)


@pytest.fixture(scope="module")
def page(written: list[Path]) -> Page:
    return Page(written[0])


def test_the_files_are_written(written: list[Path]):
    names = ["report.html", "success.png", "precision.png", "norm_precision.png", "sequences.png", "groups.png"]
    assert [path.name for path in written] == [*names, "reliability.png", "failures.png"]
    assert sorted(path.name for path in written[0].parent.iterdir()) == sorted(path.name for path in written)
    for path in written[1:]:
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert 900 < image.width < 1500
            assert 250 < image.height < 2000


def test_the_figures_of_the_head(page: Page):
    # AUC, SR0.5, SR0.75, precision, normalised; AO, SR0.5, SR0.75 without the first frames; speed and counts
    got10k = ["28.6", "14.3", "14.3"]  # of 14 frames (5 + 5 + 4) 2 right and 4 at 0.5: (2 + 4 / 2) / 14
    assert page.rows("clumsy")[0] == [
        "40.2", "28.9", "28.9", "55.6", "28.9", *got10k, "12.0", "3", "1", "1",
    ]  # fmt: skip
    assert page.rows("perfect")[0] == ["95.2", *["100.0"] * 7, "12.0", "3", "1", "1"]
    assert page.source.count("<strong>95.2</strong>") == 1 + 1 + 1 + 3  # head, two groups (size, blur), sequences
    assert "<strong>12.0" not in page.source  # alike


def test_the_tables_by_sequence_and_by_group(page: Page):
    names = re.findall(r'<tr><th scope="row">([^<]*)</th><td[^>]*>[\d.]+</td><td[^>]*><strong>95.2', page.source)
    assert names == ["&lt;script&gt;alert(1)&lt;/script&gt;", "a", "c"]  # the worst of the first run first
    assert page.rows("a")[0] == ["47.6", "95.2", "50.0", "50.0", "50.0", "50.0", "40.0", "6", "12.0", "note &lt;1&gt;"]
    assert page.rows("c")[0][:4] == ["57.1", "95.2", "20.0", "20.0"]
    assert page.rows("blur &amp; rain")[0] == ["3", "40.2", "95.2", "28.9", "28.9", "55.6", "28.9"]


def test_what_is_said_about_the_run(page: Page):
    text = " ".join(page.text)
    assert "Protocol whole <b>video</b>; convention plain-sot: frames without the object do not count" in text
    assert "the first frame counts, with the truth, which was given, for an answer" in text
    assert "elysium evaluate 'my file.jsonl'" in text
    assert "torch 2.11, numpy 2.0" in text
    assert "The frame '<x>' is missing" in text
    assert "1 without a result" in text


def test_nothing_comes_from_outside_or_runs(page: Page):
    for sign in ('src="http', 'href="http', "<script", "<link", "@import", "url(", "onerror="):
        assert sign not in page.source
    assert page.tags.isdisjoint({"script", "link", "iframe", "object", "embed", "i2", "b2"})
    assert all(link.startswith(("#", "data:image/")) for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(re.findall(r'id="(\w+)"', page.source))
    assert EVIL in page.text  # as words
    assert "prefers-color-scheme: dark" in page.source
    assert "@media print" in page.source


def test_the_pictures_of_the_page(page: Page):
    kinds = [image.format for _, image in page.images]
    assert kinds == ["PNG"] * 6 + ["JPEG"] * 2  # "c" never falls below one half
    assert [alt for alt, _ in page.images[6:]] == [EVIL, "a"]
    for _, image in page.images[6:]:
        assert image.size == (480, 240)
    said = " ".join(page.text)
    assert "frame 4 of 6 · no box · AUC 15.9 of the sequence" in said
    assert "frame 5 of 6 · IoU 0.00 · AUC 47.6 of the sequence" in said
    assert "the box of the first frame (the <i>0th</i> thing)" in said


def test_the_boxes_are_where_they_belong(page: Page):
    shown = np.array(dict(page.images)["a"]).astype(int)  # 7.5 times as large as the frame
    for (x, y), color in {
        (59, 120): TRUTH_COLOR, (120, 181): TRUTH_COLOR, (299, 64): ANSWER_COLOR, (299, 88): ANSWER_COLOR,
        (299, 76): (GREY,) * 3, (120, 120): (GREY,) * 3, (240, 120): (GREY,) * 3,
    }.items():  # fmt: skip
        assert np.abs(shown[y, x] - color).max() < 25, (x, y)
    without = np.array(dict(page.images)[EVIL]).astype(int)
    assert np.abs(without[120, 59] - TRUTH_COLOR).max() < 25
    assert np.abs(without[:, 250:] - GREY).max() < 10


@pytest.mark.parametrize(
    ("overlaps", "row"),
    [
        ([0.9, 0.0, 0.8, 0.05, 0.0, 0.09, 0.7], 4),  # the longer of two stretches, its middle
        ([0.0, 0.0, 0.9, 0.0, 0.0], 0),  # the first of equals; of two frames the first
        ([0.9, 0.0, NAN, 0.0, 0.0, 0.2], 3),  # a frame that does not count ends a stretch
        ([0.9, 0.1, 0.6], 1),  # 0.1 is not below 0.1
        ([0.9, 0.3, 0.6, 0.3], 1),
        ([NAN, NAN], None),
        ([], None),
        ([0.0] * 6, 2),
        ([0.9, 0.9, 0.0], 2),
    ],
)
def test_which_frame_is_the_worst(overlaps, row):
    assert worst_row(overlaps) == row


def test_which_sequences_are_shown():
    view = tracking_run("clumsy", None)
    assert [(f.id, f.row) for f in worst_frames(view.summary, RECORDS, view.results, 9)] == [(EVIL, 3), ("a", 4)]
    assert [f.id for f in worst_frames(view.summary, RECORDS, view.results, 1)] == [EVIL]
    assert worst_frames(view.summary, RECORDS, view.results, 0) == []
    assert worst_frames(view.summary, {}, view.results, 9) == []
    good = tracking_run("perfect", None)
    assert worst_frames(good.summary, RECORDS, good.results, 9) == []


def test_a_picture_of_a_frame_of_another_size(tmp_path: Path):
    Image.new("RGB", (1200, 900), "white").save(tmp_path / "large.jpg")
    shown = np.array(picture(tmp_path / "large.jpg", np.array([0.0, 0, 32, 32]), np.array([50.0, 20, 60, 99]), SIZE))
    assert shown.shape == (360, 480, 3)
    assert tuple(shown[180, 240]) == TRUTH_COLOR  # the right edge, in the middle of the picture
    assert tuple(shown[357, 0]) == TRUTH_COLOR  # at the border of the frame it is inside
    assert tuple(shown[358, 378]) == ANSWER_COLOR  # clipped to the frame
    Image.new("RGB", (30, 900), "white").save(tmp_path / "high.png")
    assert picture(tmp_path / "high.png", np.array(NONE), np.array(NONE), None).size == (21, 640)


def test_boxes_that_coincide_both_show():
    image = Image.new("RGB", (200, 200), "white")
    draw = gallery.ImageDraw.Draw(image)
    for color, dashed in ((TRUTH_COLOR, False), (ANSWER_COLOR, True)):
        gallery.draw_box(draw, (20, 20, 180, 180), color, 3, dashed=dashed)
    edge = {tuple(color) for color in np.array(image)[21, 20:181]}
    assert {TRUTH_COLOR, ANSWER_COLOR} <= edge


@pytest.mark.parametrize("folder", ["broken", "nowhere", None])
def test_frames_that_are_missing_or_broken_leave_the_report_whole(
    folder: str | None, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    given = None if folder is None else tmp_path / folder
    (tmp_path / "broken" / "0").mkdir(parents=True)
    (tmp_path / "broken" / "0" / "4.png").write_bytes(b"no picture")
    (tmp_path / "broken" / "1").mkdir()
    (tmp_path / "broken" / "1" / "3.png").write_bytes((images / "1" / "3.png").read_bytes())
    (tmp_path / "failures.png").write_bytes(b"of an earlier report")
    monkeypatch.setattr("elysium.evaluation.report.draw_plots", lambda runs: {})
    files = write_report([tracking_run("clumsy", given, run={})], tmp_path)
    page = Page(files[0])
    assert [alt for alt, _ in page.images] == ([EVIL] if folder == "broken" else [])  # that of "a" is left out
    assert (tmp_path / "failures.png").exists() == (folder == "broken")
    assert page.rows("a")[0][0] == "47.6"
    assert ("No picture:" in page.source) == (folder == "nowhere")


def test_without_anything_scored_there_are_dashes(images: Path, tmp_path: Path):
    truth = Truth("a", np.full((6, 4), NAN), SIZE)
    timeless = Result("a", boxes_xyxy=np.array([TRUE] * 6))
    empty = score_tracking([timeless], {"a": truth}, convention_for("RSOT"))
    view = RunView("empty", Path("empty"), {}, RECORDS, {"a": timeless}, [], images, empty)
    page = Page(write_report([view], tmp_path)[0])
    assert page.rows("empty")[0] == ["–"] * 9 + ["1", "0", "0"]
    assert "nan" not in " ".join(page.text).lower()


def test_a_report_needs_a_run(tmp_path: Path):
    with pytest.raises(InputError, match="no run"):
        write_report([], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_words(images: Path, tmp_path: Path):
    items = {"a": 0.5, EVIL: {"exact_match": 0.25, "cider": 100.0}, "c": NAN}
    view = language_run(images, METEOR=23.456, CIDEr={"score": 0.876, "per_item": items}, items=3, exact=NAN, no=None)
    files = write_report([view], tmp_path, gallery=2)
    assert [path.name for path in files] == ["report.html"]
    page = Page(files[0])
    rows = {"METEOR": "23.5", "CIDEr / score": "0.88", "items": "3", "exact": "–", "no": "–"}
    assert {name: page.rows(name)[0][0] for name in rows} == rows
    assert [alt for alt, _ in page.images] == [EVIL, "a"]  # the worst first; "c" has no score
    text = " ".join(page.text)
    assert f"right: the <i>1th</i> thing answer: said of {EVIL} exact match: 0.25 cider: 100.00" in text
    pixel = np.array(page.images[0][1]).astype(int)[120, 59]
    assert np.abs(pixel - TRUTH_COLOR).max() < 25  # of which a description was asked
    assert "Success" not in page.source


def test_scores_of_items_in_every_form():
    assert item_scores({}) == {}
    mixed = {"a": True, "b": None, "c": {"n": "x", "f": 0.5, "g": 2, "h": NAN}}
    assert item_scores({"per_item": mixed}) == {"a": {"score": 1.0}, "c": {"f": 0.5, "g": 2.0}}
    assert item_scores({"x": 1.0, "inner": {"per_item": [{"id": 7, "f": 3}, {"id": "b"}]}}) == {"7": {"f": 3.0}}


def test_examples_without_scores_are_the_first():
    view = language_run()
    cards, what = example_cards(view.records, view.results, {}, {}, None, 2)
    assert [card.title for card in cards] == ["a", EVIL]
    assert what == "The first answers"
    assert cards[0].image is None


def test_examples_of_a_chat_and_of_single_boxes():
    turns = [
        {"from": "human", "value": "<image>\nWho?"}, {"from": "gpt", "value": "A dog."},
        {"from": "human", "value": "Where?"}, {"from": "gpt", "value": "Here."},
    ]  # fmt: skip
    records = {"7": Record(id=7, frames=["f.png"], vqa=turns)} | RECORDS
    asked = RawAnswer("v", "a", "Frame 1: <image>\nFind the thing.", "", "[1,2,3,4]", "..")
    results = {
        "7|1": Result("7|1", text="There."),
        "a": Result("a", boxes_xyxy=np.array([HALF]), answers=(asked,)),
        "x": Result("x", boxes_xyxy=np.array([NONE])),
    }
    chat, box, unknown = example_cards(records, results, {}, {}, None, 9)[0]
    assert dict(chat.lines) == {"asked:": "Where?", "right:": "Here.", "answer:": "There."}
    right, answer = "[8, 8, 24, 24]", "[8, 8, 24, 16], IoU 0.50"
    assert dict(box.lines) == {"asked:": "Find the thing.", "right:": right, "answer:": answer}
    assert dict(unknown.lines) == {"asked:": "–", "answer:": "no box"}


def test_long_tables_are_folded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    view = tracking_run("clumsy", None)
    failures = [{"id": f"id {i}", "error": "gone"} for i in range(41)]
    monkeypatch.setattr("elysium.evaluation.report.draw_plots", lambda runs: {})
    text = write_report([RunView("x", Path("x"), {}, {}, {}, failures, None, view.summary)], tmp_path)[0].read_text()
    assert "<details><summary>41 records failed</summary>" in text
    assert "sequences, the worst first" not in text  # three are not many


def test_half_a_surrogate_pair_does_not_stop_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("elysium.evaluation.report.draw_plots", lambda runs: {})
    results = {"a": Result("a", text="\udfff")}
    view = RunView("\ud800 run", Path("x"), {"task": "REG"}, {}, results, [], None, language={})
    assert "? run" in write_report([view], tmp_path)[0].read_text(encoding="utf-8")


def test_conventions_in_words():
    some, others = ([SimpleNamespace(id=id) for id in ids] for ids in ("abc", "abd"))
    summary = SimpleNamespace(convention="lasot", count_first=False, sequences=some)
    assert report_tables.explanations([("x", {}, summary)])[1] == (
        "Convention lasot: frames without the object count as missed; a missing or broken box is replaced by the one "
        "before it; the first frame does not count."
    )
    runs = [("x", {}, summary), ("y", {}, SimpleNamespace(convention="our own", count_first=True, sequences=others))]
    _, warning, first, second = report_tables.explanations(runs)
    assert "only 2 in common" in warning
    assert first.startswith("x: convention lasot")
    assert second == "y: convention our own: the first frame counts as it was answered."
