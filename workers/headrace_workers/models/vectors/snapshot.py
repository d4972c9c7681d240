"""Indices on disk: saved while they are in use, and loaded only when they are whole.

A snapshot is a folder of a few files. `snapshot.json` says what the others are called, how long they are and what their
SHA-256 is, and holds the caller's own words; it is replaced in one step, last, so that a save that is cut short leaves
the snapshot of before. Checksums show damage, not malice: the folder must be the deployment's own.

Several processes may use one folder: only one saves at a time, and a reader during a save reads once more.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from headrace_schemas.errors import Category, HeadraceError
from headrace_workers.core.private_files import private_folder
from headrace_workers.models.vectors.nearest import Lists
from headrace_workers.models.vectors.vector_index import DEFAULTS, Limits, State, VectorIndex
from headrace_workers.models.vectors.vectors import Flags, Rows

VERSION: Final = 2  # of this layout, and of how FAISS writes lists
MANIFEST: Final = "snapshot.json"
_LOCK: Final = "lock"
_OURS: Final = frozenset({"vectors", "ids", "alive", "lists", "indices"})
_MOST_MANIFEST: Final = 1 << 20  # bytes
_BLOCK: Final = 1 << 22  # bytes that are read or written in one go
_TRIES: Final = 5  # of reading while others save

Bytes = NDArray[np.uint8]


class SnapshotRefused(HeadraceError):
    """A snapshot that is not there, not whole, or not of this kind: drop it and build the indices anew."""

    category: ClassVar[Category] = Category.PERMANENT


class NoSnapshot(SnapshotRefused):
    """There is none."""


class _Replaced(SnapshotRefused):
    """A file was gone: another process had put a newer snapshot in the place of this one."""


@dataclass(frozen=True, slots=True)
class Saved:
    """The content of a snapshot: indices by name, the caller's own data, and bytes that are kept beside them."""

    indices: dict[str, VectorIndex]
    meta: dict[str, str]
    extra: dict[str, Bytes]


_Count = Annotated[int, Field(ge=0, lt=1 << 40)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class _File(_Value):
    name: Annotated[str, Field(pattern=r"^[a-z]+-[0-9a-f]{16}$")]
    bytes: _Count
    sha256: str


class _Index(_Value):
    name: str
    rows: _Count
    covered: _Count  # of them in lists
    trained: _Count
    lists: _Count  # bytes


class _Body(_Value):
    dimension: _Count
    files: dict[str, _File]
    meta: dict[str, str]


class _Manifest(_Value):
    version: int
    sha256: str  # of the body's text
    body: str  # a `_Body` as JSON


_INDICES: Final = TypeAdapter(list[_Index])


def save(
    states: Mapping[str, State], dimension: int, folder: Path, words: Mapping[str, str], extra: Mapping[str, Bytes]
) -> bool:
    """Write these indices into the folder, in place of the snapshot there, and return True if it was done. Raise
    OSError if it fails.

    It is not done while another process saves there. Later changes are not in it. `words` may hold a change's number
    that was read before the states: changes after that number are in the snapshot, or come again.
    """
    private_folder(folder)
    with _alone(folder) as alone:
        if alone:
            _save(states, dimension, folder, words, extra)
        return alone


def load(folder: Path, dimension: int, limits: Limits = DEFAULTS) -> Saved:
    """Return the snapshot in the folder, for vectors of this many dimensions. Raise SnapshotRefused with the reason."""
    for _ in range(_TRIES - 1):
        try:
            return _load(folder, dimension, limits)
        except _Replaced:
            continue
    return _load(folder, dimension, limits)


def meta(folder: Path) -> dict[str, str]:
    """Return the caller's own data of the snapshot in the folder, whose other files may be damaged.

    Raise SnapshotRefused.
    """
    return _body(folder).meta


def _save(
    states: Mapping[str, State], dimension: int, folder: Path, words: Mapping[str, str], extra: Mapping[str, Bytes]
) -> None:
    before = set(_files(folder))
    lists = {name: state.lists.to_bytes() for name, state in states.items() if state.lists is not None}
    parts: dict[str, Iterable[NDArray[Any]]] = {
        "vectors": (state.rows.vectors[: state.rows.count] for state in states.values()),
        "ids": (state.rows.ids[: state.rows.count] for state in states.values()),
        "alive": [np.packbits(_together(state.rows.alive for state in states.values()), bitorder="little")],
        "lists": lists.values(),
        "indices": [_table(states, lists)],
        **{name: [data] for name, data in extra.items()},
    }
    files: dict[str, _File] = {}
    try:
        for name, arrays in parts.items():
            files[name] = _write(folder, name, arrays)
        body = _Body(dimension=dimension, files=files, meta=dict(words)).model_dump_json()
        manifest = _Manifest(version=VERSION, sha256=_sha256(body), body=body)
        new = folder / f"{MANIFEST}.new"
        _write_through(new, [manifest.model_dump_json().encode()])
        new.replace(folder / MANIFEST)
    except BaseException:
        # A disk that is full shall not stay so for what nobody will read.
        _remove(path for path in _files(folder) if path not in before)
        raise
    _sync(folder)
    _remove(before - {folder / MANIFEST, *(folder / file.name for file in files.values())})


def _load(folder: Path, dimension: int, limits: Limits) -> Saved:
    body = _body(folder)
    if body.dimension != dimension:
        raise SnapshotRefused(f"snapshot {folder} has vectors of {body.dimension} dimensions, not {dimension}")
    table = _indices(folder, body)
    rows = sum(item.rows for item in table)
    (bits,) = _read(folder, body, "alive", [np.empty((rows + 7) // 8, np.uint8)])
    alive = np.unpackbits(bits, count=rows, bitorder="little").astype(np.bool_)
    # With some room: who begins with these adds to them soon.
    vectors = [np.empty((item.rows + item.rows // 8, dimension), np.dtype("<f4")) for item in table]
    ids = [np.empty(item.rows + item.rows // 8, np.dtype("<i8")) for item in table]
    _read(folder, body, "vectors", [room[: item.rows] for room, item in zip(vectors, table, strict=True)])
    _read(folder, body, "ids", [room[: item.rows] for room, item in zip(ids, table, strict=True)])
    lists = _read(folder, body, "lists", [np.empty(item.lists, np.uint8) for item in table])
    indices, start = {}, 0
    for item, room, names, written in zip(table, vectors, ids, lists, strict=True):
        living = alive[start : start + item.rows].copy()
        start += item.rows
        sorted_in = _lists(folder, item, written) if item.covered else None
        state = State.over(Rows(room, names, living, int(np.count_nonzero(living))), sorted_in)
        indices[item.name] = VectorIndex.of(state, limits)
    extra = {
        name: _read(folder, body, name, [np.empty(file.bytes, np.uint8)])[0]
        for name, file in body.files.items()
        if name not in _OURS
    }
    return Saved(indices, body.meta, extra)


def _lists(folder: Path, described: _Index, written: Bytes) -> Lists:
    try:
        return Lists.from_bytes(written, described.trained)
    except RuntimeError as error:
        raise SnapshotRefused(f"snapshot {folder}: FAISS cannot read the lists of {described.name!r}") from error


def _body(folder: Path) -> _Body:
    path = folder / MANIFEST
    try:
        with path.open("rb") as file:
            manifest = _Manifest.model_validate_json(file.read(_MOST_MANIFEST))
        if manifest.version != VERSION:
            raise SnapshotRefused(f"{path} is of version {manifest.version}; this headrace reads version {VERSION}")
        if _sha256(manifest.body) != manifest.sha256:
            raise SnapshotRefused(f"{path} is damaged: its checksum is not that of what it says")
        return _Body.model_validate_json(manifest.body)
    except FileNotFoundError as error:
        raise NoSnapshot(f"there is no snapshot in {folder}") from error
    except OSError as error:
        raise SnapshotRefused(f"{path} cannot be read: {error}") from error
    except ValidationError as error:
        raise SnapshotRefused(f"{path} is damaged: {error.errors()[0]['msg']}") from error


def _table(states: Mapping[str, State], lists: Mapping[str, Bytes]) -> Bytes:
    rows = [
        _Index(
            name=name,
            rows=state.rows.count,
            covered=state.covered,
            trained=0 if state.lists is None else state.lists.trained,
            lists=len(lists.get(name, ())),
        ).model_dump()
        for name, state in states.items()
    ]
    return np.frombuffer(json.dumps(rows).encode(), np.uint8)


def _indices(folder: Path, body: _Body) -> list[_Index]:
    (written,) = _read(folder, body, "indices", [np.empty(body.files["indices"].bytes, np.uint8)])
    return _INDICES.validate_json(written.tobytes())


def _write(folder: Path, name: str, arrays: Iterable[NDArray[Any]]) -> _File:
    seen, size = hashlib.sha256(), 0

    def blocks() -> Iterator[memoryview]:
        nonlocal size
        for array in arrays:
            for block in _blocks(np.ascontiguousarray(array, array.dtype.newbyteorder("<"))):
                seen.update(block)
                size += len(block)
                yield block

    _write_through(folder / f"{name}.new", blocks())
    sha256 = seen.hexdigest()
    file = _File(name=f"{name}-{sha256[:16]}", bytes=size, sha256=sha256)
    # A name of its own, so that what the snapshot of before names is not touched.
    (folder / f"{name}.new").replace(folder / file.name)
    return file


def _read(folder: Path, body: _Body, name: str, arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Fill these arrays, one after the other, with all that a file holds."""
    described = body.files[name]
    path, expected = folder / described.name, sum(array.nbytes for array in arrays)
    seen = hashlib.sha256()
    try:
        with path.open("rb") as file:
            there = os.fstat(file.fileno()).st_size
            if not there == described.bytes == expected:
                raise SnapshotRefused(f"{path} has {there} bytes, not {expected}: it was cut short, or is another's")
            for array in arrays:
                _fill(file, array, seen)
    except FileNotFoundError as error:
        raise _Replaced(f"{path} is not there, though {MANIFEST} names it") from error
    except (OSError, EOFError) as error:
        raise SnapshotRefused(f"{path} cannot be read: {error}") from error
    if seen.hexdigest() != described.sha256:
        raise SnapshotRefused(f"{path} is damaged: its checksum is not the one that {MANIFEST} names")
    return arrays


def _fill(file: IO[bytes], array: NDArray[Any], seen: Any) -> None:
    for block in _blocks(array):
        if file.readinto(block) != len(block):  # type: ignore[attr-defined]
            raise EOFError("it was cut short while it was read")
        seen.update(block)


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Yield True if no other process saves into the folder.

    None does while the body runs; the process's death ends that, too.
    """
    with (folder / _LOCK).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _together(flags: Iterable[Flags]) -> Flags:
    return np.concatenate([np.empty(0, np.bool_), *flags])


def _blocks(data: NDArray[Any]) -> list[memoryview]:
    whole = data.reshape(-1).view(np.uint8).data
    return [whole[start : start + _BLOCK] for start in range(0, len(whole), _BLOCK)]


def _write_through(path: Path, blocks: Iterable[bytes | memoryview]) -> None:
    with path.open("wb") as file:
        for block in blocks:
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make the new names last, too."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file() and path.name != _LOCK]


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
