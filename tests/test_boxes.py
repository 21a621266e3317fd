"""Boxes: every figure here was worked out by hand."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from elysium.boxes import (
    Affine2d,
    clip_to_frame,
    denormalize,
    format_numbers,
    iou,
    iou_matrix,
    normalize,
    quantize,
    to_xyxy,
)
from elysium.errors import ElysiumError, InputError, OutputError, SourceError
from elysium.files import atomic_path, atomic_write_text, ensure_folder

NAN = float("nan")


@pytest.mark.parametrize(
    ("box", "box_format", "expected"),
    [
        ([10, 20, 110, 70], "xyxy", [10, 20, 110, 70]),
        ([10, 20, 100, 50], "xywh", [10, 20, 110, 70]),
        ([0.05, 0.2, 0.55, 0.7], "xyxyn", [10, 20, 110, 70]),
        ([5, 20, 55, 70], "percent", [10, 20, 110, 70]),
    ],
)
def test_each_format_gives_the_same_pixels(box, box_format, expected):
    boxes, notes = to_xyxy(box, box_format, (200, 100))
    np.testing.assert_allclose(boxes, [expected])
    assert boxes.shape == (1, 4)
    assert notes == (None,)


def test_a_box_partly_outside_is_clipped_with_a_note():
    boxes, notes = to_xyxy([[-10, 20, 50, 60], [0, 0, 200, 100], [150, 50, 260.5, 120]], "xyxy", (200, 100))
    np.testing.assert_array_equal(boxes, [[0, 20, 50, 60], [0, 0, 200, 100], [150, 50, 200, 100]])
    assert notes[0] is not None
    assert notes[0].startswith("Box [-10, 20, 50, 60] sticks out of the frame of 200x100 pixels")
    assert notes[0].endswith("clipped to [0, 20, 50, 60]")
    assert notes[1] is None
    assert "[150, 50, 260.5, 120]" in notes[2]


@pytest.mark.parametrize(
    ("box", "box_format", "words"),
    [
        ([1, 2, 3], "xyxy", "4 numbers"),
        ([1, 2, 3, 4, 5], "xyxy", "4 numbers"),
        ("hello", "xyxy", "4 numbers"),
        ([[1, 2, 3, 4], [1, 2]], "xyxy", "4 numbers"),
        ([1, NAN, 3, 4], "xyxy", "not finite"),
        ([1, 2, float("inf"), 4], "xyxy", "not finite"),
        ([10, 10, 10, 20], "xyxy", "no width or no height"),
        ([10, 10, 0, 20], "xywh", "no width or no height"),
        ([50, 10, 20, 20], "xyxy", "wrong way round"),
        ([50, 10, -20, 20], "xywh", "negative width"),
        ([300, 10, 320, 20], "xyxy", "wholly outside"),
        ([-30, 10, 0, 20], "xyxy", "wholly outside"),
        ([10, 100, 20, 120], "xyxy", "wholly outside"),
        ([10, 20, 110, 70], "xyxyn", "wholly outside"),
        ([1, 2, 3, 4], "cxcywh", "box format"),
    ],
)
def test_a_useless_box_is_refused_with_a_remedy(box, box_format, words):
    with pytest.raises(InputError, match=words) as caught:
        to_xyxy(box, box_format, (200, 100))
    assert caught.value.remedy
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_the_error_names_the_value():
    with pytest.raises(InputError, match=r"\[50, 10, 20, 20\]"):
        to_xyxy([50, 10, 20, 20], "xyxy", (200, 100))


def test_no_boxes_are_no_error():
    assert to_xyxy([], "xyxy", (200, 100)).boxes.shape == (0, 4)


def test_quantize_rounds_halves_to_even_like_python():
    values = [[0.005, 0.015, 0.025, 0.345], [0.125, 0.999, 1.2, -0.1]]
    by_python = [[round(100 * v) for v in row] for row in values]
    np.testing.assert_array_equal(quantize(values, clamp=False), by_python)
    np.testing.assert_array_equal(quantize(values)[1], [12, 100, 100, 0])
    grid = np.linspace(0, 1, 4001).reshape(-1, 1).repeat(4, axis=1)
    np.testing.assert_array_equal(quantize(grid)[:, 0], [round(100 * float(v)) for v in grid[:, 0]])


def test_a_missing_box_quantizes_to_zeros():
    result = quantize([[NAN] * 4, [0.1, 0.2, 0.3, NAN], [0.1, 0.2, 0.3, 0.4]])
    np.testing.assert_array_equal(result, [[0] * 4, [0] * 4, [10, 20, 30, 40]])
    assert result.dtype == np.int64


def test_iou_by_hand():
    a = [[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [NAN] * 4, [5, 5, 5, 5], [0, 0, 10, 10]]
    b = [[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [0, 0, 1, 1], [5, 5, 5, 5], [2, 2, 4, 7]]
    np.testing.assert_allclose(iou(a, b), [1, 50 / 150, 0, 0, 0, 10 / 100])
    np.testing.assert_allclose(iou_matrix(a[:2], b[:3]), [[1, 1 / 3, 0], [1, 1 / 3, 0]])
    assert iou_matrix(np.empty((0, 4)), b).shape == (0, 6)


def test_normalize_and_back_keep_nan():
    boxes = np.array([[20.0, 10, 100, 50], [NAN] * 4])
    np.testing.assert_allclose(normalize(boxes, (200, 100)), [[0.1, 0.1, 0.5, 0.5], [NAN] * 4])
    np.testing.assert_allclose(denormalize(normalize(boxes, (200, 100)), (200, 100)), boxes)
    np.testing.assert_allclose(clip_to_frame([[-5, 5, 300, 50]], (200, 100)), [[0, 5, 200, 50]])


def test_affine_of_the_full_frame():
    affine = Affine2d.full_frame((640, 360))
    np.testing.assert_allclose(affine.apply([[0.25, 0.5, 1, 1]]), [[160, 180, 640, 360]])
    assert affine.bounds_xyxy == (0, 0, 640, 360)


def test_affine_of_a_window_may_stick_out():
    affine = Affine2d.window([10, 20, 50, 30], 4, (640, 360))  # sqrt(40 * 10) = 20, side 80, centre (30, 25)
    assert affine.bounds_xyxy == (-10, -15, 70, 65)
    np.testing.assert_allclose(
        affine.apply([[0, 0, 1, 1], [0.25, 0.4375, 0.75, 0.5625]]), [[-10, -15, 70, 65], [10, 20, 50, 30]]
    )
    boxes = np.array([[3.0, 4, 50, 60], [NAN] * 4])
    np.testing.assert_allclose(affine.apply(affine.inverse(boxes)), boxes)


def test_affine_of_odd_boxes():
    assert Affine2d.window([10, 10, 10, 40], 4, (640, 360)).scale_x == 4  # no area: as if one pixel large
    assert Affine2d.window([0, 0, 640, 360], 9, (640, 360)).scale_x == 1280  # covers the frame from anywhere
    with pytest.raises(InputError):
        Affine2d.window([NAN] * 4, 4, (640, 360))


def test_numbers_in_messages():
    assert format_numbers([10, 20.5, 30.126, 40.0]) == "[10, 20.5, 30.13, 40]"


# --- errors and files ---


def test_errors_read_as_message_and_remedy():
    error = SourceError("No such file: 'a.mp4'", "Check the path.")
    assert str(error) == "No such file: 'a.mp4'. Check the path."
    assert str(ElysiumError("It broke.", "Mend it.")) == "It broke. Mend it."
    assert str(ElysiumError("It broke")) == "It broke"
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.message, copy.remedy, copy.exit_code) == (error.message, error.remedy, 2)


def test_atomic_write_replaces_and_makes_folders(tmp_path: Path):
    target = tmp_path / "a" / "b" / "out.txt"
    atomic_write_text(target, "first\r\n")
    atomic_write_text(target, "zweitens ä\n")
    assert target.read_bytes() == "zweitens ä\n".encode()
    assert [p.name for p in target.parent.iterdir()] == ["out.txt"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path):
    target = tmp_path / "out.txt"
    target.write_text("old")

    def write_and_fail() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.txt"]


def test_a_place_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for call in (
        lambda: atomic_write_text(tmp_path / "file" / "out.txt", "x"),
        lambda: atomic_write_text(tmp_path, "x"),
        lambda: ensure_folder(tmp_path / "file" / "folder"),
    ):
        with pytest.raises(OutputError, match="Cannot write") as caught:
            call()
        assert caught.value.remedy
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert [p.name for p in ensure_folder(tmp_path / "new" / "folder").parent.iterdir()] == ["folder"]
