"""What can be said about the things of a clip: colours, places, sizes, motion, relations; true and of one
only.

Knows boxes, nouns and colours; knows nothing of pixels beyond `colour_shares`. A statement has two
readings: strict,
which the thing meant must satisfy with a margin, and loose, which no other thing that the noun may mean
may satisfy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from elysium.data.synth.nouns import PATCH_NOUN, confusable

COLOUR_NAMES = (
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "brown",
    "black",
    "white",
    "gray",
)
CLEAR_SHARE = 0.5
SECOND_SHARE = 0.22
POSSIBLE_SHARE = 0.15


@dataclass(frozen=True)
class Seen:
    """A thing as words see it. `box`: xyxyn in frame 0. `shift`: net (dx, dy) of its middle over the
    frames in which it
    is there, `reach`: how far its middle ever gets from where it was. `colours`: names that may apply at
    all."""

    noun: str
    colour: str | None
    colours: frozenset[str]
    box: tuple[float, float, float, float]
    shift: tuple[float, float] = (0.0, 0.0)
    reach: float = 0.0
    pattern: str | None = None

    @property
    def cx(self) -> float:
        return (self.box[0] + self.box[2]) / 2

    @property
    def cy(self) -> float:
        return (self.box[1] + self.box[3]) / 2

    @property
    def area(self) -> float:
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


@dataclass(frozen=True)
class Statement:
    """`before`: words before the noun, `after`: words after it, and the two readings."""

    before: str
    after: str
    strict: Callable[[Seen], bool]
    loose: Callable[[Seen], bool]


# --- colours ---------------------------------------------------------------------------------------


def colour_shares(rgba: NDArray[np.uint8]) -> dict[str, float]:
    """Share of each colour name among the solid pixels of (h, w,
    4); what is between two names counts for none."""
    step = max(1, min(rgba.shape[:2]) // 28)
    small = np.ascontiguousarray(rgba[::step, ::step])
    hsv = cv2.cvtColor(small[..., :3], cv2.COLOR_RGB2HSV)[small[..., 3] > 127].astype(np.int32)
    if not len(hsv):
        return {}
    hue, saturation, value = hsv[:, 0], hsv[:, 1], hsv[:, 2]
    black = value < 50
    plain = ~black & (saturation < 40)
    vivid = ~black & (saturation > 75) & (value > 60)
    warm = vivid & (hue >= 5) & (hue < 20)
    shares = {
        "black": black, "white": plain & (value > 205), "gray": plain & (value > 65) & (value < 180),
        "brown": warm & (value < 170), "orange": warm & (hue >= 7) & (value >= 190) & (saturation > 120),
        "red": vivid & ((hue < 5) | (hue >= 173)) & (saturation > 120),
        "yellow": vivid & (hue >= 21) & (hue < 33) & (value > 130),
        "green": vivid & (hue >= 38) & (hue < 82), "blue": vivid & (hue >= 97) & (hue < 127),
        "purple": vivid & (hue >= 131) & (hue < 155),
        "pink": ~black & (saturation > 45) & (value > 170) & (((hue >= 155) & (hue < 174))
                | (((hue >= 170) | (hue < 4)) & (saturation < 120))),
    }  # fmt: skip
    return {name: float(mask.mean()) for name, mask in shares.items()}


def colour_of(shares: dict[str, float]) -> tuple[str | None, frozenset[str]]:
    """The clear colour or None, and all that might be said. A thing with no clear colour may be called
    anything that it has some of."""
    best, second = [*sorted(shares, key=lambda name: -shares[name]), None, None][:2]
    clear = best if best is not None and shares[best] >= CLEAR_SHARE else None
    if clear is not None and second is not None and shares[second] > SECOND_SHARE:
        clear = None
    return clear, frozenset(name for name, share in shares.items() if share >= POSSIBLE_SHARE)


def neighbours(colour: str) -> frozenset[str]:
    """Colours that people may call by this name as well."""
    table = {
        "red": {"orange", "pink", "brown"}, "orange": {"red", "yellow", "brown"}, "yellow": {"orange"},
        "blue": {"purple"}, "purple": {"blue", "pink"}, "pink": {"red", "purple"}, "brown": {"orange",
        "red", "black"},
        "black": {"gray", "brown"}, "white": {"gray"}, "gray": {"white", "black"},
    }  # fmt: skip
    return frozenset(table.get(colour, set()) | {colour})


def colour_statement(colour: str) -> Statement:
    allowed = neighbours(colour)
    return Statement(
        colour, "", lambda s: s.colour == colour, lambda s: bool(s.colours & allowed) or not s.colours
    )


# --- places, motion, size, relations ---------------------------------------------------------------


def _place(after: str, value: Callable[[Seen], float], low: bool) -> Statement:
    if low:
        return Statement("", after, lambda s: value(s) < 0.4, lambda s: value(s) < 0.53)
    return Statement("", after, lambda s: value(s) > 0.6, lambda s: value(s) > 0.47)


def place_statements() -> list[Statement]:
    """Places in the frame: sides, corners, middle."""
    left, right = _place("on the left", lambda s: s.cx, True), _place("on the right", lambda s: s.cx, False)
    top, bottom = _place("at the top", lambda s: s.cy, True), _place("at the bottom", lambda s: s.cy, False)
    middle = Statement(
        "", "in the middle",
        lambda s: max(abs(s.cx - 0.5), abs(s.cy - 0.5)) < 0.12, lambda s: max(abs(s.cx - 0.5),
        abs(s.cy - 0.5)) < 0.25,
    )  # fmt: skip
    corners = [
        _both(f"in the {v} {h}" + (" corner" if corner else ""), vertical, horizontal)
        for v, vertical in (("top", top), ("bottom", bottom))
        for h, horizontal in (("left", left), ("right", right))
        for corner in (False, True)
    ]
    return [left, right, top, bottom, middle, *corners]


def _both(after: str, first: Statement, second: Statement) -> Statement:
    return Statement("", after, lambda s: first.strict(s) and second.strict(s),
                     lambda s: first.loose(s) and second.loose(s))  # fmt: skip


def motion_statements() -> list[Statement]:
    """Motion in the picture over the clip (camera motion included)."""

    def toward(after: str, along: Callable[[Seen], float], across: Callable[[Seen], float]) -> Statement:
        return Statement(
            "", after,
            lambda s: along(s) > 0.12 and along(s) > 1.7 * abs(across(s)) and along(s) > 0.7 * s.reach,
            lambda s: along(s) > 0.03,
        )  # fmt: skip

    right, left, down, up = (_along(0, 1.0), _along(0, -1.0), _along(1, 1.0), _along(1, -1.0))
    return [
        toward("moving to the right", right, down), toward("moving right", right, down),
        toward("moving to the left", left, down), toward("moving left", left, down),
        toward("moving down", down, right), toward("moving up", up, right),
        Statement("", "that is not moving", lambda s: s.reach < 0.015, lambda s: s.reach < 0.06),
        Statement("", "that is moving", lambda s: s.reach > 0.15, lambda s: s.reach > 0.03),
    ]  # fmt: skip


def _along(axis: int, sign: float) -> Callable[[Seen], float]:
    return lambda s: sign * s.shift[axis]


def rank_statements(me: Seen, others: list[Seen]) -> list[Statement]:
    """Superlatives among the things of a kind (`others` is not empty); true of `me` and so of no other."""
    found: list[str] = []
    areas = [o.area for o in others]
    if me.area > 1.4 * max(areas):
        found += ["biggest", "largest"]
    if 1.4 * me.area < min(areas):
        found += ["smallest"]
    for word, opposite, mine, values in (
        ("leftmost", "rightmost", me.cx, [o.cx for o in others]),
        ("topmost", "lowest", me.cy, [o.cy for o in others]),
    ):
        if mine < min(values) - 0.07:
            found.append(word)
        if mine > max(values) + 0.07:
            found.append(opposite)
    return [Statement(word, "", lambda s: s is me, lambda s: s is me) for word in found]


def relation_statements(me: Seen, everything: list[Seen]) -> list[Statement]:
    """Where the thing is against another that its bare noun names alone."""
    found = []
    for anchor in everything:
        if anchor is me or confusable(anchor.noun, me.noun) or anchor.noun == PATCH_NOUN:
            continue
        if any(o is not anchor and confusable(o.noun, anchor.noun) for o in everything):
            continue
        found += _relations(anchor)
    return found


def _relations(anchor: Seen) -> list[Statement]:
    name, x, y = anchor.noun, anchor.cx, anchor.cy
    near = 0.3
    return [
        Statement("", f"to the left of the {name}", lambda s: s.cx < x - 0.12 and abs(s.cy - y) < near,
                  lambda s: s.cx < x),
        Statement("", f"to the right of the {name}", lambda s: s.cx > x + 0.12 and abs(s.cy - y) < near,
                  lambda s: s.cx > x),
        Statement("", f"above the {name}", lambda s: s.cy < y - 0.12 and abs(s.cx - x) < near,
            lambda s: s.cy < y),
        Statement("", f"below the {name}", lambda s: s.cy > y + 0.12 and abs(s.cx - x) < near,
            lambda s: s.cy > y),
    ]  # fmt: skip


# --- expressions -----------------------------------------------------------------------------------


def phrase(noun: str, statements: list[Statement], article: bool = True) -> str:
    """Words before, noun, words after: "the red car on the left"."""
    before = [s.before for s in statements if s.before]
    after = [s.after for s in statements if s.after]
    return " ".join([*(["the"] if article else []), *before, noun, *after])


def refers(me: Seen, noun: str, statements: list[Statement], everything: list[Seen]) -> bool:
    """Whether noun and statements are true of `me` alone; "object" and "thing" may mean anything."""
    if not all(s.strict(me) for s in statements):
        return False
    anything = noun in ("object", "thing")
    return not any(
        (anything or confusable(o.noun, noun)) and all(s.loose(o) for s in statements)
        for o in everything
        if o is not me
    )


def expressions(rng: np.random.Generator, number: int, everything: list[Seen], most: int = 6) -> list[str]:
    """Up to `most` expressions that mean thing `number` of `everything` visible in frame 0; may be empty.
    The plain ones come first, then a random choice of styles."""
    me = everything[number]
    if me.noun == PATCH_NOUN:
        return []
    colour = [colour_statement(me.colour)] if me.colour else []
    pattern = [_pattern_statement(me.pattern)] if me.pattern else []
    single = [[], colour, pattern, colour + pattern] if pattern else [[], colour]
    plain = [phrase(me.noun, s, article) for s in single for article in (False, True)
             if refers(me, me.noun, s, everything)]  # fmt: skip
    kin = [o for o in everything if o is not me and confusable(o.noun, me.noun)]
    details = [*place_statements(), *motion_statements(), *relation_statements(me, everything)]
    if kin:
        details += rank_statements(me, kin) * 2
    rich = []
    for detail in details:
        for adjectives in (colour + pattern, []):
            if refers(me, me.noun, [*_ordered(detail, adjectives)], everything):
                rich.append(phrase(me.noun, _ordered(detail, adjectives)))
    rich += _anonymous(me, everything, colour)
    return _chosen(rng, plain, rich, most)


def _ordered(detail: Statement, adjectives: list[Statement]) -> list[Statement]:
    return [detail, *adjectives]


def _pattern_statement(pattern: str) -> Statement:
    return Statement(pattern, "", lambda s: s.pattern == pattern, lambda s: s.pattern is not None)


def _anonymous(me: Seen, everything: list[Seen], colour: list[Statement]) -> list[str]:
    """ "the red object", "the biggest thing": expressions without the thing's own noun."""
    others = [o for o in everything if o is not me]
    found = [phrase("object", colour)] if colour and refers(me, "object", colour, everything) else []
    if others:
        for detail in [*rank_statements(me, others), *motion_statements()]:
            if refers(me, "object", [detail], everything):
                found.append(phrase("object", [detail]))
    return found


def _chosen(rng: np.random.Generator, plain: list[str], rich: list[str], most: int) -> list[str]:
    plain, rich = list(dict.fromkeys(plain)), list(dict.fromkeys(rich))
    first = [plain[int(k)] for k in rng.permutation(len(plain))[: max(2, most - len(rich))]]
    rest = [rich[int(k)] for k in rng.permutation(len(rich))[: most - len(first)]]
    return [*first, *rest]


def describe(rng: np.random.Generator, me: Seen, by_place: bool = True) -> str:
    """One phrase that describes a thing for itself: colour, noun, then motion or, unless told not to, place."""
    words = [w for w in (me.colour, me.pattern, me.noun) if w]
    article = "an" if words[0][0] in "aeiou" and not words[0].startswith(("uni", "ufo", "eu")) else "a"
    moving = [s.after for s in motion_statements()[:6] if s.strict(me)]
    still = [s.after for s in place_statements()[:5] if s.strict(me)]
    placed = by_place and bool(still) and rng.random() < 0.6
    tail = moving[:1] or ([still[int(rng.integers(len(still)))]] if placed else [])
    return " ".join([article, *words, *tail])
