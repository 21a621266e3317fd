"""The baselines: holding the box, OpenCV's trackers on a square that moves, and what is handed to OpenCV."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from elysium.boxes import iou
from elysium.errors import InputError, ModelError
from elysium.evaluation.baselines import BASELINES, build_baseline, is_baseline, track_boxes

FIRST = [30.0, 24.0, 54.0, 48.0]


def moving_square(count: int = 10) -> tuple[list[np.ndarray], np.ndarray]:
    """Frames of 128 x 96 with a textured square of 24 on noise, 2 to the right and 1 down a frame, and its boxes."""
    rng = np.random.default_rng(0)
    texture = np.kron(rng.integers(0, 256, (6, 6, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    frames = []
    for index in range(count):
        frame = rng.integers(90, 140, (96, 128, 3)).astype(np.uint8)
        frame[24 + index : 48 + index, 30 + 2 * index : 54 + 2 * index] = texture
        frames.append(frame)
    return frames, np.array(FIRST) + np.arange(count)[:, None] * np.array([2, 1, 2, 1])


def opencv_with(name: str) -> None:
    """Skips the test if OpenCV is not there, or is without the tracker."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    if not hasattr(cv2, name):
        pytest.skip(f"the installed OpenCV has no {name}")


class FakeCv2Tracker:
    """Stands for one of OpenCV's: keeps what it gets, gives what it was made with."""

    def __init__(self, answers: list[tuple[bool, tuple[int, int, int, int]]]) -> None:
        self.answers = answers
        self.seen: list[np.ndarray] = []

    def init(self, image: np.ndarray, rectangle: tuple[int, int, int, int]) -> None:
        self.seen.append(image)
        self.rectangle = rectangle

    def update(self, image: np.ndarray) -> tuple[bool, tuple[int, int, int, int]]:
        self.seen.append(image)
        return self.answers[len(self.seen) - 2]

    def getTrackingScore(self) -> float:
        return 0.75


def fake_cv2(monkeypatch: pytest.MonkeyPatch, **content: object) -> None:
    module = ModuleType("cv2")
    module.__dict__.update({"__version__": "9.9", "error": RuntimeError, "utils": SimpleNamespace(), **content})
    monkeypatch.setitem(sys.modules, "cv2", module)


def fake_class(tracker: FakeCv2Tracker) -> SimpleNamespace:
    return SimpleNamespace(create=lambda: tracker)


def test_names():
    assert BASELINES == ("hold", "kcf", "csrt", "mil", "nanotrack:PATH")
    assert all(is_baseline(name) for name in BASELINES) and is_baseline("nanotrack")
    assert not any(is_baseline(name) for name in ("nano", "KCF", "kcf:x", "./hold", "nanotracker", ""))


def test_hold_says_the_first_box_for_ever():
    frames, _ = moving_square(4)
    boxes, scores = track_boxes(build_baseline("hold"), iter(frames), FIRST)
    np.testing.assert_array_equal(boxes, [FIRST] * 4)
    assert scores.shape == (4,) and np.isnan(scores).all()


def test_no_frames_give_no_boxes():
    boxes, scores = track_boxes(build_baseline("hold"), [], FIRST)
    assert boxes.shape == (0, 4) and scores.shape == (0,)


@pytest.mark.parametrize("name", ["kcf", "csrt"])
def test_opencv_follows_a_square(name: str):
    opencv_with(f"Tracker{name.upper()}")
    frames, truth = moving_square()
    boxes, scores = track_boxes(build_baseline(name), iter(frames), FIRST)
    np.testing.assert_array_equal(boxes[0], FIRST)
    assert (iou(boxes, truth) > 0.6).all()
    assert scores.shape == (10,) and np.isnan(scores).all()


def test_mil_follows_roughly():
    opencv_with("TrackerMIL")
    frames, truth = moving_square(4)
    boxes, _ = track_boxes(build_baseline("mil"), frames, FIRST)
    assert iou(boxes, truth).mean() > 0.4  # it tries places at random: no frame alone is sure


def test_opencv_gets_bgr_and_whole_pixels(monkeypatch: pytest.MonkeyPatch):
    tracker = FakeCv2Tracker([(True, (11, 12, 20, 10))])
    fake_cv2(monkeypatch, TrackerKCF=fake_class(tracker))
    red = np.zeros((60, 80, 3), dtype=np.uint8)
    red[..., 0] = 255
    boxes, scores = track_boxes(build_baseline("kcf"), [red, red], [10.6, 9.5, 30.4, 21.2])
    # 19.8 wide and 11.7 high: rounded, neither cut down nor the distance of rounded edges (19, 11).
    assert tracker.rectangle == (11, 10, 20, 12) and {type(v) for v in tracker.rectangle} == {int}
    for image in tracker.seen:
        assert image.flags.c_contiguous and image[0, 0].tolist() == [0, 0, 255]
    np.testing.assert_array_equal(boxes, [[10.6, 9.5, 30.4, 21.2], [11, 12, 31, 22]])
    assert np.isnan(scores).all()  # its score is not asked for: OpenCV's KCF has none


def test_a_box_is_kept_inside_of_the_frame_and_has_a_side_of_one_pixel(monkeypatch: pytest.MonkeyPatch):
    tracker = FakeCv2Tracker([])
    fake_cv2(monkeypatch, TrackerCSRT=fake_class(tracker))
    build_baseline("csrt").init(np.zeros((60, 80, 3), dtype=np.uint8), np.array([-5.0, 50, 10.2, 70]))
    assert tracker.rectangle == (0, 50, 10, 10)
    build_baseline("csrt").init(np.zeros((60, 80, 3), dtype=np.uint8), np.array([5.1, 5.1, 5.3, 9]))
    assert tracker.rectangle == (5, 5, 1, 4)


def test_mil_is_not_given_a_box_that_it_never_comes_back_from(monkeypatch: pytest.MonkeyPatch):
    tracker = FakeCv2Tracker([])
    fake_cv2(monkeypatch, TrackerMIL=fake_class(tracker))
    build_baseline("mil").init(np.zeros((60, 80, 3), dtype=np.uint8), np.array([10.0, 10, 13, 30]))
    assert tracker.rectangle == (10, 10, 5, 20)


def test_lost_is_nan_with_score_0_and_repeats_the_box_in_a_track(monkeypatch: pytest.MonkeyPatch):
    # OpenCV gives a rectangle of zeros where it has lost the object.
    answers = [(True, (1, 2, 3, 4)), (False, (0, 0, 0, 0)), (False, (0, 0, 0, 0)), (True, (5, 5, 5, 5))]
    image = np.zeros((60, 80, 3), dtype=np.uint8)
    fake_cv2(monkeypatch, TrackerKCF=fake_class(FakeCv2Tracker(answers)))
    tracker = build_baseline("kcf")
    tracker.init(image, np.array(FIRST))
    tracker.update(image)
    box, score = tracker.update(image)
    assert box.shape == (4,) and np.isnan(box).all() and score == 0
    fake_cv2(monkeypatch, TrackerKCF=fake_class(FakeCv2Tracker(answers)))
    boxes, scores = track_boxes(build_baseline("kcf"), [image] * 5, FIRST)
    np.testing.assert_array_equal(boxes, [FIRST, [1, 2, 4, 6], [1, 2, 4, 6], [1, 2, 4, 6], [5, 5, 10, 10]])
    np.testing.assert_array_equal(scores, [np.nan, np.nan, 0, 0, np.nan])


def test_an_older_opencv_has_its_trackers_in_legacy(monkeypatch: pytest.MonkeyPatch):
    tracker = FakeCv2Tracker([])
    fake_cv2(monkeypatch, legacy=SimpleNamespace(TrackerKCF=fake_class(tracker)))
    build_baseline("kcf").init(np.zeros((60, 80, 3), dtype=np.uint8), np.array(FIRST))
    assert tracker.rectangle == (30, 24, 24, 24)


def test_an_opencv_without_the_tracker_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    fake_cv2(monkeypatch)
    with pytest.raises(ModelError) as raised:
        build_baseline("csrt")
    assert str(raised.value).startswith("The installed OpenCV 9.9 has no TrackerCSRT. ")
    assert 'pip install "elysium-video[eval]"' in raised.value.remedy
    assert "exactly one OpenCV package" in raised.value.remedy
    monkeypatch.setitem(sys.modules, "cv2", None)  # as if it could not be imported
    with pytest.raises(ModelError, match="This needs OpenCV, which cannot be imported"):
        build_baseline("csrt")


def test_a_tracker_that_cannot_start_says_from_what():
    opencv_with("TrackerMIL")
    image = np.zeros((90, 120, 3), dtype=np.uint8)
    # MIL wants samples of the background around the box.
    with pytest.raises(InputError, match=r"TrackerMIL cannot start from box \[0, 0, 120, 90\] in a frame of 120x90"):
        build_baseline("mil").init(image, np.array([0.0, 0, 120, 90]))


@pytest.mark.parametrize("box", [[1, 2, 3], [FIRST, FIRST], "box"])
def test_one_box_of_four_numbers(box: object):
    with pytest.raises(InputError, match=r"4 numbers|follows one box, got 2"):
        track_boxes(build_baseline("hold"), [], box)  # type: ignore[arg-type]


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError) as raised:
        build_baseline("median")
    assert str(raised.value) == "There is no baseline 'median'. Use one of hold, kcf, csrt, mil, nanotrack:PATH."


def test_nanotrack_wants_a_folder_with_two_networks(tmp_path: Path):
    def says(name: str) -> str:
        with pytest.raises(InputError) as raised:
            build_baseline(name)
        assert raised.value.remedy == (
            "Give nanotrack:PATH, a folder with NanoTrack v2 as two files, one *backbone*.onnx and one *head*.onnx."
        )
        return raised.value.message

    for name in ("nanotrack", "nanotrack:"):
        assert says(name) == "nanotrack needs to know where its model is"
    gone, empty = tmp_path / "gone", tmp_path
    assert says(f"nanotrack:{gone}") == f"There is no folder {str(gone)!r}"
    assert says(f"nanotrack:{empty}") == f"The folder {str(empty)!r} has 0 files *backbone*.onnx, not one"
    (tmp_path / "a_backbone.onnx").write_bytes(b"")
    assert says(f"nanotrack:{empty}") == f"The folder {str(empty)!r} has 0 files *head*.onnx, not one"
    (tmp_path / "b_backbone.onnx").write_bytes(b"")
    assert says(f"nanotrack:{empty}") == f"The folder {str(empty)!r} has 2 files *backbone*.onnx, not one"


def test_networks_that_opencv_cannot_read(tmp_path: Path):
    opencv_with("TrackerNano")
    for part in ("backbone", "head"):
        (tmp_path / f"{part}.onnx").write_bytes(b"not a network")
    with pytest.raises(ModelError, match="OpenCV cannot read the networks in"):
        build_baseline(f"nanotrack:{tmp_path}")


def test_nanotrack_gets_its_two_files_and_has_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made: list[SimpleNamespace] = []
    tracker = FakeCv2Tracker([(True, (1, 2, 3, 4)), (False, (1, 2, 3, 4))])
    nano = SimpleNamespace(create=lambda params: made.append(params) or tracker, Params=SimpleNamespace)
    fake_cv2(monkeypatch, TrackerNano=nano)
    for part in ("backbone", "head"):
        (tmp_path / f"nanotrack_{part}_sim.onnx").write_bytes(b"")
    image = np.zeros((60, 80, 3), dtype=np.uint8)
    boxes, scores = track_boxes(build_baseline(f"nanotrack:{tmp_path}"), [image] * 3, FIRST)
    np.testing.assert_array_equal(boxes, [FIRST, [1, 2, 4, 6], [1, 2, 4, 6]])
    np.testing.assert_array_equal(scores, [np.nan, 0.75, 0])
    assert made[0].backbone == str(tmp_path / "nanotrack_backbone_sim.onnx")
    assert made[0].neckhead == str(tmp_path / "nanotrack_head_sim.onnx")


def test_nanotrack_follows_a_square_and_its_scores_are_shares(shared_dir: Path, capfd: pytest.CaptureFixture[str]):
    opencv_with("TrackerNano")
    frames, truth = moving_square()
    boxes, scores = track_boxes(
        build_baseline(f"nanotrack:{shared_dir / 'data' / 'models' / 'nanotrack-v2'}"), frames, FIRST
    )
    assert (iou(boxes, truth) > 0.6).all()
    assert np.isnan(scores[0]) and ((scores[1:] > 0.5) & (scores[1:] <= 1)).all()
    assert "WARN" not in capfd.readouterr().err  # OpenCV 5 would warn about each of the two networks


def test_opencv_is_not_imported_before_it_is_needed():
    code = "import sys, elysium.evaluation.baselines as b; b.build_baseline('hold'); print('cv2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
