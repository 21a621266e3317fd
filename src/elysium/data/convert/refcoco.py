"""RefCOCO, RefCOCO+, RefCOCOg (and RefCLEF): images, boxes and several phrases for each, as annotation records.

    SRC/refs(unc).p, refs(umd).p, refs(google).p or refs.json   a list of refs: ref_id, ann_id, split,
                                                                sentences (each with sent, raw)
    SRC/instances.json                                          the objects' boxes, as COCO writes them

That is how the authors' toolkit (Yu et al., ECCV 2016) distributes them; images are COCO's train2014, named by
``file_name`` in instances.json (the ``file_name`` of a ref is none of a file, and is not used). SRC may also be one of
the files of refs, where there are several: they split the same objects in different ways; of a folder, the first in
the order above is taken. A ``.p`` is a pickle that Python 2 wrote. Pickles can run any program, so it is read by an
unpickler that refuses everything but lists, dictionaries, texts and numbers.

Boxes are left, top, width, height in pixels from 0, continuous, as in COCO: nothing is shifted, the right edge is
left + width. Sizes of images come from instances.json; no image is opened.

Kept: a ref as a record of one frame ("ref-<ref_id>") with the object's category as its class and all its different
sentences (``sent``, else ``raw``), the first of which is the description; the ref's split in the metadata. Splits are
compared as they are written; "all" takes every one. Dropped: masks, tokens, objects that nobody referred to. Knows
nothing about models.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from elysium.data.convert.base import Converter, Options, Unit, image_root
from elysium.data.convert.coco import Entry, Instances, Row, chunks, read_instances, to_records, with_images
from elysium.data.convert.parts import read_text
from elysium.data.records import Record
from elysium.errors import InputError, SourceError

_REFS = ("refs(unc).p", "refs(umd).p", "refs(google).p", "refs.json")


class _Plain(pickle.Unpickler):
    """Of lists, dictionaries, texts and numbers, which need no names from any module."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise InputError(f"asks for {module}.{name}, which refs need not", "Get it from its authors: it may do harm.")


def _units(source: Path, options: Options) -> Iterator[Unit]:
    file = _refs_file(source)
    refs = _read_refs(file)
    chosen = [ref for ref in refs if options.split in ("all", ref["split"])]
    if not chosen:
        there = ", ".join(sorted({ref["split"] for ref in refs}))
        raise InputError(f"{file} has no ref of the split {options.split!r}", f"Use one of {there}, all.")
    data = read_instances(file.parent / "instances.json")
    return with_images(chunks(chosen, lambda ref: _row(data, ref)), image_root(source, options))


def _refs_file(source: Path) -> Path:
    if source.is_file():
        return source
    if not source.is_dir():
        raise SourceError(f"There is no folder {str(source)!r}", "Check the path.")
    for name in _REFS:
        if (source / name).is_file():
            return source / name
    raise SourceError(f"{source} holds none of {', '.join(_REFS)}", "Unpack the data set there.")


def _read_refs(file: Path) -> list[Entry]:
    refs = _unpickled(file) if file.suffix == ".p" else _parsed(file)
    if not isinstance(refs, list) or not refs:
        raise InputError(f"{file} holds no list of refs", "Get it again.")
    seen: set[Any] = set()
    for number, ref in enumerate(refs, 1):
        if not _is_ref(ref):
            raise InputError(f"{file}: ref number {number} lacks ref_id, ann_id, split or sentences", "Get it again.")
        if ref["ref_id"] in seen:
            raise InputError(f"{file}: two refs have the ref_id {ref['ref_id']!r}", "Get it again.")
        seen.add(ref["ref_id"])
    return refs


def _unpickled(file: Path) -> Any:
    try:
        with file.open("rb") as opened:
            return _Plain(opened, encoding="latin1").load()  # texts of Python 2 are bytes; this reads any
    except OSError as error:
        raise SourceError(f"Cannot read {file}: {error.strerror or error}", "Check the path.") from error
    except InputError as error:
        raise InputError(f"The pickle {file} {error.message}", error.remedy) from error
    except Exception as error:  # a broken pickle may raise anything
        raise InputError(f"{file} is no pickle that can be read: {error}", "Get it again.") from error


def _parsed(file: Path) -> Any:
    try:
        return json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not JSON: {error}", "Get it again.") from error


def _is_ref(ref: Any) -> bool:
    if not isinstance(ref, dict):
        return False
    ids = isinstance(ref.get("ref_id"), int | str) and isinstance(ref.get("ann_id"), int | str)
    return ids and isinstance(ref.get("split"), str) and isinstance(ref.get("sentences"), list)


def _row(data: Instances, ref: Entry) -> Row:
    annotation = data.find("annotations", ref["ann_id"], f"ref {ref['ref_id']!r}")
    row = data.still(annotation)
    return row._replace(id=f"ref-{ref['ref_id']}", words=_words(ref), metadata={"split": ref["split"]})


def _words(ref: Entry) -> tuple[str, ...]:
    """What the object is called, without repetitions, in the order of the sentences."""
    sentences = (sentence for sentence in ref["sentences"] if isinstance(sentence, dict))
    said = (sentence.get("sent") or sentence.get("raw") for sentence in sentences)
    return tuple(dict.fromkeys(words.strip() for words in said if isinstance(words, str) and words.strip()))


def _records(source: Path, unit: Unit, options: Options) -> Iterator[Record]:
    name = source.resolve().name if source.is_dir() else source.resolve().parent.name
    return to_records(unit[1], image_root(source, options), name)


REFCOCO = Converter(
    "refs(unc).p, refs(umd).p, refs(google).p or refs.json, and instances.json", _units, _records,
    ("train", "val", "test", "testA", "testB", "all"), ("images",),
)  # fmt: skip
