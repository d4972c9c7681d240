"""An index on disk: saved while it goes on, and read only when it is whole.

A snapshot is a folder of three or four files. `snapshot.json` says what the others are called, how long they are and
what their SHA-256 is, and holds the caller's own words; it is replaced in one step, last, so that a save that is cut
short leaves the snapshot of before. Checksums show damage, not malice: the folder must be the worker's own.
"""

import hashlib
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace_schemas.errors import Category, HeadraceError
from headrace_workers.index.lists import Lists, NotLists
from headrace_workers.index.rows import Rows
from headrace_workers.index.state import State
from headrace_workers.index.vector_index import VectorIndex
from headrace_workers.index.wear import DEFAULTS, Limits

VERSION: Final = 1  # of this layout, and of how FAISS writes lists
MANIFEST: Final = "snapshot.json"
_MOST_MANIFEST: Final = 1 << 20  # bytes
_BLOCK: Final = 1 << 22  # bytes that are read or written in one go


class SnapshotRefused(HeadraceError):
    """A snapshot that is not there, not whole, or not of this kind: drop it and build the index anew."""

    category: ClassVar[Category] = Category.PERMANENT


_Count = Annotated[int, Field(ge=0, lt=1 << 40)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class _File(_Value):
    name: Annotated[str, Field(pattern=r"^[a-z]+-[0-9a-f]{16}$")]
    bytes: _Count
    sha256: str


class _Body(_Value):
    dimension: _Count
    rows: _Count
    covered: _Count  # of them in lists
    trained: _Count
    files: dict[str, _File]
    meta: dict[str, str]


class _Manifest(_Value):
    version: int
    sha256: str  # of the body's text
    body: str  # a `_Body` as JSON


def save(index: VectorIndex, folder: Path, meta: Mapping[str, str]) -> None:
    """Write the index as it is now into the folder, in place of the snapshot there; OSError where that fails.

    Changes go on meanwhile and are not in it, so `meta` may hold a change number that was read before the call: what
    came after it is in the snapshot or comes again. One process, one thread at a time saves into a folder.
    """
    state = index.state
    rows, count, lists = state.rows, state.rows.count, state.lists
    parts: dict[str, NDArray[Any]] = {
        "vectors": rows.vectors[:count],
        "ids": rows.ids[:count],
        "alive": np.packbits(rows.alive, bitorder="little"),
    }
    if lists is not None:
        parts["lists"] = lists.to_bytes()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    before = {path for path in folder.iterdir() if path.is_file()}
    files = {name: _write(folder, name, data) for name, data in parts.items()}
    body = _Body(
        dimension=rows.dimension,
        rows=count,
        covered=state.covered,
        trained=0 if lists is None else lists.trained,
        files=files,
        meta=dict(meta),
    ).model_dump_json()
    manifest = _Manifest(version=VERSION, sha256=_sha256(body), body=body)
    new = folder / f"{MANIFEST}.new"
    _write_through(new, [manifest.model_dump_json().encode()])
    new.replace(folder / MANIFEST)
    _sync(folder)
    for path in before - {folder / MANIFEST, *(folder / file.name for file in files.values())}:
        path.unlink(missing_ok=True)


def load(folder: Path, dimension: int, limits: Limits = DEFAULTS) -> tuple[VectorIndex, dict[str, str]]:
    """The index in the folder, for vectors of this many dimensions, and its `meta`; SnapshotRefused says why not."""
    body = _body(folder)
    if body.dimension != dimension:
        raise SnapshotRefused(f"snapshot {folder} has vectors of {body.dimension} dimensions, not {dimension}")
    count, covered = body.rows, body.covered
    vectors = _read(folder, body, "vectors", np.dtype("<f4"), (count, dimension))
    ids = _read(folder, body, "ids", np.dtype("<i8"), (count,))
    bits = _read(folder, body, "alive", np.dtype("u1"), ((count + 7) // 8,))
    alive = np.unpackbits(bits, count=count, bitorder="little").astype(np.bool_)
    lists = None
    if covered:
        written = _read(folder, body, "lists", np.dtype("u1"), None)
        try:
            lists = Lists.from_bytes(written, body.trained, covered, dimension)
        except NotLists as error:
            raise SnapshotRefused(f"snapshot {folder}, its lists: {error}") from error
    rows = Rows(vectors, ids, alive, int(np.count_nonzero(alive)))
    return VectorIndex.of(State.over(rows, lists), limits), body.meta


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
        raise SnapshotRefused(f"there is no snapshot in {folder}") from error
    except OSError as error:
        raise SnapshotRefused(f"{path} cannot be read: {error}") from error
    except ValidationError as error:
        raise SnapshotRefused(f"{path} is damaged: {error.errors()[0]['msg']}") from error


def _write(folder: Path, name: str, data: NDArray[Any]) -> _File:
    little = np.ascontiguousarray(data, data.dtype.newbyteorder("<"))
    seen = hashlib.sha256()
    for block in _blocks(little):
        seen.update(block)
    sha256 = seen.hexdigest()
    file = _File(name=f"{name}-{sha256[:16]}", bytes=little.nbytes, sha256=sha256)
    _write_through(folder / f"{name}.new", _blocks(little))
    # A name of its own, so that what the snapshot of before names is not touched.
    (folder / f"{name}.new").replace(folder / file.name)
    return file


def _read(folder: Path, body: _Body, name: str, dtype: np.dtype[Any], shape: tuple[int, ...] | None) -> NDArray[Any]:
    """An array of this shape; None: as many items as the manifest says."""
    told = body.files.get(name)
    if told is None:
        raise SnapshotRefused(f"snapshot {folder} names no file for its {name}")
    path, size = folder / told.name, told.bytes
    expected = size if shape is None else math.prod(shape) * dtype.itemsize
    seen = hashlib.sha256()
    try:
        with path.open("rb") as file:
            there = os.fstat(file.fileno()).st_size
            if not there == size == expected:
                raise SnapshotRefused(f"{path} has {there} bytes, not {expected}: it was cut short, or is another's")
            data = np.empty((size // dtype.itemsize,) if shape is None else shape, dtype)
            for block in _blocks(data):
                if file.readinto(block) != len(block):
                    raise SnapshotRefused(f"{path} was cut short while it was read")
                seen.update(block)
    except OSError as error:
        raise SnapshotRefused(f"{path} cannot be read: {error}") from error
    if seen.hexdigest() != told.sha256:
        raise SnapshotRefused(f"{path} is damaged: its checksum is not the one that {MANIFEST} names")
    return data


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


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
