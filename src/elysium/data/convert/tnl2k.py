"""TNL2K (tracking by natural language), as annotation records.

    <SRC>/<seq>/imgs/*.jpg or *.png
    <SRC>/<seq>/groundtruth.txt   left, top, width, height in pixels, one line a frame
    <SRC>/<seq>/language.txt      a sentence for the object; may be empty (it is in a sequence of the training set)
    <SRC>/<seq>/attributes.txt    (optional) 17 numbers, 0 or 1, in the order of the authors' toolkit, which has them in
                                  a file of its own (annos/att/<seq>_attribute.txt)

SRC is the training or the test part; a sequence may also lie one folder deeper. The object is absent where its width or
height is 0. Where the authors give the pixel origin has not been found: boxes are taken as counted from 0, as every
public loader takes them. Twelve training sequences came with more boxes than images; the authors have published new
annotations for them, and the old ones are refused.

Kept: boxes, the sentence as description, names of attributes. Dropped: the toolkit's own list of absences, which it has
apart from the sequences and for the test part only. Knows nothing about models.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from elysium.data.convert.base import Converter, Options, Unit, image_root
from elysium.data.convert.parts import (
    image_size,
    images_in,
    number_lines,
    number_table,
    read_text,
    track_record,
    xywh_to_xyxy,
)
from elysium.data.records import Record
from elysium.errors import InputError, SourceError
from elysium.video import natural_key

_TRUTH = "groundtruth.txt"
_ATTRIBUTES = "CM ROT DEF FOC IV OV POC VC SV BC MB ARC LR FM AS TC MS".split()


def _units(root: Path, options: Options) -> Iterator[Unit]:
    """The sequences by their paths."""
    if not root.is_dir():
        raise SourceError(f"There is no folder {str(root)!r}", "Check the path.")
    files = [*root.glob(f"*/{_TRUTH}"), *root.glob(f"*/*/{_TRUTH}")]
    paths = [file.parent.relative_to(root).as_posix() for file in files]
    if not paths:
        raise InputError(f"{root} holds no sequence", f"Each is a folder with imgs/, {_TRUTH} and language.txt.")
    yield from ((path, None) for path in sorted(sorted(paths), key=natural_key))


def _records(root: Path, unit: Unit, options: Options) -> Iterator[Record]:
    """The one record of a sequence."""
    folder = root / unit[0]
    frames, boxes = images_in(folder / "imgs"), xywh_to_xyxy(number_table(folder / _TRUTH, 4))
    if not frames:
        raise SourceError(f"{folder / 'imgs'} holds no images", "Unpack them there.")
    if len(boxes) != len(frames):
        raise InputError(
            f"{folder / _TRUTH} has {len(boxes)} lines for {len(frames)} images",
            "They must be as many; the authors have published new annotations of twelve training sequences.",
        )
    yield track_record(
        image_root(root, options), frames, boxes, image_size(frames[0]), source="TNL2K", id=unit[0], vid=unit[0],
        description=" ".join(read_text(folder / "language.txt").split()), metadata=_metadata(folder / "attributes.txt"),
    )  # fmt: skip


def _metadata(path: Path) -> dict[str, list[str]]:
    """The names of the attributes that are set. Raises InputError unless there is a number for each."""
    if not path.is_file():
        return {}
    flags = [flag for line in number_lines(path) for flag in line]
    if len(flags) != len(_ATTRIBUTES):
        raise InputError(f"{path} has {len(flags)} numbers, not {len(_ATTRIBUTES)}", "Mend it or take it away.")
    return {"attributes": [name for name, flag in zip(_ATTRIBUTES, flags, strict=True) if flag]}


TNL2K = Converter("sequences with imgs/, groundtruth.txt and language.txt of TNL2K", _units, _records)
