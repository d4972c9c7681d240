import fcntl
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.workers.models.vectors.clustered import clustered

from headrace_workers.models.vectors import snapshot
from headrace_workers.models.vectors.snapshot import MANIFEST, Saved, SnapshotRefused
from headrace_workers.models.vectors.vector_index import Limits, VectorIndex

SMALL = Limits(exact=50, outside=100, dead=100)
QUERIES = clustered(5, 8, seed=9)
META = {"change": "17", "ledger": "a1", "embedder": "minilm@1", "name": "ä\n"}


TEXTS = {"texts": np.frombuffer("Wörter".encode(), np.uint8)}


def save(index: VectorIndex, folder: Path, meta: Mapping[str, str] = META) -> bool:
    """An index, an empty one and one that is compared one by one, with some bytes beside them."""
    small = VectorIndex(8)
    small.put([7], QUERIES[:1])
    states = {"a": index.state, "empty": VectorIndex(8).state, "small": small.state}
    return snapshot.save(states, 8, folder, meta, TEXTS)


def load(folder: Path, dimension: int = 8) -> tuple[VectorIndex, dict[str, str]]:
    """The index, and the caller's words; the others are as they were."""
    saved: Saved = snapshot.load(folder, dimension, SMALL)
    assert saved.extra["texts"].tobytes().decode() == "Wörter"
    assert [len(saved.indices[name]) for name in ("empty", "small")] == [0, 1]
    assert saved.indices["small"].search(QUERIES[:1], 1)[1].tolist() == [[7]]
    return saved.indices["a"], saved.meta


def filled() -> VectorIndex:
    index = VectorIndex(8, SMALL)
    index.put(np.arange(80), clustered(80, 8))
    index.compact()
    index.put(np.arange(80, 100), clustered(20, 8, seed=1))
    index.remove([3, 85])
    return index


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(filled(), tmp_path / "scope" / "snapshot", META)
    return tmp_path / "scope" / "snapshot"


@pytest.mark.parametrize("index", [filled(), VectorIndex(8)], ids=["lists", "empty"])
def test_what_was_saved_is_there_again(tmp_path: Path, index: VectorIndex) -> None:
    save(index, tmp_path, META)
    read, meta = load(tmp_path)
    assert meta == META
    assert len(read) == len(index)
    for mine, theirs in zip(read.search(QUERIES, 12), index.search(QUERIES, 12), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for vector_index in (index, read):
        vector_index.apply([4, 200], QUERIES[:2], removed=[5])
    assert read.search(QUERIES, 100)[1].tolist() == index.search(QUERIES, 100)[1].tolist()
    assert read.vectors_of([3, 85]) == {}


def test_a_later_save_takes_the_place_of_the_first(folder: Path) -> None:
    (folder / "vectors.new").write_bytes(b"half")
    index = VectorIndex(8)
    index.put([1], QUERIES[:1])
    save(index, folder, {"change": "18"})
    read, meta = load(folder)
    assert (len(read), meta) == (1, {"change": "18"})
    assert sorted(path.name.split("-")[0] for path in folder.iterdir()) == [
        "alive", "ids", "indices", "lists", "lock", MANIFEST, "texts", "vectors",
    ]  # fmt: skip


def test_saving_the_same_again_keeps_it(folder: Path) -> None:
    """Though its files have the names of those before."""
    index, _ = load(folder)
    save(index, folder, META)
    assert len(load(folder)[0]) == len(index)


def test_a_save_that_fails_leaves_the_snapshot_of_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = VectorIndex(8)
    index.put([1], QUERIES[:1])
    whole = snapshot._write_through
    for at in range(7):
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
        assert load(folder)[1] == META


def test_no_snapshot_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(SnapshotRefused, match="there is no snapshot in"):
            load(path)


def test_vectors_of_another_embedder_are_refused(folder: Path) -> None:
    with pytest.raises(SnapshotRefused, match="has vectors of 8 dimensions, not 9"):
        load(folder, 9)


@pytest.mark.parametrize("name", ["vectors", "ids", "alive", "lists", "indices", "texts", MANIFEST])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_any_damage_to_any_file_is_seen(folder: Path, name: str, damage: str) -> None:
    (path,) = folder.glob(f"{name}*")
    data = bytearray(path.read_bytes())
    path.unlink()
    if damage == "flipped":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "cut":
        path.write_bytes(data[:-1])
    with pytest.raises(SnapshotRefused) as refused:
        load(folder)
    assert (path.name in str(refused.value)) or (name == MANIFEST and damage == "gone")


def edited(folder: Path, change: Callable[[dict[str, object]], object], version: int | None = None) -> None:
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
    edited(folder, lambda body: body.update(later=True), version=9)
    with pytest.raises(SnapshotRefused, match="is of version 9; this headrace reads version 2"):
        load(folder)


def body(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    return lambda folder: edited(folder, change)


def test_of_two_that_save_at_a_time_one_does(folder: Path) -> None:
    with (folder / "lock").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert not save(VectorIndex(8), folder, {"change": "18"})
    assert load(folder)[1] == META
    assert save(VectorIndex(8), folder, {"change": "18"})


def test_who_reads_while_it_is_replaced_reads_the_new_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = snapshot._body

    def replaced(path: Path) -> object:
        found = whole(path)
        monkeypatch.setattr(snapshot, "_body", whole)
        save(VectorIndex(8), path, {"change": "18"})
        return found

    monkeypatch.setattr(snapshot, "_body", replaced)
    assert load(folder)[1] == {"change": "18"}


SAVES = """
import sys
from pathlib import Path
import numpy as np
from headrace_workers.models.vectors.snapshot import save
from headrace_workers.models.vectors.vector_index import VectorIndex

index, number = VectorIndex(8), 0
while True:
    number += 1
    index.put([number], np.eye(8, dtype=np.float32)[:1])
    save({"a": index.state}, 8, Path(sys.argv[1]), {"change": str(number)}, {"texts": np.arange(9, dtype=np.uint8)})
    print(number, flush=True)
"""


def test_a_process_that_is_killed_while_it_saves_leaves_a_whole_snapshot(tmp_path: Path) -> None:
    for kill in range(4):
        process = subprocess.Popen([sys.executable, "-c", SAVES, tmp_path], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            for _ in range(kill + 1):
                last = int(process.stdout.readline())
        finally:
            process.kill()
            process.communicate()
        saved = snapshot.load(tmp_path, 8)
        assert len(saved.indices["a"]) == int(saved.meta["change"]) >= last
    assert snapshot.save({}, 8, tmp_path, META, {})
    assert len([path for path in tmp_path.iterdir() if path.suffix == ".new"]) == 0
