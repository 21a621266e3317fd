"""Tensors in the files of a checkpoint: found without being read, read one at a time, written in shards.

Knows: safetensors and PyTorch's .bin, whole or in shards with an index, and what a damaged file looks like. A .bin is
a pickle: nothing in it is run, whatever it asks for (``torch.load(weights_only=True)``).
Does not know: what a tensor is for.
"""

from __future__ import annotations

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from math import prod
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from elysium.errors import ModelError
from elysium.files import atomic_write_text
from elysium.pretrained import first_line

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
NAMES = (INDEX, SINGLE, "pytorch_model.bin.index.json", "pytorch_model.bin")  # the first that is there counts
SHARD_BYTES = 2 * 10**9
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_WANTED_CODE = re.compile(r"GLOBAL (\S+)")
_COPY_AGAIN = "Copy or download it again."


@dataclass(frozen=True)
class Stored:
    """A tensor that lies in a file."""

    name: str
    file: Path
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def num_bytes(self) -> int:
        """Its size in memory."""
        return prod(self.shape) * self.dtype.itemsize


def find_tensors(folder: Path) -> dict[str, Stored]:
    """All tensors of a folder by their names, none of them read.

    Raises ModelError without weights, for a file that is missing or damaged, and for a pickle that holds more than
    tensors.
    """
    found: dict[str, Stored] = {}
    for file in _weight_files(folder):
        found.update((stored.name, stored) for stored in _listed(file))
    return found


def _weight_files(folder: Path) -> list[Path]:
    path = next((folder / name for name in NAMES if (folder / name).is_file()), None)
    if path is None:
        raise ModelError(f"{folder} has no weights", f"One of {', '.join(NAMES)} belongs beside config.json.")
    if path.suffix != ".json":
        return [path]
    try:
        names = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
        wrong = [name for name in names if Path(name).name != name]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is not an index of weights", _COPY_AGAIN) from error
    wrong += [name for name in names if not (folder / name).is_file()]
    if wrong:
        raise ModelError(f"{path} names {wrong[0]!r}, which is not in its folder", _COPY_AGAIN)
    return [folder / name for name in names]


def _listed(file: Path) -> list[Stored]:
    if file.suffix != ".safetensors":
        tensors = _load_pickle(file)
        return [Stored(name, file, tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()]
    with _safetensors(file) as content:
        slices = {name: content.get_slice(name) for name in content.keys()}  # noqa: SIM118 (it is no dictionary)
        return [Stored(name, file, tuple(s.get_shape()), _dtype(s.get_dtype(), file)) for name, s in slices.items()]


def _dtype(name: str, file: Path) -> torch.dtype:
    if name not in _DTYPES:
        raise ModelError(f"{file} holds numbers of type {name}", "Give a checkpoint that is not quantised.")
    return _DTYPES[name]


@contextmanager
def _safetensors(file: Path) -> Iterator[safe_open]:
    try:
        with safe_open(file, framework="pt") as content:
            yield content
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} is damaged or cut off: {first_line(error)}", _COPY_AGAIN) from error


def _load_pickle(file: Path) -> dict[str, Tensor]:
    """The tensors of a .bin, mapped into memory where its format allows that."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickles, which are refused or read
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        asked = _WANTED_CODE.search(str(error))
        if asked is None:
            raise ModelError(f"{file} is damaged or no file of tensors", _COPY_AGAIN) from error
        raise ModelError(
            f"{file} wants to run code when it is read ({asked[1]}), which was refused: nothing of it was run",
            "Ask for the weights as safetensors.",
        ) from error
    except Exception as error:  # a cut-off file makes torch raise anything, up to OverflowError
        raise ModelError(f"{file} is damaged or cut off: {first_line(error)}", _COPY_AGAIN) from error
    if not isinstance(content, dict) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise ModelError(f"{file} does not hold tensors by their names", "Give a file that holds weights alone.")
    return content


def read_tensors(wanted: Iterable[Stored]) -> Iterator[tuple[Stored, Tensor]]:
    """The tensors one after the other, each file opened once; sort them by file. Raises ModelError."""
    for file, group in groupby(wanted, key=lambda stored: stored.file):
        with _opened(file) as read:
            for stored in group:
                yield stored, read(stored.name)


@contextmanager
def _opened(file: Path) -> Iterator[Callable[[str], Tensor]]:
    if file.suffix == ".safetensors":
        with _safetensors(file) as content:
            yield content.get_tensor
    else:
        yield _load_pickle(file).__getitem__


def cut_into_shards(sizes: Mapping[str, int], most_bytes: int = SHARD_BYTES) -> list[list[str]]:
    """Names of tensors, in order, in shards of at most ``most_bytes``, or of one tensor."""
    shards: list[list[str]] = [[]]
    held = 0
    for name, size in sizes.items():
        if shards[-1] and held + size > most_bytes:
            shards.append([])
            held = 0
        shards[-1].append(name)
        held += size
    return shards


def write_shards(folder: Path, shards: Iterable[dict[str, Tensor]], count: int) -> int:
    """Write ``count`` shards under the names that transformers reads, and their index if there are several.

    Holds one at a time if ``shards`` does. Returns the bytes of all tensors.
    """
    total = 0
    weight_map: dict[str, str] = {}
    for number, tensors in enumerate(shards, 1):
        name = SINGLE if count == 1 else f"model-{number:05d}-of-{count:05d}.safetensors"
        save_file(_apart(tensors), folder / name, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(tensors, name))
        total += sum(tensor.nbytes for tensor in tensors.values())
        del tensors  # before the next are read
    if count > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        atomic_write_text(folder / INDEX, json.dumps(index, indent=2, sort_keys=True) + "\n")
    return total


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, those that share memory with an earlier one as copies: safetensors refuses them."""
    places: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if place in places else tensor.contiguous()
        places.add(place)
    return apart
