"""The things that clips are made from: cut-outs with names, and photos.

Knows files, splits and the cache; knows nothing of clips. The folder given to `AssetLibrary.from_folder`
is laid out like this (any part may be missing; what is there is used):

    sprites/<set>/index.json       list of {file, name, group, subgroup}; images with alpha, `file` relative
    cutouts/<set>/index.json       list (or {"items": list}) of {file, name | category}; images with alpha
    photos/index.json              list of {file}; the images lie in photos/backgrounds/

A folder in any other shape with the same index files works too: nothing is tied to particular sets.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from elysium.data.synth.nouns import plain_noun, sprite_noun
from elysium.errors import SourceError

Split = Literal["train", "val"]
Image = NDArray[np.uint8]

VAL_CUTOUTS = 0.12
VAL_PHOTOS = 0.15
SMALL_CATEGORY = 4
PHOTO_PX = 480
MIN_SIDE_PX = 12
CACHE_VERSION = 2
# An automatic mask that fills its rectangle has taken the background with it, except for things that are
# rectangles.
FULLEST_MASK = 0.93
RECTANGULAR = frozenset(
    """dollar bill|banknote|laptop|book|tv|microwave|refrigerator|cellphone|oven|bed|keyboard|brick
    envelope|door
    box|notebook|suitcase|table|sandwich|pizza|picture|camera|metronome|accordion""".replace("\n", "|")
    .replace(" " * 4, "")
    .split("|")
)


@dataclass(frozen=True)
class Cutout:
    """One thing without its background.

    `rgba`: (h, w, 4) uint8, cropped to its alpha, longest side at most `cutout_px`. `noun`: what it is
    called. `source`: "<set>/<file>", unique.
    """

    rgba: Image
    noun: str
    source: str

    @property
    def set_name(self) -> str:
        return self.source.split("/", 1)[0]


@dataclass
class AssetLibrary:
    """Cut-outs and photos of one split. Empty (as from `AssetLibrary()`): clips are procedural only."""

    cutouts: list[Cutout] = field(default_factory=list)
    photos: list[Image] = field(default_factory=list)
    photo_names: list[str] = field(default_factory=list)

    @property
    def nouns(self) -> list[str]:
        """The nouns of the cut-outs, sorted, each once."""
        return sorted({cutout.noun for cutout in self.cutouts})

    @classmethod
    def from_folder(
        cls,
        path: Path | str | None,
        split: Split = "train",
        cutout_px: int = 112,
        seed: int = 0,
        cache: Path | str | None = None,
    ) -> AssetLibrary:
        """Load the assets of one split.

        Args:
            path: folder as in the module's docstring, or None for an empty library.
            split: "val" holds about 12 % of the cut-outs of every noun with at least 4 of them and 15 % of
            the
                photos, "train" the others; the cut-outs of smaller nouns are in both.
            cutout_px: longest side that cut-outs are reduced to.
            seed: chooses another split; the same seed gives the same split anywhere.
            cache: an .npz file beside which nothing is decoded again; written when missing or out of date.

        Raises:
            SourceError: the folder is missing, or holds no asset at all.
        """
        if path is None:
            return cls()
        root = Path(path)
        if not root.is_dir():
            raise SourceError(
                f"The asset folder {root} does not exist", "Give the folder that holds cutouts/"
            )
        everything = _load_or_build(root, cutout_px, None if cache is None else Path(cache))
        if not everything.cutouts and not everything.photos:
            raise SourceError(
                f"No assets were found in {root}",
                "It should hold sprites/, cutouts/ or photos/ with an index.json",
            )
        return everything.part(split, seed)

    def part(self, split: Split, seed: int = 0) -> AssetLibrary:
        """The cut-outs and photos of one split of this library (shares the pixels)."""
        counts: dict[str, int] = defaultdict(int)
        for cutout in self.cutouts:
            counts[cutout.noun] += 1
        held = _held_out([c.source for c in self.cutouts if counts[c.noun] >= SMALL_CATEGORY], VAL_CUTOUTS,
            seed,
                         [c.noun for c in self.cutouts if counts[c.noun] >= SMALL_CATEGORY])  # fmt: skip
        held_photos = _held_out(self.photo_names, VAL_PHOTOS, seed, ["photo"] * len(self.photo_names))
        wanted = split == "val"
        photos = [k for k, name in enumerate(self.photo_names) if (name in held_photos) == wanted]
        return AssetLibrary(
            [c for c in self.cutouts if counts[c.noun] < SMALL_CATEGORY or (c.source in held) == wanted],
            [self.photos[k] for k in photos],
            [self.photo_names[k] for k in photos],
        )


def _held_out(names: list[str], share: float, seed: int, groups: list[str]) -> set[str]:
    """The names held out: in every group the `share` (at least one) with the smallest hashes."""
    members: dict[str, list[str]] = defaultdict(list)
    for name, group in zip(names, groups, strict=True):
        members[group].append(name)
    held: set[str] = set()
    for group_names in members.values():
        ordered = sorted(group_names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).hexdigest())
        held.update(ordered[: max(1, round(share * len(ordered)))])
    return held


# --- reading the folder ----------------------------------------------------------------------------


def _entries(root: Path) -> list[tuple[Path, str, str]]:
    """All (file, noun, source) of a folder, in a stable order; what has no good noun is left out."""
    found: list[tuple[Path, str, str]] = []
    for index in sorted([*root.glob("sprites/*/index.json"), *root.glob("cutouts/*/index.json")]):
        data: Any = json.loads(index.read_text(encoding="utf-8"))
        for item in data["items"] if isinstance(data, dict) else data:
            if "group" in item:
                noun = sprite_noun(item["name"], item["group"], item.get("subgroup", ""))
            else:
                noun = plain_noun(item.get("name") or item.get("category") or "")
            if noun and "background" not in noun:
                found.append((index.parent / item["file"], noun, f"{index.parent.name}/{item['file']}"))
    return found


def _read_cutout(path: Path, cutout_px: int) -> Image | None:
    """Read, crop to the alpha, reduce; None where the file is unreadable or too little is left."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3 or image.shape[2] != 4:
        return None
    ys, xs = np.flatnonzero((image[..., 3] > 127).any(1)), np.flatnonzero((image[..., 3] > 127).any(0))
    if not len(ys) or min(len(ys), len(xs)) < MIN_SIDE_PX:
        return None
    image = image[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    scale = cutout_px / max(image.shape[:2])
    if scale < 1:
        size = (max(2, round(image.shape[1] * scale)), max(2, round(image.shape[0] * scale)))
        # Colours under zero alpha are arbitrary and must not bleed into the edge: reduce premultiplied.
        alpha = image[..., 3:].astype(np.float32) / 255
        small = cv2.resize(
            np.concatenate([image[..., :3] * alpha, alpha], 2), size, interpolation=cv2.INTER_AREA
        )
        colour = small[..., :3] / np.maximum(small[..., 3:], 1e-3)
        image = np.concatenate([colour, small[..., 3:] * 255], 2).clip(0, 255).round().astype(np.uint8)
    return np.ascontiguousarray(cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA)).astype(np.uint8)


def _read_photos(root: Path) -> tuple[list[Image], list[str]]:
    photos, names = [], []
    for path in sorted((root / "photos").rglob("*")):
        if path.suffix.lower() not in {".jpg", ".jpeg", ".png", ".webp"}:
            continue
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            continue
        scale = PHOTO_PX / min(image.shape[:2])
        if scale < 1:
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        photos.append(np.ascontiguousarray(image[..., ::-1]).astype(np.uint8))
        names.append(path.name)
    return photos, names


def _build(root: Path, cutout_px: int) -> AssetLibrary:
    cutouts = []
    for path, noun, source in _entries(root):
        rgba = _read_cutout(path, cutout_px)
        if rgba is not None and (noun in RECTANGULAR or (rgba[..., 3] > 127).mean() <= FULLEST_MASK):
            cutouts.append(Cutout(rgba, noun, source))
    return AssetLibrary(cutouts, *_read_photos(root))


# --- the cache -------------------------------------------------------------------------------------


def _fingerprint(root: Path, cutout_px: int) -> str:
    """Changes when the entries, their nouns or the size change."""
    entries = [f"{source}={noun}" for _, noun, source in _entries(root)]
    photos = sorted(path.name for path in (root / "photos").rglob("*") if path.is_file())
    text = "\n".join([str(CACHE_VERSION), str(cutout_px), *entries, *photos])
    return hashlib.sha256(text.encode()).hexdigest()


def _load_or_build(root: Path, cutout_px: int, cache: Path | None) -> AssetLibrary:
    if cache is None:
        return _build(root, cutout_px)
    cache = cache if cache.suffix == ".npz" else cache.with_suffix(".npz")
    fingerprint = _fingerprint(root, cutout_px)
    if cache.is_file():
        library = _load_cache(cache, fingerprint)
        if library is not None:
            return library
    library = _build(root, cutout_px)
    _save_cache(cache, library, fingerprint)
    return library


def _save_cache(cache: Path, library: AssetLibrary, fingerprint: str) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    temporary = cache.with_name(f".{cache.name}.{np.random.SeedSequence().entropy}.npz")
    np.savez(
        temporary,
        fingerprint=np.array(fingerprint),
        cutout_shapes=np.array([c.rgba.shape for c in library.cutouts], np.int32).reshape(-1, 3),
        cutout_pixels=_flat([c.rgba for c in library.cutouts]),
        nouns=np.array([c.noun for c in library.cutouts], np.str_),
        sources=np.array([c.source for c in library.cutouts], np.str_),
        photo_shapes=np.array([p.shape for p in library.photos], np.int32).reshape(-1, 3),
        photo_pixels=_flat(library.photos),
        photo_names=np.array(library.photo_names, np.str_),
    )
    temporary.replace(cache)


def _flat(images: list[Image]) -> Image:
    return np.concatenate([image.ravel() for image in images]) if images else np.zeros(0, np.uint8)


def _load_cache(cache: Path, fingerprint: str) -> AssetLibrary | None:
    try:
        with np.load(cache, allow_pickle=False) as data:
            if str(data["fingerprint"]) != fingerprint:
                return None
            images = _split_flat(data["cutout_pixels"], data["cutout_shapes"])
            cutouts = [
                Cutout(rgba, str(noun), str(source))
                for rgba, noun, source in zip(images, data["nouns"], data["sources"], strict=True)
            ]
            photos = _split_flat(data["photo_pixels"], data["photo_shapes"])
            return AssetLibrary(cutouts, photos, [str(name) for name in data["photo_names"]])
    except (OSError, ValueError, KeyError):
        return None  # a damaged cache is built again


def _split_flat(flat: Image, shapes: NDArray[np.int32]) -> list[Image]:
    ends = np.cumsum(shapes.astype(np.int64).prod(1))
    images, start = [], 0
    for shape, end in zip(shapes, ends, strict=True):
        images.append(flat[start:end].reshape(tuple(int(n) for n in shape)))
        start = int(end)
    return images
