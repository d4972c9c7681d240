import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.workers.index.clustered import clustered

from headrace_workers.index import snapshot
from headrace_workers.index.snapshot import MANIFEST, SnapshotRefused, load, save
from headrace_workers.index.vector_index import VectorIndex
from headrace_workers.index.wear import Limits

SMALL = Limits(exact=50, outside=100, dead=100)
QUERIES = clustered(5, 8, seed=9)
META = {"change": "17", "ledger": "a1", "embedder": "minilm@1", "name": "ä\n"}


def filled() -> VectorIndex:
    """Rows in lists and outside, living and dead."""
    index = VectorIndex(8, SMALL)
    index.put(np.arange(80), clustered(80, 8))
    index.compact()
    index.put(np.arange(80, 100), clustered(20, 8, seed=1))
    index.remove([3, 85])
    return index


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A snapshot of that."""
    save(filled(), tmp_path / "scope" / "snapshot", META)
    return tmp_path / "scope" / "snapshot"


@pytest.mark.parametrize("index", [filled(), VectorIndex(8)], ids=["lists", "empty"])
def test_what_was_saved_is_there_again(tmp_path: Path, index: VectorIndex) -> None:
    """The same results, the same words; and it goes on from there."""
    save(index, tmp_path, META)
    read, meta = load(tmp_path, 8, SMALL)
    assert meta == META
    assert len(read) == len(index)
    for mine, theirs in zip(read.search(QUERIES, 12), index.search(QUERIES, 12), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for each in (index, read):
        each.apply([4, 200], QUERIES[:2], removed=[5])
    assert read.search(QUERIES, 100)[1].tolist() == index.search(QUERIES, 100)[1].tolist()
    assert read.vectors_of([3, 85]) == {}


def test_a_later_save_takes_the_place_of_the_first(folder: Path) -> None:
    """Files that nothing names any more are gone, those of a save that was cut short as well."""
    (folder / "vectors.new").write_bytes(b"half")
    index = VectorIndex(8)
    index.put([1], QUERIES[:1])
    save(index, folder, {"change": "18"})
    read, meta = load(folder, 8)
    assert (len(read), meta) == (1, {"change": "18"})
    assert sorted(path.name.split("-")[0] for path in folder.iterdir()) == ["alive", "ids", MANIFEST, "vectors"]


def test_saving_the_same_again_keeps_it(folder: Path) -> None:
    """Though its files have the names of those before."""
    index, _ = load(folder, 8, SMALL)
    save(index, folder, META)
    assert len(load(folder, 8)[0]) == len(index)


def test_a_save_that_fails_leaves_the_snapshot_of_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At whichever file the disk is full."""
    index = VectorIndex(8)
    index.put([1], QUERIES[:1])
    whole = snapshot._write_through
    for at in range(4):
        written: list[str] = []

        def full(path: Path, blocks: object, at: int = at, written: list[str] = written) -> None:
            written.append(path.name)
            if len(written) > at:
                path.write_bytes(b"ha")
                raise OSError(28, "No space left on device")
            whole(path, blocks)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(snapshot, "_write_through", full)
            with pytest.raises(OSError, match="No space"):
                save(index, folder, {"change": "18"})
        assert load(folder, 8)[1] == META


def test_no_snapshot_is_refused(tmp_path: Path) -> None:
    """No folder, and an empty one."""
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(SnapshotRefused, match="there is no snapshot in"):
            load(path, 8)


def test_vectors_of_another_embedder_are_refused(folder: Path) -> None:
    """By their dimension."""
    with pytest.raises(SnapshotRefused, match="has vectors of 8 dimensions, not 9"):
        load(folder, 9)


@pytest.mark.parametrize("name", ["vectors", "ids", "alive", "lists", MANIFEST])
@pytest.mark.parametrize("damage", ["flipped", "cut", "longer", "empty", "gone", "a folder"])
def test_any_damage_to_any_file_is_seen(folder: Path, name: str, damage: str) -> None:
    """And the message names the file."""
    (path,) = folder.glob(f"{name}*")
    data = bytearray(path.read_bytes())
    path.unlink()
    if damage == "flipped":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "a folder":
        path.mkdir()
    elif damage != "gone":
        path.write_bytes({"cut": data[:-1], "longer": data + b"\0", "empty": b""}[damage])
    with pytest.raises(SnapshotRefused) as refused:
        load(folder, 8)
    assert (path.name in str(refused.value)) or (name == MANIFEST and damage == "gone")


def test_every_byte_of_the_manifest_counts(folder: Path) -> None:
    """A change number that is wrong by one bit would lose changes without a word."""
    path = folder / MANIFEST
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(SnapshotRefused):
            load(folder, 8)


def edited(folder: Path, change: Callable[[dict[str, object]], object], version: int | None = None) -> None:
    """The manifest with another body, and a checksum that fits."""
    path = folder / MANIFEST
    manifest = json.loads(path.read_text())
    body = json.loads(manifest["body"])
    change(body)
    manifest["body"] = json.dumps(body)
    manifest["sha256"] = hashlib.sha256(manifest["body"].encode()).hexdigest()
    manifest["version"] = version or manifest["version"]
    path.write_text(json.dumps(manifest))


def test_another_version_is_refused(folder: Path) -> None:
    """Whatever else it holds."""
    edited(folder, lambda body: body.update(later=True), version=2)
    with pytest.raises(SnapshotRefused, match="is of version 2; this headrace reads version 1"):
        load(folder, 8)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda body: body.update(rows=body["rows"] + 1), "bytes, not"),
        (lambda body: body.update(rows=-1), "damaged"),
        (lambda body: body.update(rows="80"), "damaged"),
        (lambda body: body.pop("meta"), "damaged"),
        (lambda body: body.update(covered=79), "its lists: it holds 80 x 8, not 79 x 8"),
        (lambda body: body["files"].pop("lists"), "names no file for its lists"),
        (lambda body: body["files"]["ids"].update(name="../../ids-0000000000000000"), "damaged"),
        (lambda body: body["files"]["lists"].update(body["files"]["alive"]), "its lists: FAISS cannot read it"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    folder: Path, change: Callable[[dict[str, object]], object], words: str
) -> None:
    """Though its own checksum is right."""
    edited(folder, change)
    with pytest.raises(SnapshotRefused, match=words):
        load(folder, 8)
