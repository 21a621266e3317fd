"""Clips made by program: the same everywhere, boxes that fit, words that are true of one thing only."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from elysium.data.synth import (
    AssetLibrary,
    ClipGenerator,
    Cutout,
    SynthClip,
    SynthConfig,
    SynthObject,
    questions,
    words,
)
from elysium.data.synth.close_up import close_up
from elysium.data.synth.nouns import confusable, plain_noun, sprite_noun
from elysium.data.synth.render import Composed, Layer, Look, compose, make_sprite, solid_box, warp
from elysium.errors import InputError, SourceError

SMALL = SynthConfig(size_px=96, num_frames=6)


def cutout(noun: str, number: int, colour: tuple[int, int, int], shape: tuple[int, int] = (40, 60)) -> Cutout:
    rgba = np.zeros((*shape, 4), np.uint8)
    cv2.ellipse(rgba, (shape[1] // 2, shape[0] // 2), (shape[1] // 2 - 1, shape[0] // 2 - 1), 0, 0, 360,
                (*colour, 255), -1)  # fmt: skip
    return Cutout(rgba, noun, f"set/{noun}{number}.png")


@pytest.fixture(scope="module")
def library() -> AssetLibrary:
    colours = [(220, 20, 20), (30, 60, 220), (20, 160, 40), (240, 220, 30)]
    cutouts = [
        cutout(noun, k, colours[k % 4]) for noun in ("dog", "truck", "fire truck", "cup") for k in range(5)
    ]
    photo = np.random.default_rng(0).integers(0, 255, (80, 120, 3), dtype=np.uint8)
    return AssetLibrary(cutouts, [cv2.resize(photo, (240, 160)).astype(np.uint8)], ["photo.jpg"])


def clips(generator: ClipGenerator, count: int) -> list[SynthClip]:
    return [generator.generate(index) for index in range(count)]


# --- the contract ----------------------------------------------------------------------------------


def test_same_number_same_clip(library: AssetLibrary) -> None:
    first, second = ClipGenerator(SMALL, library, seed=3), ClipGenerator(SMALL, library, seed=3)
    second.generate(7)  # what was asked for before does not matter
    a, b = first.generate(5), second.generate(5)
    assert np.array_equal(a.frames, b.frames)
    assert [o.expressions for o in a.objects] == [o.expressions for o in b.objects]
    for left, right in zip(a.objects, b.objects, strict=True):
        np.testing.assert_array_equal(left.boxes_xyxyn, right.boxes_xyxyn)
    assert not np.array_equal(a.frames, ClipGenerator(SMALL, library, seed=4).generate(5).frames)
    assert not np.array_equal(a.frames, first.generate(6).frames)


def test_shapes_and_ranges(library: AssetLibrary) -> None:
    for clip in clips(ClipGenerator(SMALL, library), 30):
        assert clip.frames.shape == (6, 96, 96, 3) and clip.frames.dtype == np.uint8
        assert clip.objects
        for thing in clip.objects:
            boxes = thing.boxes_xyxyn
            assert boxes.shape == (6, 4) and boxes.dtype == np.float32
            there = ~np.isnan(boxes).any(1)
            assert there[0], "every object is in the first frame"
            assert (boxes[there] >= 0).all() and (boxes[there] <= 1).all()
            assert (boxes[there, 2:] > boxes[there, :2]).all()
            assert thing.visible_fraction.shape == (6,)
            assert thing.description


def test_absent_where_little_is_seen(library: AssetLibrary) -> None:
    config = replace(SMALL, leave_probability=1.0, occlusion_probability=1.0, region_probability=0.0)
    absent = 0
    for clip in clips(ClipGenerator(config, library), 40):
        for thing in clip.objects:
            gone = np.isnan(thing.boxes_xyxyn)
            assert (gone.all(1) == gone.any(1)).all()
            np.testing.assert_array_equal(gone.all(1), thing.visible_fraction < 0.2)
            absent += int(gone.all(1).sum())
    assert absent > 20


def test_first_frame_shows_most_of_most() -> None:
    shares = [
        o.visible_fraction[0] for c in clips(ClipGenerator(SMALL, AssetLibrary()), 60) for o in c.objects
    ]
    assert np.mean(np.array(shares) >= 0.6) > 0.95


def test_nothing_moves_without_motion() -> None:
    config = replace(SMALL, motion=0.0, leave_probability=0, camera_probability=1, occlusion_probability=0)
    for clip in clips(ClipGenerator(config, AssetLibrary()), 10):
        for thing in clip.objects:
            spread = np.nanmax(thing.boxes_xyxyn, 0) - np.nanmin(thing.boxes_xyxyn, 0)
            assert spread.max() <= 0.06  # wobble remains


def test_single_frame_and_many_objects() -> None:
    config = SynthConfig(size_px=64, num_frames=1, min_objects=8, max_objects=8, max_scale=0.2)
    clip = ClipGenerator(config, AssetLibrary()).generate(0)
    assert clip.frames.shape == (1, 64, 64, 3)
    assert len(clip.objects) >= 6


@pytest.mark.parametrize("change", [{"size_px": 8}, {"min_objects": 4, "max_objects": 2}, {"min_scale": 0.0}])
def test_bad_config(change: dict[str, float]) -> None:
    with pytest.raises(InputError):
        SynthConfig(**change)  # type: ignore[arg-type]


# --- boxes -----------------------------------------------------------------------------------------


def turning_layer(num_frames: int = 5) -> Layer:
    rgba = np.full((30, 50, 4), 255, np.uint8)
    matrices = []
    for t in range(num_frames):
        angle, scale = 0.3 * t, 0.8 + 0.1 * t
        linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        middle = np.array([30.0 + 12 * t, 50.0])
        matrices.append(np.concatenate([linear, (middle - linear @ [25, 15])[:, None]], 1))
    return Layer(make_sprite(rgba), np.array(matrices), np.ones(num_frames, np.float32))


def test_boxes_are_the_alpha_extents() -> None:
    layer, size = turning_layer(), 96
    camera = np.repeat(np.eye(2, 3)[None], 5, 0)
    background = np.zeros((144, 144, 3), np.uint8)
    look = Look(np.ones((5, 3), np.float32))
    out = compose(background, camera, [layer], look, size, np.random.default_rng(0))
    for t in range(5):
        # White on black: the picture itself is the alpha, drawn by another way than the boxes.
        solid = out.frames[t, ..., 0] >= 127
        ys, xs = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
        np.testing.assert_allclose(out.boxes[0, t], [xs[0], ys[0], xs[-1] + 1, ys[-1] + 1], atol=1.0)
        piece = warp(layer, t, size)
        assert piece is not None
        np.testing.assert_array_equal(out.boxes[0, t], np.array(solid_box(piece), np.float32))


def test_boxes_agree_with_geometry() -> None:
    layer = turning_layer()
    for t in range(3):  # still wholly inside the frame
        corners = (
            np.array([[0, 0], [50, 0], [0, 30], [50, 30]]) @ layer.matrices[t][:, :2].T
            + layer.matrices[t][:, 2]
        )
        box = solid_box(warp(layer, t, 96))
        expected = np.concatenate([corners.min(0).clip(0), corners.max(0).clip(max=96)])
        np.testing.assert_allclose(np.array(box), expected, atol=1.3)


def test_covered_and_leaving_things_lose_visibility_not_extent() -> None:
    white, black = np.full((20, 20, 4), 255, np.uint8), np.zeros((20, 20, 4), np.uint8)
    black[..., 3] = 255
    at = lambda x, y: np.array([[[1.0, 0, x], [0, 1.0, y]]])  # noqa: E731
    below = Layer(make_sprite(white), at(30, 30), np.ones(1, np.float32))
    above = Layer(make_sprite(black), at(40, 30), np.ones(1, np.float32))
    leaving = Layer(make_sprite(white), at(-15, 60), np.ones(1, np.float32))
    out = compose(np.zeros((120, 120, 3), np.uint8), np.eye(2, 3)[None], [below, above, leaving],
                  Look(np.ones((1, 3), np.float32)), 80, np.random.default_rng(0))  # fmt: skip
    np.testing.assert_array_equal(out.boxes[0, 0], [30, 30, 50, 50])
    np.testing.assert_allclose(out.seen[:, 0], [0.5, 1.0, 0.25], atol=0.02)
    np.testing.assert_array_equal(out.boxes[2, 0], [0, 60, 5, 80])


def test_region_moves_with_the_camera(library: AssetLibrary) -> None:
    config = replace(SMALL, region_probability=1.0, camera_probability=1.0, min_scale=0.05, max_scale=0.1)
    regions = [o for c in clips(ClipGenerator(config, library), 20) for o in c.objects if o.is_background]
    assert len(regions) >= 5
    assert all(not r.expressions for r in regions)
    assert any(np.nanmax(np.abs(r.boxes_xyxyn - r.boxes_xyxyn[0])) > 0.05 for r in regions)


# --- words -----------------------------------------------------------------------------------------


def claims(text: str, thing: SynthObject, others: list[SynthObject]) -> bool:
    """An independent, plain reading of an expression: may `text` mean `thing`?"""
    tokens = text.removeprefix("the ").split()
    box = thing.boxes_xyxyn[0]
    x, y = float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2
    area = float((box[2] - box[0]) * (box[3] - box[1]))
    rivals = [o.boxes_xyxyn[0] for o in others if "object" in tokens or confusable(o.noun, thing.noun)]
    areas = [float((b[2] - b[0]) * (b[3] - b[1])) for b in rivals]
    lefts, tops = [float(b[0] + b[2]) / 2 for b in rivals], [float(b[1] + b[3]) / 2 for b in rivals]
    tests = {
        "biggest": all(area > a for a in areas), "largest": all(area > a for a in areas),
        "smallest": all(area < a for a in areas), "leftmost": all(x < v for v in lefts),
        "rightmost": all(x > v for v in lefts), "topmost": all(y < v for v in tops),
        "lowest": all(y > v for v in tops), "on the left": x < 0.5, "on the right": x > 0.5,
        "in the middle": max(abs(x - 0.5), abs(y - 0.5)) < 0.25,
        "at the top": y < 0.5,
        "at the bottom": y > 0.5, "in the top left": x < 0.5 and y < 0.5,
        "in the bottom right": x > 0.5 and y > 0.5,
        "in the top right": x > 0.5 and y < 0.5, "in the bottom left": x < 0.5 and y > 0.5,
    }  # fmt: skip
    if not all(holds for words_, holds in tests.items() if re.search(rf"\b{words_}\b", text)):
        return False
    named = [c for c in words.COLOUR_NAMES if c in tokens]
    if named and thing.colour != named[0]:
        return False
    motion = re.search(r"moving (?:to the )?(left|right|up|down)", text)
    if motion:
        there = thing.boxes_xyxyn[~np.isnan(thing.boxes_xyxyn[:, 0])]
        dx, dy = ((there[-1] - there[0])[:2] + (there[-1] - there[0])[2:]) / 2
        if {"left": -dx, "right": dx, "up": -dy, "down": dy}[motion.group(1)] < 0.035:
            return False
    head = re.split(r" (?:on the|at the|in the|to the|above|below|that is|moving) ", " ".join(tokens))[0]
    return "object" in tokens or confusable(thing.noun,
        " ".join(w for w in head.split() if w in thing.noun.split())
                                            or head.split()[-1])  # fmt: skip


def test_expressions_are_true_and_of_one_thing(library: AssetLibrary) -> None:
    config = replace(SMALL, min_objects=2, distractor_probability=0.8, region_probability=0.0)
    checked, styles = 0, set()
    for generator in (ClipGenerator(config, library), ClipGenerator(config, AssetLibrary())):
        for clip in clips(generator, 60):
            for thing in clip.objects:
                others = [o for o in clip.objects if o is not thing]
                for text in thing.expressions:
                    assert claims(text, thing, others), text
                    if not re.search(
                        r"to the (left|right) of|above|below|striped|spotted|checkered|that is", text
                    ):
                        rivals = [
                            o for o in others if claims(text, o, [p for p in clip.objects if p is not o])
                        ]
                        assert not rivals, (text, [o.noun for o in rivals])
                    styles |= set(
                        re.findall(r"biggest|on the left|moving to|object|above|leftmost|red", text)
                    )
                    checked += 1
    assert checked > 500
    assert styles == {"biggest", "on the left", "moving to", "object", "above", "leftmost", "red"}


def seen(
    noun: str, box: tuple[float, float, float, float], colour: str | None = None, **more: object
) -> words.Seen:
    return words.Seen(noun, colour, frozenset({colour} if colour else ()), box, **more)  # type: ignore[arg-type]


def test_two_of_a_kind_need_more_than_the_noun() -> None:
    left, right = seen("car", (0.0, 0.4, 0.2, 0.6), "red"), seen("taxi", (0.7, 0.4, 0.9, 0.6), "yellow")
    found = words.expressions(np.random.default_rng(0), 0, [left, right], most=50)
    assert "the car" not in found and "car" not in found  # a taxi is a car
    assert {"the red car", "red car", "the car on the left", "the leftmost car", "the red object"} <= set(
        found
    )


def test_unclear_colours_spoil_colour_words() -> None:
    red, motley = seen("car", (0.0, 0.4, 0.2, 0.6), "red"), seen("car", (0.7, 0.4, 0.9, 0.6))
    found = words.expressions(np.random.default_rng(0), 0, [red, motley], most=50)
    assert "the red car" not in found and "the car on the left" in found


@pytest.mark.parametrize("name", sorted(set(words.COLOUR_NAMES)))
def test_colours_of_plain_pixels(name: str) -> None:
    from elysium.data.synth.procedural import COLOURS

    rgba = np.dstack([np.full((20, 20, 3), COLOURS[name], np.uint8), np.full((20, 20), 255, np.uint8)])
    assert words.colour_of(words.colour_shares(rgba.astype(np.uint8)))[0] == name


def test_description() -> None:
    thing = seen("airplane", (0.1, 0.1, 0.3, 0.3), None, shift=(0.5, 0.0), reach=0.5)
    assert words.describe(np.random.default_rng(0), thing) == "an airplane moving to the right"


def test_nouns() -> None:
    assert [plain_noun(n) for n in ("Faces", "Motorbikes", "airplanes", "car_side", "accordion",
        "dalmatian dog")] == [
        "face", "motorbike", "airplane", "car", "accordion", "dalmatian"]  # fmt: skip
    assert sprite_noun("fire engine", "travel-places", "transport-ground") == "fire truck"
    assert sprite_noun("man cook", "people-body", "person-role") == "cook"
    assert sprite_noun("woman running", "people-body", "person-activity") == "woman"
    assert sprite_noun("black cat", "animals-nature", "animal-mammal") == "cat"
    assert sprite_noun("keycap: #", "symbols", "keycap") is None
    assert sprite_noun("grinning face", "smileys-emotion", "face-smiling") is None


# --- assets ----------------------------------------------------------------------------------------


def test_no_folder_gives_an_empty_library() -> None:
    library = AssetLibrary.from_folder(None)
    assert library.cutouts == [] and library.nouns == []
    nouns = {o.noun for c in clips(ClipGenerator(SMALL, library), 25) for o in c.objects}
    assert {"patch", "circle"} <= nouns or len(nouns) > 6


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        AssetLibrary.from_folder(tmp_path / "nowhere")
    with pytest.raises(SourceError):
        AssetLibrary.from_folder(tmp_path)


def test_split_is_disjoint_for_large_categories(library: AssetLibrary) -> None:
    rare = AssetLibrary(
        [*library.cutouts, cutout("piano", 0, (9, 9, 9))], library.photos, library.photo_names
    )
    train, val = ({c.source for c in rare.part(split).cutouts} for split in ("train", "val"))
    assert train & val == {"set/piano0.png"}
    assert len(val) == 5 and len(train | val) == 21  # one of five of each noun, and the rare one


@pytest.fixture(scope="module")
def asset_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small set and the photos of the shared assets, in the layout that is asked for."""
    data = Path(__file__).parents[2] / "shared" / "data"
    if not (data / "cutouts" / "coco128").is_dir() or not (data / "photos").is_dir():
        pytest.skip("the shared assets are not here")
    root = tmp_path_factory.mktemp("assets")
    (root / "cutouts").mkdir()
    (root / "cutouts" / "coco128").symlink_to(data / "cutouts" / "coco128")
    (root / "photos").symlink_to(data / "photos")
    return root


def test_shared_assets(asset_folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "assets.npz"
    train = AssetLibrary.from_folder(asset_folder, "train", cutout_px=48, cache=cache)
    assert cache.is_file()
    val = AssetLibrary.from_folder(asset_folder, "val", cutout_px=48, cache=cache)
    counts: dict[str, set[str]] = {}
    for c in [*train.cutouts, *val.cutouts]:
        counts.setdefault(c.noun, set()).add(c.source)
    both = {c.source for c in train.cutouts} & {c.source for c in val.cutouts}
    assert all(len(sources) < 4 for sources in counts.values() if sources & both)
    assert not set(train.photo_names) & set(val.photo_names)
    assert len(train.cutouts) > 230 and len(train.photos) + len(val.photos) == 58 and len(val.photos) == 9
    assert {"dog", "airplane", "cellphone", "person"} <= set(train.nouns)
    built = AssetLibrary.from_folder(asset_folder, "val", cutout_px=48)  # without the cache: the same
    assert [c.source for c in built.cutouts] == [c.source for c in val.cutouts]
    np.testing.assert_array_equal(built.cutouts[17].rgba, val.cutouts[17].rgba)
    assert all(max(c.rgba.shape[:2]) <= 48 for c in train.cutouts)


def test_damaged_cache_is_built_again(asset_folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "assets.npz"
    cache.write_bytes(b"nothing of use")
    assert AssetLibrary.from_folder(asset_folder, "val", cutout_px=24, cache=cache).cutouts
    assert cache.stat().st_size > 10_000


class _Thing:
    def __init__(self, noun: str, colour: str | None = None, expressions: tuple[str, ...] = ()) -> None:
        self.noun, self.colour, self.expressions = noun, colour, expressions


def _asked(thing: _Thing, everything: list[_Thing], boxes: np.ndarray) -> set[tuple[str, str]]:
    asked = (questions.ask(np.random.default_rng(i), thing, everything, boxes) for i in range(60))
    return {pair for pair in asked if pair is not None}


def test_questions_have_the_answers_of_the_labels():
    car = _Thing("car", "red", ("the car", "red car on the left", "the red object", "the car moving right"))
    boxes = np.array([[0.1, 0.4, 0.3, 0.6], [np.nan] * 4, [0.4, 0.4, 0.6, 0.6]], np.float32)
    assert _asked(car, [car, _Thing("car"), _Thing("dog")], boxes) == {
        ("What color is the car?", "red"),
        ("What color is the car moving right?", "red"),
        ("What is the red object?", "a car"),
        ("Which way does the car move?", "to the right"),
        ("Which way does the red car on the left move?", "to the right"),
        ("Which way does the red object move?", "to the right"),
        ("How many cars are there?", "2"),
    }


def test_kinds_of_questions_are_drawn_by_their_shares():
    car = _Thing("car", "red", ("the car",))
    still = np.tile(np.array([[0.1, 0.1, 0.2, 0.2]], np.float32), (3, 1))
    shares = {"colour": 3.0, "count": 1.0}
    asked = [questions.ask(np.random.default_rng(i), car, [car], still, shares) for i in range(400)]
    colours = sum(one == ("What color is the car?", "red") for one in asked)
    assert set(asked) == {("What color is the car?", "red"), ("How many cars are there?", "1")}
    assert 270 < colours < 330


def test_what_cannot_be_known_is_not_asked():
    """No colour, one frame, a noun that another thing may go by."""
    man = _Thing("man", None, ("the man",))
    assert _asked(man, [man, _Thing("person")], np.array([[0.1, 0.1, 0.2, 0.2]], np.float32)) == set()


def test_still_things_do_not_move_and_slow_ones_are_not_asked_about():
    still = np.tile(np.array([[0.1, 0.1, 0.2, 0.2]], np.float32), (3, 1))
    dog = _Thing("dog", None, ("the dog",))
    assert ("Which way does the dog move?", "it does not move") in _asked(dog, [dog], still)
    slow = still + np.array([[0.0], [0.03], [0.06]], np.float32)
    assert not any("Which way" in question for question, _ in _asked(dog, [dog], slow))


@pytest.mark.parametrize(
    ("noun", "expected"),
    [("car", "cars"), ("bus", "buses"), ("fire truck", "fire trucks"), ("butterfly", "butterflies"),
     ("monkey", "monkeys"), ("person", "people"), ("scissors", "scissors"), ("octopus", "octopuses"), ("fox", "foxes")],
)  # fmt: skip
def test_plurals(noun, expected):
    assert questions.plural(noun) == expected


def test_a_single_picture_says_nothing_of_motion():
    config = SynthConfig(size_px=64, num_frames=1, min_objects=1, max_objects=3, patch_share=0.0)
    generator = ClipGenerator(config, AssetLibrary(), seed=3)
    said = [e for i in range(40) for o in generator.generate(i).objects for e in (*o.expressions, o.description)]
    assert said and not any("moving" in text for text in said)


class _Draw:
    """A generator that draws the first thing, and a window of so many box sizes."""

    def __init__(self, ratio=2.0):
        self.ratio = ratio

    def choice(self, things):
        return things[0]

    def uniform(self, low, high):
        return np.log(self.ratio)


def test_a_close_up_shows_the_window_around_a_thing():
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    frames[0, 24:40, 24:40] = 255
    frames[1, 24:40, 32:48] = 255  # it moves; the window stays
    boxes = [[[24, 24, 40, 40], [32, 24, 48, 40]], [[40, 20, 56, 28]] * 2, [[0, 0, 10, 10]] * 2]
    composed = Composed(frames, np.array(boxes, np.float32), np.full((3, 2), 0.8, np.float32))
    near = close_up(_Draw(), composed, count=1)
    assert near.frames.shape == frames.shape and near.frames.dtype == np.uint8
    np.testing.assert_allclose(near.boxes[:2], [[[16, 16, 48, 48], [32, 16, 64, 48]], [[48, 8, 64, 24]] * 2])
    assert np.isnan(near.boxes[2]).all()
    np.testing.assert_allclose(near.seen, [[0.8, 0.8], [0.4, 0.4], [0, 0]], atol=1e-6)
    for time in range(2):
        rows, columns = np.nonzero(near.frames[time, :, :, 0] > 127)
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(found, near.boxes[0, time], atol=1)


@pytest.mark.parametrize("ratio", [1.4, 2.0, 3.7])
def test_a_close_up_moves_pictures_and_boxes_alike(ratio):
    """At the strongest zooms half a pixel of the frame is many pixels of the close-up."""
    frames = np.zeros((1, 224, 224, 3), np.uint8)
    frames[0, 100:122, 60:82] = 255
    composed = Composed(frames, np.array([[[60, 100, 82, 122]]], np.float32), np.ones((1, 1), np.float32))
    near = close_up(_Draw(ratio), composed, count=1)
    inside = near.frames[0, :, :, 0].astype(float) / 255
    middle = [(inside.sum(axis) * (np.arange(224) + 0.5)).sum() / inside.sum() for axis in (0, 1)]
    box = near.boxes[0, 0]
    np.testing.assert_allclose(middle, (box[:2] + box[2:]) / 2, atol=0.3)
    np.testing.assert_allclose(np.sqrt(inside.sum()), box[2] - box[0], rtol=0.03)


def test_a_close_up_wider_than_the_frame_changes_nothing():
    box = np.array([[[10, 10, 50, 50]]], np.float32)
    composed = Composed(np.zeros((1, 64, 64, 3), np.uint8), box, np.ones((1, 1), np.float32))
    assert close_up(_Draw(), composed, count=1) is composed
    gone = Composed(composed.frames, np.full((1, 1, 4), np.nan, np.float32), np.zeros((1, 1), np.float32))
    assert close_up(_Draw(), gone, count=1) is gone


def test_close_ups_leave_other_clips_as_they_are_and_say_no_place():
    def clips(**change: float) -> ClipGenerator:
        return ClipGenerator(SynthConfig(size_px=64, num_frames=1, **change), AssetLibrary(), seed=3)

    def told_places(generator: ClipGenerator) -> list[bool]:
        things = [thing for number in range(40) for thing in generator.generate(number).objects]
        return [re.search(" (on|at|in) the ", thing.description) is not None for thing in things]

    never = clips(close_up_probability=0.0)
    np.testing.assert_array_equal(never.generate(0).frames, clips().generate(0).frames)
    assert any(told_places(never)) and not any(told_places(clips(close_up_probability=1.0)))
