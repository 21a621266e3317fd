"""From a number to a clip: what is in it, how it moves, how it looks, what can be said.

Knows the other files of this folder; knows nothing of tensors, tokens or training. A clip depends on
(config, assets, seed, index) only, so any process can make any clip.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from elysium.data.synth import motion, procedural, words
from elysium.data.synth.appearance import draw_look, draw_wobble, drifting_gains, lit, photo_crop, recoloured
from elysium.data.synth.assets import AssetLibrary, Cutout
from elysium.data.synth.close_up import close_up
from elysium.data.synth.layout import Item, Placed, free_place, sprite_matrices, still_layer
from elysium.data.synth.nouns import PATCH_NOUN, REGION_NOUN, confusable, photo_nouns
from elysium.data.synth.render import (
    Composed,
    Layer,
    Look,
    compose,
    make_sprite,
    owners,
    visible_shares,
)
from elysium.errors import InputError

Image = NDArray[np.uint8]
LOWEST_VISIBLE = 0.2
FIRST_VISIBLE = 0.6
LAYOUT_TRIES = 4
CANVAS = 1.5
PATCH_PX = 96
COLOURLESS = ("person", "hand", "tongue", "nose")  # nobody says "the pink man"
GENTLE_SHARE = 0.45


@dataclass(frozen=True)
class SynthConfig:
    """What clips are like. Probabilities are per clip unless said otherwise; `*_share` per object.

    `size_px`: side of the square frames. `min_scale`, `max_scale`: square root of the box area as a share
    of the side. `motion`: factor on all speeds. `distractor_probability`: another thing of the same kind.
    `procedural_probability`: share of drawn shapes and backgrounds even when assets are given.
    `patch_share`: things
    that are pieces of other photos, named "patch", without expressions. `region_probability`: one more
    object that is a piece of the background (`is_background`), which moves with the camera alone.
    `close_up_probability`: the clip is seen through a window around one of its things.
    """

    size_px: int = 192
    num_frames: int = 8
    min_objects: int = 1
    max_objects: int = 5
    min_scale: float = 0.08
    max_scale: float = 0.6
    motion: float = 1.0
    occlusion_probability: float = 0.3
    leave_probability: float = 0.15
    distractor_probability: float = 0.35
    camera_probability: float = 0.6
    blur_probability: float = 0.35
    procedural_probability: float = 0.15
    patch_share: float = 0.22
    one_kind_probability: float = 0.12
    region_probability: float = 0.1
    close_up_probability: float = 0.0

    def __post_init__(self) -> None:
        if self.size_px < 32 or self.num_frames < 1:
            raise InputError(
                f"size_px {self.size_px} or num_frames {self.num_frames} is too small",
                "Use at least 32 and 1",
            )
        if not 1 <= self.min_objects <= self.max_objects <= 40:
            raise InputError(
                f"min_objects {self.min_objects} and max_objects {self.max_objects} do not fit",
                "They should satisfy 1 <= min_objects <= max_objects <= 40",
            )
        if not 0 < self.min_scale <= self.max_scale <= 1:
            raise InputError(
                f"min_scale {self.min_scale} and max_scale {self.max_scale} do not fit",
                "They should satisfy 0 < min_scale <= max_scale <= 1",
            )


@dataclass
class SynthObject:
    """One thing of a clip.

    `boxes_xyxyn`: (T, 4) float32 in 0..1, the extent of its solid pixels within the frame, not reduced by
    what covers it; NaN where it is absent: outside, or less than a fifth of its pixels are to be seen.
    `visible_fraction`: (T,)
    share of its pixels in the frame and uncovered. `expressions`: each means this thing alone, judged on
    frame 0 (those about motion: on the clip). `description`: one phrase.
    """

    noun: str
    colour: str | None
    boxes_xyxyn: NDArray[np.float32]
    visible_fraction: NDArray[np.float32]
    expressions: list[str]
    description: str
    is_background: bool = False


@dataclass
class SynthClip:
    """`frames`: (T, H, W, 3) uint8 RGB; `objects`: what is in it."""

    frames: Image
    objects: list[SynthObject]


class ClipGenerator:
    """Makes clips by number.

    >>> clip = ClipGenerator(SynthConfig(size_px=64, num_frames=2), AssetLibrary()).generate(0)
    >>> clip.frames.shape, clip.objects[0].boxes_xyxyn.shape
    ((2, 64, 64, 3), (2, 4))
    """

    def __init__(self, config: SynthConfig, assets: AssetLibrary, seed: int = 0) -> None:
        self.config = config
        self.assets = assets
        self.seed = seed
        self._by_set = _group(assets.cutouts)
        side = config.size_px + 48
        bank = np.random.default_rng(7).normal(0, 1, (side, side, 3))
        self._noise_bank = bank.astype(np.float32)

    def generate(self, index: int) -> SynthClip:
        """Clip number `index` (>= 0): the same in every process."""
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, index]))
        config = self.config
        camera = motion.still_camera(config.num_frames)
        # Neighbouring frames of a film differ little, sampled ones much: both kinds of clip are needed.
        pace = config.motion * (rng.uniform(0.08, 0.6) if rng.random() < GENTLE_SHARE else 1.0)
        if rng.random() < config.camera_probability:
            camera = motion.camera_path(rng, config.num_frames, pace)
        look = draw_look(rng, config.num_frames, config.blur_probability, self._noise_bank)
        items = self._items(rng)
        background = self._background(rng, [item.noun for item in items])
        placed = self._layout(rng, items, look)
        pixels = camera.copy()
        pixels[:, :, 2] *= config.size_px
        layers, paths = self._layers(rng, placed, pixels, pace)
        layers += self._occluders(rng, layers, paths, pixels)
        composed = compose(background, pixels, layers, look, config.size_px, rng)
        near = config.close_up_probability > 0 and rng.random() < config.close_up_probability
        if near:
            composed = close_up(rng, composed, len(placed))
        objects = _objects(rng, [p.item for p in placed], composed, config.size_px, by_place=not near)
        if rng.random() < config.region_probability and not near:
            objects += _region(rng, camera, objects, composed.frames[0])
        return SynthClip(composed.frames, objects)

    # --- what is in it
    # ----------------------------------------------------------------------------------------------

    def _items(self, rng: np.random.Generator) -> list[Item]:
        config = self.config
        count = int(rng.integers(config.min_objects, config.max_objects + 1))
        first = self._item(rng)
        if rng.random() < config.one_kind_probability:
            return [first, *(self._same_kind(rng, first) for _ in range(count - 1))]
        items = [first]
        if count > 1 and rng.random() < config.distractor_probability:
            items += [self._same_kind(rng, first) for _ in range(int(rng.integers(1, min(count, 4))))]
        while len(items) < count:
            items.append(self._item(rng))
        items = [items[int(k)] for k in rng.permutation(len(items))]
        return items

    def _item(self, rng: np.random.Generator) -> Item:
        config = self.config
        if rng.random() < config.patch_share:
            return Item(procedural.patch(rng, self._texture(rng, PATCH_PX), PATCH_PX), PATCH_NOUN)
        if not self._by_set or rng.random() < config.procedural_probability:
            return _shape_item(procedural.draw_shape(rng))
        names, weights = _set_weights(tuple(self._by_set))
        nouns = self._by_set[names[int(rng.choice(len(names), p=weights))]]
        counts = np.sqrt([len(members) for members in nouns.values()])
        noun = list(nouns)[int(rng.choice(len(counts), p=counts / counts.sum()))]
        members = nouns[noun]
        return Item(recoloured(rng, members[int(rng.integers(len(members)))].rgba), noun)

    def _same_kind(self, rng: np.random.Generator, like: Item) -> Item:
        if rng.random() < 0.25:
            return Item(like.rgba, like.noun, like.colour, like.colours, like.pattern)
        if like.noun == PATCH_NOUN:
            return Item(procedural.patch(rng, self._texture(rng, PATCH_PX), PATCH_PX), PATCH_NOUN)
        members = [cutout for nouns in self._by_set.values() for cutout in nouns.get(like.noun, [])]
        if like.colour is None and members:
            return Item(recoloured(rng, members[int(rng.integers(len(members)))].rgba), like.noun)
        return _shape_item(procedural.draw_shape(rng, like.noun))

    def _texture(self, rng: np.random.Generator, side: int) -> Image:
        photos = self.assets.photos
        if not photos or rng.random() < self.config.procedural_probability:
            return procedural.texture(rng, side)
        photo = photos[int(rng.integers(len(photos)))]
        return photo_crop(rng, photo, side, smallest=0.12, largest=0.6)

    def _background(self, rng: np.random.Generator, nouns: list[str]) -> Image:
        """A background that shows nothing by the name of a thing of the clip,
        as far as its file name tells."""
        side = int(self.config.size_px * CANVAS) // 2 * 2
        photos = self.assets.photos
        if not photos or rng.random() < self.config.procedural_probability:
            return procedural.texture(rng, side)
        for number in rng.integers(len(photos), size=6):
            shown = photo_nouns(self.assets.photo_names[int(number)])
            if not any(confusable(noun, other) for noun in nouns for other in shown):
                return photo_crop(rng, photos[int(number)], side, smallest=0.35, largest=1.0)
        return procedural.texture(rng, side)

    # --- where it is
    # ------------------------------------------------------------------------------------------------

    def _layout(self, rng: np.random.Generator, items: list[Item], look: Look) -> list[Placed]:
        """Things placed so that most of each is to be seen in frame 0."""
        for item in items:
            if not item.colours:
                colour_shares = words.colour_shares(lit(item.rgba, look))
                item.colour, item.colours = words.colour_of(colour_shares)
                if item.noun == PATCH_NOUN or any(confusable(item.noun, other) for other in COLOURLESS):
                    item.colour = None
        best: list[Placed] = []
        for _ in range(LAYOUT_TRIES):
            placed = self._place_all(rng, items)
            layers = [still_layer(p, self.config.size_px) for p in placed]
            shares = visible_shares(owners(layers, 0, self.config.size_px), layers, 0)
            least = 0.35 if rng.random() < 0.08 else FIRST_VISIBLE
            kept = [p for p, share in zip(placed, shares, strict=True) if share >= least]
            best = kept if len(kept) > len(best) else best
            if len(best) == len(items):
                break
        return best or placed[-1:]

    def _place_all(self, rng: np.random.Generator, items: list[Item]) -> list[Placed]:
        config = self.config
        placed: list[Placed] = []
        taken: list[NDArray[np.float64]] = []
        crowd = max(1.0, np.sqrt(len(items)) / 1.3)
        for item in items:
            top = max(config.min_scale, config.max_scale / crowd)
            side = float(np.exp(rng.uniform(np.log(config.min_scale), np.log(top))))
            stretch = np.exp(rng.normal(0, 0.04 if item.pattern or item.colour else 0.12))
            h, w = item.rgba.shape[:2]
            unit = side * config.size_px / np.sqrt(w * h)
            flip = -1.0 if rng.random() < 0.5 else 1.0
            scale_xy = np.array([flip * unit * np.sqrt(stretch), unit / np.sqrt(stretch)])
            angle = rng.uniform(-np.pi, np.pi) if rng.random() < 0.12 else rng.normal(0, np.deg2rad(9))
            half = np.abs(scale_xy) * [w, h] / config.size_px / 2
            centre = free_place(rng, half, taken)
            taken.append(np.concatenate([centre - half, centre + half]))
            sprite = make_sprite(item.rgba, feather=float(rng.choice([0.0, 0.6, 1.0])))
            placed.append(
                Placed(item, sprite, scale_xy, float(angle), (float(centre[0]), float(centre[1])), side)
            )
        return placed

    def _layers(
        self, rng: np.random.Generator, placed: list[Placed], camera: NDArray[np.float64], pace: float
    ) -> tuple[list[Layer], list[NDArray[np.float64]]]:
        config = self.config
        leaver = int(rng.integers(len(placed))) if rng.random() < config.leave_probability else -1
        blurred = rng.random() < config.blur_probability
        shadows = (rng.uniform(-0.03, 0.03), rng.uniform(0.005, 0.04)) if rng.random() < 0.35 else None
        layers, paths = [], []
        for number, thing in enumerate(placed):
            path = motion.object_trajectory(
                rng, config.num_frames, thing.centre, thing.side, pace, number == leaver
            )
            layers.append(Layer(
                thing.sprite, sprite_matrices(thing, path, camera, config.size_px), drifting_gains(rng,
                    config.num_frames),
                shutter=float(rng.uniform(0.2, 0.8)) if blurred else 0.0,
                shadow=None if shadows is None else (*shadows, float(rng.uniform(0.2, 0.55))),
                wobble=draw_wobble(rng) if rng.random() < 0.2 and thing.item.pattern is None else None,
            ))  # fmt: skip
            paths.append(path.centres)
        return layers, paths

    def _occluders(
        self, rng: np.random.Generator, layers: list[Layer], paths: list[NDArray[np.float64]],
        camera: NDArray[np.float64],
    ) -> list[Layer]:  # fmt: skip
        """A piece that nobody asks about, which crosses a thing's path but covers nothing much in frame 0."""
        config = self.config
        if rng.random() >= config.occlusion_probability or config.num_frames < 3:
            return []
        number = int(rng.integers(len(layers)))
        texture = self._texture(rng, PATCH_PX)
        if rng.random() < 0.5:
            texture = np.ascontiguousarray(texture[:, : int(PATCH_PX * rng.uniform(0.12, 0.35))])
            rgba = np.dstack([texture, np.full(texture.shape[:2], 255, np.uint8)])
            side = float(rng.uniform(0.25, 0.45))
        else:
            rgba = procedural.patch(rng, texture, PATCH_PX)
            side = float(rng.uniform(0.15, 0.4))
        h, w = rgba.shape[:2]
        unit = side * config.size_px / np.sqrt(w * h)
        thing = Placed(Item(rgba, PATCH_NOUN), make_sprite(rgba, 0.6), np.array([unit, unit]),
                        float(rng.normal(0, 0.25)), (0.5, 0.5), side)  # fmt: skip
        for _ in range(4):
            centres = motion.crossing(rng, paths[number], side)
            still = np.ones(config.num_frames)
            path = motion.Trajectory(centres, still, still * 0, still)
            layer = Layer(
                thing.sprite,
                sprite_matrices(thing, path, camera, config.size_px),
                drifting_gains(rng, config.num_frames),
            )
            shares = visible_shares(owners([*layers, layer], 0, config.size_px), [*layers, layer], 0)
            if (shares[:-1] >= FIRST_VISIBLE).all():
                return [layer]
        return []


# --- helpers without state -------------------------------------------------------------------------


def _group(cutouts: list[Cutout]) -> dict[str, dict[str, list[Cutout]]]:
    grouped: dict[str, dict[str, list[Cutout]]] = defaultdict(lambda: defaultdict(list))
    for cutout in cutouts:
        grouped[cutout.set_name][cutout.noun].append(cutout)
    return {name: dict(nouns) for name, nouns in sorted(grouped.items())}


def _set_weights(names: tuple[str, ...]) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Sprites are many but drawn; photographic sets count for more."""
    weights = np.array([0.7 if "emoji" in name or "sprite" in name else 1.0 for name in names])
    return names, weights / weights.sum()


def _shape_item(shape: procedural.Shape) -> Item:
    colours = frozenset({shape.colour, *([shape.second_colour] if shape.second_colour else [])})
    return Item(shape.rgba, shape.noun, shape.colour, colours, shape.pattern)


# --- what is true of it ----------------------------------------------------------------------------


def _objects(
    rng: np.random.Generator, items: list[Item], composed: Composed, size: int, by_place: bool
) -> list[SynthObject]:
    count = len(items)
    boxes, shares = composed.boxes[:count] / size, composed.seen[:count].copy()
    gone = ~(shares >= LOWEST_VISIBLE) | np.isnan(boxes).any(2)
    boxes[gone] = np.nan
    seen = [_as_seen(item, box) for item, box in zip(items, boxes, strict=True)]
    present = [k for k in range(count) if seen[k] is not None]
    facts = [fact for fact in seen if fact is not None]
    # Occluders are nobody's object, but "the biggest object" has to reckon with one that is in the first
    # frame.
    strangers = [_as_seen(Item(items[0].rgba, PATCH_NOUN), box / size) for box in composed.boxes[count:]]
    facts += [stranger for stranger in strangers if stranger is not None]
    objects = []
    for place, k in enumerate(present):
        objects.append(SynthObject(
            items[k].noun, items[k].colour, boxes[k], shares[k],
            words.expressions(rng, place, facts), words.describe(rng, facts[place], by_place),
        ))  # fmt: skip
    return objects


def _as_seen(item: Item, boxes: NDArray[np.float32]) -> words.Seen | None:
    if np.isnan(boxes[0]).any():
        return None
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    there = middles[~np.isnan(middles).any(1)]
    shift = there[-1] - there[0]
    # In a single picture nothing can be said about motion: NaN makes every statement about it false.
    reach = float(np.hypot(*(there - there[0]).T).max()) if len(boxes) > 1 else float("nan")
    x1, y1, x2, y2 = (float(v) for v in boxes[0])
    net = (float(shift[0]), float(shift[1]))
    return words.Seen(item.noun, item.colour, item.colours, (x1, y1, x2, y2), net, reach, item.pattern)


def _region(
    rng: np.random.Generator, camera: NDArray[np.float64], objects: list[SynthObject], frame: Image
) -> list[SynthObject]:
    """A textured piece of the background, which moves as the camera does; none if no place is free."""
    side = float(np.exp(rng.uniform(np.log(0.12), np.log(0.35))))
    for _ in range(6):
        x, y = rng.uniform(0.02, 0.98 - side, 2)
        box = np.array([x, y, x + side, y + side])
        a, b, c, d = (box * len(frame)).astype(int)
        plain = cv2.blur(cv2.cvtColor(frame[b:d, a:c], cv2.COLOR_RGB2GRAY), (3, 3)).std() < 18
        if plain or any(_covers(o.boxes_xyxyn, box) for o in objects):
            continue
        middle, scale = box[:2] + side / 2, np.sqrt(np.abs(np.linalg.det(camera[:, :, :2])))
        centres = camera[:, :, :2] @ middle + camera[:, :, 2]
        half = (side / 2 * scale)[:, None]
        full = np.concatenate([centres - half, centres + half], 1)
        boxes = full.clip(0, 1)
        share = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) / np.prod(full[:, 2:] - full[:, :2], axis=1)
        boxes[share < LOWEST_VISIBLE] = np.nan
        return [SynthObject(REGION_NOUN, None, boxes.astype(np.float32), share.astype(np.float32), [],
                            "a region of the background", True)]  # fmt: skip
    return []


def _covers(boxes: NDArray[np.float32], region: NDArray[np.float64]) -> bool:
    """Whether a thing ever lies over more than a quarter of the region as it is in frame 0."""
    there = boxes[~np.isnan(boxes).any(1)]
    common = np.minimum(there[:, 2:], region[2:]) - np.maximum(there[:, :2], region[:2])
    area = np.prod(region[2:] - region[:2])
    return bool((np.prod(np.maximum(common, 0), axis=1) > 0.25 * area).any())
