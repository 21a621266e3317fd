"""The text of boxes: exact formats, and a reader that takes any text without raising."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from elysium.errors import InputError
from elysium.language.dialects import COGVLM, ELYSIUM, MINIGPT_V2, SHIKRA, dialect_names, get_dialect

NAN = [np.nan] * 4
A, B = [34, 40, 51, 67], [35, 48, 60, 55]


@pytest.mark.parametrize(
    ("dialect", "box", "text"),
    [
        (ELYSIUM, A, "[34,40,51,67]"),
        (ELYSIUM, [0, 5, 100, 7], "[0,5,100,7]"),
        (ELYSIUM, np.array([1, 2, 3, 4]), "[1,2,3,4]"),
        (ELYSIUM, [-1, 2, 102, 4], "[-1,2,102,4]"),  # clamping is the quantiser's business
        (SHIKRA, [340, 400, 510, 1000], "[0.340,0.400,0.510,1.000]"),
        (COGVLM, [34, 400, 510, 670], "[[034,400,510,670]]"),
        (MINIGPT_V2, A, "{<34><40><51><67>}"),
    ],
)
def test_format_box(dialect, box, text):
    assert dialect.format_box(box) == text


@pytest.mark.parametrize("box", [[1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 3, 4.5], []])
def test_format_box_wants_four_integers(box):
    with pytest.raises(InputError, match="four integers"):
        ELYSIUM.format_box(box)


def test_format_boxes():
    assert ELYSIUM.format_boxes([A, B]) == "Frame 1: [34,40,51,67], Frame 2: [35,48,60,55]"
    assert ELYSIUM.format_boxes([A, None], full_stop=True) == "Frame 1: [34,40,51,67], Frame 2: [0,0,0,0]."


@pytest.mark.parametrize(
    ("text", "frames", "boxes", "statuses"),
    [
        ("Frame 1: [34,40,51,67], Frame 2: [35,48,60,55].", 2, [A, B], "ok ok"),
        ("Frame 1: [34,40,51,67], Frame 2: [35,48,60,55]", 2, [A, B], "ok ok"),
        ("[34,40,51,67]", 1, [A], "ok"),
        (" [ 34, 40 ,51,67 ]", 1, [A], "ok"),
        ("[34,40,51,67], [35,48,60,55]", 3, [A, B, NAN], "ok ok missing"),
        ("Frame 2: [34,40,51,67]", 2, [NAN, A], "missing ok"),
        ("Frame 2: [34,40,51,67], Frame 1: [35,48,60,55]", 2, [B, A], "ok ok"),
        ("Frame 1: [34,40,51,67], Frame 1: [35,48,60,55]", 1, [A], "ok"),
        ("Frame 1: [0,0,0,0], Frame 2: [35,48,60,55]", 2, [NAN, B], "absent ok"),
        ("Frame 1: [34,40,51], Frame 2: [35,48,60,55]", 2, [NAN, B], "malformed ok"),
        ("Frame 1: [34,40,51,67,9]", 1, [NAN], "malformed"),
        ("Frame 1: [34,40,51,67], Frame 2: [35,48,60,5", 2, [A, NAN], "ok malformed"),
        ("Frame 1: [34,40,51,67], Frame 2", 2, [A, NAN], "ok missing"),
        ("Frame 1: [34,40,51,67], Frame 2:", 2, [A, NAN], "ok malformed"),
        ("Frame 1: [34,40 Frame 2: [35,48,60,55]", 2, [NAN, B], "malformed ok"),
        ("[34,40, [35,48,60,55]", 2, [NAN, B], "malformed ok"),
        ("[[34,40,51,67]]", 1, [A], "ok"),
        ("frame 1 : [34,40,51,67]", 1, [A], "ok"),
        ("Frame 1: nowhere", 1, [NAN], "malformed"),
        ("Frame 1: [51,40,34,67]", 1, [NAN], "malformed"),  # inverted
        ("Frame 1: [34,40,51,101]", 1, [NAN], "malformed"),  # out of range
        ("Frame 1: [-1,40,51,67]", 1, [NAN], "malformed"),
        ("Frame 1: [0.34,0.40,0.51,0.67]", 1, [NAN], "malformed"),
        ("Frame 1: [34,,51,67]", 1, [NAN], "malformed"),
        ("Frame 1: [³,４,51,67]", 1, [NAN], "malformed"),  # only ASCII digits are numbers
        ("Frame 1: [" + "9" * 5000 + ",1,2,3]", 1, [NAN], "malformed"),
        ("Frame " + "9" * 5000 + ": [1,2,3,4]", 1, [[1, 2, 3, 4]], "ok"),  # no readable label: boxes in order
        ("Frame 0: [34,40,51,67]", 1, [NAN], "missing"),
        ("a white boat on the lake.", 2, [NAN, NAN], "missing missing"),
        ("", 1, [NAN], "missing"),
        ("[34,40,51,67]", 0, np.zeros((0, 4)), ""),
        ("[34,40,51,67]", -3, np.zeros((0, 4)), ""),
    ],
)
def test_parse(text, frames, boxes, statuses):
    answer = ELYSIUM.parse(text, frames)
    assert answer.boxes.dtype == np.float64 and answer.boxes.shape == (max(frames, 0), 4)
    np.testing.assert_array_equal(answer.boxes, boxes)
    assert answer.statuses == statuses.split()


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("[34,40,34,67]", [34, 40, 35, 67]),
        ("[34,40,51,40]", [34, 40, 51, 41]),
        ("[100,40,100,67]", [99, 40, 100, 67]),
        ("[0,0,0,1]", [0, 0, 1, 1]),
        ("[100,100,100,100]", [99, 99, 100, 100]),
    ],
)
def test_flat_boxes_are_one_bin_wide(text, box):
    assert ELYSIUM.parse(text).boxes.tolist() == [box]


def test_surplus_is_counted():
    assert ELYSIUM.parse("[1,2,3,4], [1,2,3,4], [5,6,7,8]", 1).surplus == 2
    assert ELYSIUM.parse("[9,9,9,9] Frame 1: [1,2,3,4] [5,6,7,8], Frame 2: [1,2,3,4]", 1).surplus == 3


@pytest.mark.parametrize("name", dialect_names())
def test_round_trip(name):
    dialect, rng = get_dialect(name), random.Random(0)
    for _ in range(50):
        boxes = []
        for _ in range(rng.randint(1, 9)):
            (x1, x2), (y1, y2) = (sorted(rng.sample(range(dialect.max_bin + 1), 2)) for _ in range(2))
            boxes.append([x1, y1, x2, y2])
        answer = dialect.parse(dialect.format_boxes(boxes, full_stop=True), len(boxes))
        assert answer.boxes.tolist() == boxes and set(answer.statuses) == {"ok"}


@pytest.mark.parametrize("name", dialect_names())
def test_parse_takes_anything(name):
    dialect, rng = get_dialect(name), random.Random(1)
    letters = [
        "Frame ",
        "1",
        "2",
        ":",
        "[",
        "]",
        "[[",
        "{<",
        "><",
        ">}",
        ",",
        ".",
        "0",
        "34",
        "100",
        " ",
        "\n",
        "\0",
        "é",
    ]
    for _ in range(1000):
        text = "".join(rng.choices(letters, k=rng.randint(0, 30)))
        answer = dialect.parse(text, 3)
        ok = np.array([status == "ok" for status in answer.statuses])
        assert (np.isnan(answer.boxes).all(1) == ~ok).all()
        x1, y1, x2, y2 = answer.boxes[ok].T
        assert (x1 >= 0).all() and (x1 < x2).all() and (y1 < y2).all() and (x2 <= dialect.max_bin).all()


def test_long_hostile_text_is_quick():
    for text in ("[" * 200_000, "[1," * 60_000, "Frame 1: " * 20_000, "{<" * 90_000):
        assert set(ELYSIUM.parse(text, 2).statuses) <= {"missing", "malformed"}


def test_unknown_dialect():
    with pytest.raises(InputError, match="qwerty"):
        get_dialect("qwerty")


def test_published_parser_agrees_where_it_reads_well_formed_answers(shared_dir):
    vectors = json.loads((shared_dir / "compat" / "expected.json").read_text())["parse_eval"]
    compared = 0
    for text, boxes in vectors:
        answer = ELYSIUM.parse(text, max(1, len(boxes)))
        if boxes and set(answer.statuses) == {"ok"}:  # the published one empties an answer for one bad item
            np.testing.assert_allclose(answer.boxes / 100, boxes)
            compared += 1
    assert compared >= 2
