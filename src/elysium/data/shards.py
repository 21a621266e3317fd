"""Shards: files that hold clips whole, records and images together, to be read from their beginning to their end.

A clip is what a sample is drawn from: the tracks over the same frames, or one chat, and the frames. Two forms:

**tar**, as WebDataset has it: the members of a clip stand together and share their name up to the first dot, the clip's
key. ``<key>.json`` is a record, or an array of the records over the same frames. Of the other members, those with the
suffix of an image are the frames, in the natural order of their names: ``<key>.0000.jpg``, ``<key>.0001.jpg`` ...; of a
single picture, ``<key>.jpg`` will do. Others are not looked at.

**Parquet**: a row a clip, with the columns ``key`` (text), ``records`` (text, JSON as above) and ``frames``, a list of
structs of ``bytes`` and ``path``, which ``datasets`` shows as images. In a shard of someone else, a list of plain bytes
will do.

Records keep the image paths that they had; it is the order of the frames that counts.

Knows: these files, records. Does not know: what the clips are for, in which order shards are read.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

from elysium.data.records import Record
from elysium.data.records.checks import defects
from elysium.errors import InputError, SourceError
from elysium.files import atomic_path
from elysium.video import natural_key

Form = Literal["webdataset", "parquet"]
SUFFIXES: dict[Form, str] = {"webdataset": ".tar", "parquet": ".parquet"}
_IMAGES = frozenset("jpg jpeg png webp bmp gif tif tiff img".split())
_ROW_GROUP_BYTES = 2**24  # a reader holds a row group, so it must not be large
_ROWS_AT_ONCE = 8
_FEATURES = {
    "key": {"dtype": "string", "_type": "Value"}, "records": {"dtype": "string", "_type": "Value"},
    "frames": {"feature": {"_type": "Image"}, "_type": "List"},
}  # fmt: skip


@dataclass(frozen=True)
class StoredClip:
    """A clip as it is stored: its key, its records as JSON, and the name and encoded image of each frame."""

    key: str
    records: str
    frames: tuple[tuple[str, bytes], ...]


# --- Writing ---


def write_shard(path: Path, clips: Iterable[StoredClip], form: Form) -> None:
    """Write clips as one file, in one step. Raises OutputError, and InputError without pyarrow."""
    with atomic_path(path) as temporary:
        (_write_tar if form == "webdataset" else _write_parquet)(temporary, clips)


def _write_tar(path: Path, clips: Iterable[StoredClip]) -> None:
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for clip in clips:
            _add(tar, f"{clip.key}.json", clip.records.encode())
            for number, (name, data) in enumerate(clip.frames):
                suffix = PurePosixPath(name).suffix[1:].lower()
                _add(tar, f"{clip.key}.{number:04d}.{suffix if suffix in _IMAGES else 'img'}", data)
            _forget(tar)


def _forget(tar: tarfile.TarFile) -> None:
    """Let go of what is kept about every member so far, a kilobyte for each."""
    tar.members.clear()  # type: ignore[attr-defined]  # typeshed does not know it


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # of no time and no owner, so that the same clips give the same file
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _write_parquet(path: Path, clips: Iterable[StoredClip]) -> None:
    pa, parquet = _pyarrow()
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    about = {"huggingface": json.dumps({"info": {"features": _FEATURES}})}
    schema = pa.schema([("key", pa.string()), ("records", pa.string()), ("frames", pa.list_(image))], metadata=about)
    with parquet.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:  # nothing to gain
        rows: list[dict[str, Any]] = []
        size = 0
        for clip in clips:
            frames = [{"bytes": data, "path": name} for name, data in clip.frames]
            rows.append({"key": clip.key, "records": clip.records, "frames": frames})
            size += sum(len(data) for _, data in clip.frames)
            if size >= _ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows, size = [], 0
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema))


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        told = f"Parquet needs the package {error.name!r}, which is not installed"
        raise InputError(told, "Install elysium with its extra: pip install -c constraints.txt '.[train]'") from error
    return pyarrow, parquet


# --- Reading ---


def shard_paths(pattern: str) -> list[str]:
    """The files that a path or pattern means, in the order of their names: of this machine, or of any place that
    ``fsspec`` knows (``hf://datasets/...``, ``s3://...``). Raises SourceError if there is none."""
    from fsspec.core import url_to_fs

    try:
        files, path = url_to_fs(pattern)
        found = sorted(files.glob(path) if has_magic(path) else [path] if files.exists(path) else [])
    except (OSError, ValueError, ImportError) as error:  # nobody is there, or no such protocol, or not installed
        raise SourceError(f"Cannot look for {pattern!r}: {error}", "Check the path.") from error
    found = [path for path in found if not str(path).rpartition("/")[2].startswith(".")]  # being written
    if not found:
        raise SourceError(f"There is no shard {pattern!r}", "Check the path.")
    return [str(files.unstrip_protocol(path)) if "://" in pattern else str(path) for path in found]


def read_shard(path: str) -> Iterator[StoredClip | str]:
    """The clips of a shard, one after the other, and a sentence in the place of what cannot be read."""
    read = _parquet_clips if path.endswith(".parquet") else _tar_clips
    troubles: tuple[type[Exception], ...] = (OSError, EOFError, tarfile.TarError, ValueError)
    count = 0
    try:
        for count, clip in enumerate(read(path), 1):  # noqa: B007  # for what is said below
            yield clip
    except troubles as error:  # those of pyarrow are children of these
        yield f"{path}: cannot be read behind clip {count} ({str(error).strip() or type(error).__name__})"


def _opened(path: str) -> AbstractContextManager[IO[bytes]]:
    if "://" not in path:
        return Path(path).open("rb")
    import fsspec

    file: AbstractContextManager[IO[bytes]] = fsspec.open(path, "rb")
    return file


def _tar_clips(path: str) -> Iterator[StoredClip | str]:
    with _opened(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
        key, members = "", {}  # type: str, dict[str, bytes]
        while (member := tar.next()) is not None:
            _forget(tar)
            parts = _parts(member.name)
            if parts is None or not member.isfile():
                continue
            if parts[0] != key and members:
                yield _clip(path, key, members)
                members = {}
            key = parts[0]
            members[parts[1]] = _content(tar, member)
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:  # tarfile takes anything for the end
            raise EOFError("the tar file is damaged or cut off here")
        if members:
            yield _clip(path, key, members)


def _parts(name: str) -> tuple[str, str] | None:
    """Key and field of a member."""
    folder, slash, plain = name.removeprefix("./").rpartition("/")
    key, _, field = plain.partition(".")
    return (folder + slash + key, field) if key and field else None


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    held = tar.extractfile(member)
    data = held.read() if held is not None else b""
    if len(data) != member.size:
        raise EOFError("the tar file is cut off here")
    return data


def _clip(path: str, key: str, members: Mapping[str, bytes]) -> StoredClip | str:
    if "json" not in members:
        return f"{path}: {key} has no .json"
    names = sorted((field for field in members if field.rpartition(".")[2].lower() in _IMAGES), key=natural_key)
    try:
        return StoredClip(key, members["json"].decode(), tuple((f"{key}.{name}", members[name]) for name in names))
    except UnicodeDecodeError:
        return f"{path}: {key}.json is not UTF-8"


def _parquet_clips(path: str) -> Iterator[StoredClip | str]:
    _, parquet = _pyarrow()
    with _opened(path) as file, parquet.ParquetFile(file) as rows:
        columns = ["key", "records", "frames"]
        missing = set(columns) - set(rows.schema_arrow.names)
        if missing:
            raise ValueError(f"it has no column {', '.join(sorted(missing))}")
        for batch in rows.iter_batches(_ROWS_AT_ONCE, columns=columns, use_threads=False):
            for row in batch.to_pylist():
                held = [frame if isinstance(frame, dict) else {"bytes": frame} for frame in row["frames"] or ()]
                frames = ((f.get("path") or f"{row['key']}.{i}", f.get("bytes") or b"") for i, f in enumerate(held))
                yield StoredClip(str(row["key"]), str(row["records"]), tuple(frames))


def records_of(clip: StoredClip) -> list[Record]:
    """The records of a clip: tracks over its frames, or one chat. Raises SourceError if they are something else."""
    try:
        value = json.loads(clip.records)
    except (ValueError, TypeError, RecursionError) as error:
        raise _flaw(clip, f"its records are not JSON ({error})") from error
    values = value if isinstance(value, list) else [value]
    for number, one in enumerate(values, 1):
        for field, told, _ in defects(one):
            raise _flaw(clip, f"record {number}{', ' if field else ''}{field}: {told}")
        if len(one["frames"]) != len(clip.frames):
            raise _flaw(clip, f"record {number} has {len(one['frames'])} frames, and the clip {len(clip.frames)}")
    if not values or (len(values) > 1 and any("vqa" in one for one in values)):
        raise _flaw(clip, "it needs one chat, or tracks")
    return [Record.model_validate(one) for one in values]


def _flaw(clip: StoredClip, told: str) -> SourceError:
    return SourceError(f"clip {clip.key}: {told}", "Mend the record, and make the shard anew.")


def records_text(records: Sequence[Record]) -> str:
    """JSON of records over the same frames: one by itself, several as an array."""
    lines = [record.to_json() for record in records]
    return lines[0] if len(lines) == 1 else f"[{', '.join(lines)}]"
