"""Grounding and following as stages: what is found, dropped, confirmed; OpenCV's part in them; plug-ins by name."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from building_kit import SIZE_WH, FakeClip, TableGrounder, blank_clip, detections, phrase, straight
from elysium import opencv
from elysium.boxes import iou
from elysium.building.coco import CocoGrounder, class_of, decode
from elysium.building.following import OpenCvFollower, follow_clip
from elysium.building.grounding import candidates, ground_clip, witness_frames
from elysium.building.plugins import (
    FOLLOWERS,
    GROUNDERS,
    NOUNS,
    make_follower,
    make_grounder,
    make_nouns,
    pick_follower,
    pick_grounder,
)
from elysium.building.settings import BuildSettings, GroundingSettings
from elysium.building.stages import Clip, Detections, Follower, Grounded, Grounder, Image, Nouns
from elysium.errors import InputError, ModelError
from elysium.opencv import check_one_opencv

DOG, CAT = phrase("red dog"), phrase("cat")
HERE, THERE = (10, 10, 50, 50), (120, 10, 160, 50)


def found_everywhere(text: str, *boxes: tuple[float, ...], frames: Sequence[int] = (0, 4, 8)) -> dict[Any, Detections]:
    return {(number, text): detections(*boxes) for number in frames}  # type: ignore[arg-type]


def test_a_phrase_is_found_in_the_first_the_middle_and_the_last_frame():
    grounder = TableGrounder(
        {
            (0, "red dog"): detections((*HERE, 0.9)),
            (4, "red dog"): detections((20, 10, 60, 50, 0.8)),
            (8, "red dog"): detections((30, 10, 70, 50, 0.7), (120, 10, 160, 50, 0.65)),
        }
    )
    (one,), dropped = ground_clip(grounder, blank_clip(9), [DOG], GroundingSettings())
    assert dropped == []
    assert one.phrase is DOG and one.score == 0.9
    np.testing.assert_array_equal(one.start_xyxy, HERE)
    assert {k: v.tolist() for k, v in one.witnesses.items()} == {4: [20, 10, 60, 50], 8: [30, 10, 70, 50]}
    assert {k: v.tolist() for k, v in one.others.items()} == {8: [[120, 10, 160, 50]]}


def test_later_frames_are_asked_only_for_what_the_first_has():
    grounder = TableGrounder(found_everywhere("red dog", (*HERE, 0.9)))
    kept, dropped = ground_clip(grounder, blank_clip(9), [CAT, DOG], GroundingSettings())
    assert [one.phrase for one in kept] == [DOG]
    assert [(one.what, one.reason, one.detail) for one in dropped] == [("cat", "not-found", "nothing")]
    assert grounder.asked == [(0, ["cat", "red dog"]), (4, ["red dog"]), (8, ["red dog"])]
    assert ground_clip(grounder, blank_clip(9), [], GroundingSettings()) == ([], [])


def test_the_score_must_exceed_the_least():
    grounder = TableGrounder(found_everywhere("red dog", (*HERE, 0.6)))
    kept, (dropped,) = ground_clip(grounder, blank_clip(9), [DOG], GroundingSettings(min_score=0.6))
    assert kept == [] and (dropped.reason, dropped.detail) == ("not-found", "best score 0.60")
    assert len(ground_clip(grounder, blank_clip(9), [DOG], GroundingSettings(min_score=0.59))[0]) == 1


def test_candidates_are_inside_of_the_frame_and_not_the_same_thing_twice():
    given = detections((-20, -20, 30, 30, 0.7), (10, 10, 50, 50, 0.9), (11, 10, 51, 50, 0.95), (300, 0, 310, 9, 0.9))
    kept = candidates(given, SIZE_WH, GroundingSettings(same_iou=0.8))
    np.testing.assert_array_equal(kept.boxes_xyxy, [[11, 10, 51, 50], [0, 0, 30, 30]])
    np.testing.assert_array_equal(kept.scores, [0.95, 0.7])


@pytest.mark.parametrize(
    ("several", "expressions", "reasons"),
    [
        ("drop", [], ["several"]),
        ("best", ["a red dog that runs"], []),
        ("split", ["the red dog on the left", "the red dog on the right"], []),
    ],
)
def test_several_candidates(several: Any, expressions: list[str], reasons: list[str]):
    grounder = TableGrounder(found_everywhere("red dog", (*THERE, 0.9), (*HERE, 0.8)))
    kept, dropped = ground_clip(grounder, blank_clip(9), [DOG], GroundingSettings(several=several))
    assert [one.phrase.expression for one in kept] == expressions
    assert [one.reason for one in dropped] == reasons
    if several == "split":
        np.testing.assert_array_equal([one.start_xyxy for one in kept], [HERE, THERE])
        assert [one.score for one in kept] == [0.8, 0.9]
        assert all(len(one.others[8]) == 1 for one in kept)  # either may be the other's witness
    if several == "best":
        np.testing.assert_array_equal(kept[0].start_xyxy, THERE)


def test_candidates_that_words_cannot_tell_apart_are_not_split():
    close = TableGrounder(found_everywhere("red dog", (*HERE, 0.9), (12, 55, 52, 95, 0.9)))
    assert ground_clip(close, blank_clip(9), [DOG], GroundingSettings(several="split"))[0] == []
    four = TableGrounder(found_everywhere("red dog", *((50 * k, 0, 50 * k + 40, 40, 0.9) for k in range(4))))
    kept, (dropped,) = ground_clip(four, blank_clip(9), [DOG], GroundingSettings(several="split"))
    assert kept == [] and dropped.detail == "4 candidates in the first frame"
    three = TableGrounder(found_everywhere("red dog", *((60 * k, 0, 60 * k + 40, 40, 0.9) for k in range(3))))
    names = [one.phrase.expression for one in
             ground_clip(three, blank_clip(9), [DOG], GroundingSettings(several="split"))[0]]  # fmt: skip
    assert names == ["the red dog on the left", "the red dog in the middle", "the red dog on the right"]


@pytest.mark.parametrize(
    ("frames", "kept", "asked"), [((0, 4), {"any", "none"}, 3), ((0, 8), {"any", "none"}, 3), ((0,), {"none"}, 3)]
)
def test_how_many_witnesses_are_needed(frames: tuple[int, ...], kept: set[str], asked: int):
    for witnesses in ("all", "any", "none"):
        grounder = TableGrounder(found_everywhere("red dog", (*HERE, 0.9), frames=frames))
        settings = GroundingSettings(witnesses=witnesses)  # type: ignore[arg-type]
        starts, dropped = ground_clip(grounder, blank_clip(9), [DOG], settings)
        assert bool(starts) == (witnesses in kept)
        assert [one.reason for one in dropped] == ([] if starts else ["not-confirmed"])
        if witnesses == "none":
            assert len(grounder.asked) == 1


def test_which_frames_are_witnesses():
    assert witness_frames(9) == [4, 8] and witness_frames(3) == [1, 2] and witness_frames(2) == [1]
    assert witness_frames(1) == []
    grounder = TableGrounder(found_everywhere("red dog", (*HERE, 0.9)))
    (one,), _ = ground_clip(grounder, blank_clip(1), [DOG], GroundingSettings())
    assert one.witnesses == {}


def test_a_plug_in_that_breaks_its_protocol_is_named():
    class Wrong:
        name = "wrong"

        def ground(self, image: Image, phrases: Sequence[Any]) -> list[Detections]:
            return [Detections(np.zeros((2, 4)), np.zeros(1))]

        def follow(self, clip: Clip, starts_xyxy: Sequence[np.ndarray]) -> list[Any]:
            return [(np.zeros((2, 4)), None)]

    with pytest.raises(ModelError, match=r"grounder 'wrong' answered 1 phrases .*\(2, 4\), \(1,\)"):
        ground_clip(Wrong(), blank_clip(9), [DOG], GroundingSettings())
    with pytest.raises(ModelError, match="follower 'wrong' answered 1 boxes in 9 frames"):
        follow_clip(Wrong(), blank_clip(9), [Grounded(DOG, np.array(HERE), 0.9)])


# --- followers -------------------------------------------------------------------------------------


def moving_squares(count: int = 10) -> tuple[FakeClip, np.ndarray]:
    """Two textured squares on noise that move apart, and their boxes (2, T, 4)."""
    rng = np.random.default_rng(0)
    textures = [np.kron(rng.integers(0, 256, (6, 6, 3)), np.ones((4, 4, 1))).astype(np.uint8) for _ in range(2)]
    boxes = np.stack([straight(count, (2.0, 1.0)), straight(count, (1.0, 0.0)) + np.array([100, 30, 100, 30])])
    images = []
    for number in range(count):
        image = rng.integers(90, 140, (SIZE_WH[1], SIZE_WH[0], 3)).astype(np.uint8)
        for texture, box in zip(textures, boxes[:, number].astype(int), strict=True):
            image[box[1] : box[3], box[0] : box[2]] = texture
        images.append(image)
    return FakeClip(images), boxes


@pytest.mark.parametrize("name", ["csrt", "kcf"])
def test_opencv_follows_several_boxes_in_one_pass(name: str):
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    clip, truth = moving_squares()
    starts = [Grounded(DOG, truth[0, 0], 0.9), Grounded(CAT, truth[1, 0], 0.9)]
    first, second = follow_clip(make_follower(name), clip, starts)
    assert clip.reads == 10
    assert (iou(first.boxes_xyxy, truth[0]) > 0.6).all() and (iou(second.boxes_xyxy, truth[1]) > 0.6).all()
    np.testing.assert_array_equal(first.boxes_xyxy[0], truth[0, 0])
    assert first.grounded.phrase is DOG and second.grounded.phrase is CAT
    assert first.scores is None and second.scores is None


def test_nanotrack_has_scores(shared_dir: Path):
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    clip, truth = moving_squares()
    follower = make_follower("nanotrack", path=str(shared_dir / "data" / "models" / "nanotrack-v2"))
    ((boxes, scores),) = follower.follow(clip, [truth[0, 0]])
    assert (iou(boxes, truth[0]) > 0.6).all()
    assert scores is not None and np.isnan(scores[0]) and ((scores[1:] > 0.5) & (scores[1:] <= 1)).all()


def test_lost_frames_and_starts_that_fail_have_no_boxes(monkeypatch: pytest.MonkeyPatch):
    class Tracker:
        def __init__(self) -> None:
            self.updates = 0

        def init(self, image: np.ndarray, box: np.ndarray) -> None:
            if box[0] > 100:
                raise InputError("cannot start")

        def update(self, image: np.ndarray) -> tuple[np.ndarray, float]:
            self.updates += 1
            return (np.full(4, np.nan), 0.0) if self.updates == 2 else (np.array(HERE, dtype=float), float("nan"))

    monkeypatch.setattr("elysium.building.following.build_tracker", lambda name: Tracker())
    monkeypatch.setattr("elysium.building.following.check_one_opencv", lambda: None)
    follower = OpenCvFollower()
    (fine, _), (failed, _) = follower.follow(blank_clip(4), [np.array(HERE), np.array(THERE)])
    assert np.isnan(fine).any(axis=1).tolist() == [False, False, True, False]
    assert np.isnan(failed).any(axis=1).tolist() == [False, True, True, True]


def test_nothing_to_follow_reads_nothing():
    clip = blank_clip(4)
    assert follow_clip(SimpleNamespace(name="none"), clip, []) == [] and clip.reads == 0  # type: ignore[arg-type]


# --- exactly one OpenCV ----------------------------------------------------------------------------


def packages(monkeypatch: pytest.MonkeyPatch, *names: str, **content: object) -> None:
    module = ModuleType("cv2")
    module.__dict__.update({"__version__": "9.9", "error": RuntimeError, **content})
    monkeypatch.setitem(sys.modules, "cv2", module)
    monkeypatch.setattr(opencv, "packages_distributions", lambda: {"cv2": list(names)})


def test_two_packages_of_opencv_are_refused_with_the_commands_that_mend_it(monkeypatch: pytest.MonkeyPatch):
    packages(monkeypatch, "opencv-python", "opencv-contrib-python-headless", TrackerCSRT=object())
    with pytest.raises(ModelError) as raised:
        check_one_opencv()
    assert raised.value.message == (
        "2 packages of OpenCV are installed, whose files overwrite each other: "
        "opencv-contrib-python-headless, opencv-python"
    )
    assert raised.value.remedy == (
        "Leave one: pip uninstall -y opencv-contrib-python-headless opencv-python, then pip install "
        "opencv-contrib-python-headless."
    )
    with pytest.raises(ModelError, match="2 packages of OpenCV"):
        make_follower("csrt")


def test_an_opencv_without_contributed_trackers_is_refused(monkeypatch: pytest.MonkeyPatch):
    packages(monkeypatch, "opencv-python")
    with pytest.raises(ModelError, match="The installed opencv-python is without OpenCV's contributed trackers"):
        check_one_opencv()
    packages(monkeypatch, "opencv-contrib-python", "opencv-contrib-python", TrackerCSRT=object())
    check_one_opencv()  # the same package listed twice is one
    packages(monkeypatch, legacy=SimpleNamespace(TrackerCSRT=object()))
    check_one_opencv()  # built by hand, no package


def test_this_installation_has_one_opencv():
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    check_one_opencv()
    assert len(set(metadata.packages_distributions()["cv2"])) == 1


# --- the COCO detector -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("noun", "kind"),
    [("dog", 16), ("puppy", 16), ("Man", 0), ("motorbike", 3), ("sofa", 57), ("teddy bear", 77), ("toothbrush", 79)],
)
def test_nouns_belong_to_coco_classes(noun: str, kind: int):
    assert class_of(noun) == kind


def test_other_nouns_belong_to_none():
    assert class_of("love") is None and class_of("") is None and class_of("castle") is None


def test_the_output_is_decoded_as_fastestdet_means_it():
    output = np.zeros((7, 2, 4))
    output[0], output[5:] = 0.5, 0.25
    output[1, 1, 2], output[2, 1, 2] = np.arctanh(0.5), np.arctanh(-0.5)
    output[3, 1, 2], output[4, 1, 2] = np.log(0.25 / 0.75), np.log(0.5 / 0.5)
    boxes, scores = decode(output, (400, 200))
    assert boxes.shape == (8, 4) and scores.shape == (2, 8)
    # The middle is half a cell right of column 2 of 4, half a cell above row 1 of 2; a quarter wide, half as high.
    np.testing.assert_allclose(boxes[6], [250 - 50, 50 - 50, 250 + 50, 50 + 50])
    np.testing.assert_allclose(scores, 0.5**0.6 * 0.25**0.4)


def test_the_detector_finds_what_it_knows_in_a_photo(shared_dir: Path):
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    from elysium.video import read_image

    image = read_image(shared_dir / "data" / "sequences" / "otb_Basketball" / "frames" / "000001.jpg")
    grounder = make_grounder("coco", path=str(shared_dir / "data" / "models" / "FastestDet.onnx"))
    people, castle = grounder.ground(image, [phrase("man"), phrase("castle")])
    assert len(castle.scores) == 0 and castle.boxes_xyxy.shape == (0, 4)
    assert len(people.scores) >= 2 and (np.diff(people.scores) <= 0).all() and people.scores[0] > 0.5
    overlaps = iou(people.boxes_xyxy[0], people.boxes_xyxy[1:])
    assert (overlaps <= 0.45).all()


def test_an_image_is_not_looked_at_for_words_of_no_class(shared_dir: Path):
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    grounder = CocoGrounder(shared_dir / "data" / "models" / "FastestDet.onnx")
    grounder._network = None
    assert [len(one.scores) for one in grounder.ground(np.zeros((9, 9, 3), dtype=np.uint8), [phrase("castle")])] == [0]


def test_networks_that_are_missing_or_of_another_output(shared_dir: Path, tmp_path: Path):
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    with pytest.raises(ModelError, match="There is no file"):
        CocoGrounder(tmp_path / "gone.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a network")
    with pytest.raises(ModelError, match="OpenCV cannot read the network"):
        CocoGrounder(broken)
    grounder = CocoGrounder(shared_dir / "data" / "models" / "FastestDet.onnx")
    grounder._network = SimpleNamespace(setInput=lambda blob: None, forward=lambda: np.zeros((1, 100, 6)))
    with pytest.raises(ModelError, match=r"gives an output of shape \(1, 100, 6\)"):
        grounder.ground(np.zeros((9, 9, 3), dtype=np.uint8), [phrase("dog")])


# --- plug-ins and settings -------------------------------------------------------------------------


class Mine:
    """Stands for somebody's own plug-in of every kind."""

    name = "mine"

    def __init__(self, size: int = 1) -> None:
        self.size = size

    def phrases(self, caption: str) -> tuple[list[Any], list[Any]]:
        return [], []

    def phrase_of(self, expression: str) -> Any:
        return DOG

    def ground(self, image: Image, phrases: Sequence[Any]) -> list[Detections]:
        return [detections() for _ in phrases]

    def follow(self, clip: Clip, starts_xyxy: Sequence[np.ndarray]) -> list[Any]:
        return []


def test_somebodys_own_plug_ins_are_found_by_their_path():
    where = f"{__name__}:Mine"
    assert isinstance(make_nouns(where), Nouns) and isinstance(make_follower(where), Follower)
    grounder = make_grounder(where, size=3)
    assert isinstance(grounder, Grounder) and grounder.size == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("make", "name", "options", "error", "message"),
    [
        (make_nouns, "nltk", {}, InputError, "There is no plug-in 'nltk' for Nouns. Use one of spacy, or"),
        (make_grounder, "yolo", {}, InputError, "Use one of grounding-dino, elysium, coco, auto, or package"),
        (make_follower, "csrt", {"path": "x"}, InputError, "csrt has no files, but path is 'x'"),
        (make_follower, "kcf", {"size": 3}, InputError, "unexpected keyword argument 'size'. It takes path."),
        (make_grounder, "coco", {}, InputError, "missing a required argument: 'path'"),
        (make_follower, "nowhere.at_all:Class", {}, InputError, "cannot be imported (No module named 'nowhere')"),
        (make_follower, "os:gone", {}, InputError, "cannot be imported"),
        (make_follower, "os:path", {}, InputError, "is no class"),
        (make_follower, "pathlib:Path", {}, ModelError, "'pathlib:Path' is no Follower"),
        (make_follower, "nanotrack", {"path": "/gone"}, InputError, "There is no folder '/gone'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_plug_in_is_said(make: Any, name: str, options: dict, error: type, message: str):
    with pytest.raises(error) as raised:
        make(name, **options)
    assert message in str(raised.value)


def test_every_name_leads_to_a_class():
    from importlib import import_module

    for table in (NOUNS, GROUNDERS, FOLLOWERS):
        for where, _ in table.values():
            module, _, name = where.partition(":")
            assert isinstance(getattr(import_module(module), name), type)


def test_auto_takes_grounding_dino_where_there_is_one_and_nano_otherwise(monkeypatch: pytest.MonkeyPatch):
    import elysium.building.models.loading as loading

    monkeypatch.setattr(loading, "is_here", lambda model: False)
    pick = pick_grounder()
    assert (pick.name, pick.options) == ("elysium", {"model": "nano"})
    assert str(pick).startswith("elysium (the bundled nano; no Grounding DINO: options.model names none, and ")
    monkeypatch.setattr(loading, "is_here", lambda model: True)
    pick = pick_grounder("auto", {"device": "cpu"})
    assert pick.name == "grounding-dino" and pick.options["device"] == "cpu" and "is in the cache" in pick.why
    pick = pick_grounder("auto", {"model": "folder"})
    assert (pick.name, pick.options, pick.why) == ("grounding-dino", {"model": "folder"}, "options.model is 'folder'")
    assert pick_grounder("coco", {"path": "x"}).why == "as asked for"


def test_auto_follows_with_csrt_where_there_is_an_opencv(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("elysium.building.plugins.find_spec", lambda name: object())
    assert pick_follower().name == "csrt" and "the offline default" in pick_follower().why
    monkeypatch.setattr("elysium.building.plugins.find_spec", lambda name: None)
    assert pick_follower().name == "elysium" and "OpenCV is not installed" in pick_follower().why
    assert pick_follower("kcf").name == "kcf"


def test_settings_have_the_papers_numbers_and_refuse_unknown_keys():
    settings = BuildSettings()
    assert settings.grounding.min_score == 0.6
    assert settings.filters.confidence.min_score == 0.8 and settings.filters.overlap.min_iou == 0.3
    with pytest.raises(ValidationError, match=r"filters\.overlap\.iou\s+Extra inputs"):
        BuildSettings.model_validate({"filters": {"overlap": {"iou": 0.5}}})
    with pytest.raises(ValidationError):
        settings.grounding.min_score = 0.5
