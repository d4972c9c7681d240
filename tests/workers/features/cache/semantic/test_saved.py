"""What a recall worker knows, on disk: started from where it still holds, and dropped with a line where it does not."""

import json
import logging
import os
import shutil

import pytest
from sqlalchemy import delete, select, update
from tests.workers.core.ledger.conftest import ledger  # noqa: F401 - a fixture
from tests.workers.core.ledger.test_changes import _entry as entry
from tests.workers.features.cache.semantic.conftest import tiers
from tests.workers.features.cache.semantic.test_likeness import ASKED, LIKE, ask, semantic  # noqa: F401 - a fixture
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger.change_feed import KEPT_MS, Follower
from headrace_workers.core.progress import Progress
from headrace_workers.core.sql.database import now_ms, writing
from headrace_workers.core.tables import CHANGES
from headrace_workers.features.cache.semantic import questions as saving
from headrace_workers.features.cache.semantic.questions import Keeping, Known, Questions, Saved
from headrace_workers.features.cache.store.answers import Answers
from headrace_workers.features.cache.store.entries import kill
from headrace_workers.features.cache.tables import ENTRIES
from headrace_workers.models.vectors.snapshot import MANIFEST
from headrace_workers.testing import HashEmbedder

BREAD, RIVER = "How do I bake bread in my oven?", "Where does the river rise in spring?"
EMBEDDER = HashEmbedder()


class Worker:
    def __init__(self, ledger, folder, *, whose=None, embedder=None):  # noqa: F811 - no fixture
        self.known = Known(64)
        self.saved = Saved(folder, whose or ledger.identity, embedder or EMBEDDER.id)
        self.questions = Questions(ledger, self.known, self.saved)
        self.keeping = Keeping(self.saved, self.questions)
        self.follower = Follower(self.questions, Progress().loop("follow"))
        self.follower.once()

    def finds(self, text):
        """The ids of what it holds that is near, in any scope."""
        (vector,) = EMBEDDER.embed([text])
        scopes, _ = self.known.live.held()
        return [neighbour.entry_id for scope in scopes for neighbour in self.known.live.nearest(scope, vector, 5)]


@pytest.fixture
def read(semantic, monkeypatch):  # noqa: F811 - the fixture
    """The ids behind which entries were read from the ledger, by whether they are being made."""
    found = []
    whole = semantic.ledger.of(Answers).snapshot

    def snapshot(after, limit, *, making=False):
        found.append((after, making))
        return whole(after, limit, making=making)

    monkeypatch.setattr(semantic.ledger.of(Answers), "snapshot", snapshot)
    return found


def ids(ledger):  # noqa: F811 - no fixture
    return [row.id for row in ledger.read(select(ENTRIES.c.id).order_by(ENTRIES.c.id))]


def test_a_worker_starts_from_what_was_saved_and_catches_up(semantic, asks, tmp_path, read):  # noqa: F811
    """Nothing that has an answer is read from the ledger but what changed since: what came, and what died."""
    ask(semantic, asks, ASKED, BREAD)
    assert Worker(semantic.ledger, tmp_path).keeping.once()
    ask(semantic, asks, RIVER)
    first, second, third = ids(semantic.ledger)
    with writing(semantic.ledger.engine) as tx:
        kill(tx, [second], "wrong")
    read.clear()
    worker = Worker(semantic.ledger, tmp_path)
    assert read == [(0, True)]
    assert len(worker.known) == 2
    assert worker.finds(LIKE)[0] == first
    assert set(worker.finds(BREAD)) == {first, third}
    (job,) = semantic.send(asks(LIKE, cache="semantic"))
    semantic.known.clear()
    semantic.known.live.put_back(*_held(worker))
    semantic.drain()
    assert tiers(semantic, [job]) == ["semantic"]


def _held(worker):
    from headrace_workers.models.vectors.vector_index import VectorIndex

    states, kept = worker.known.live.held()
    return {scope: VectorIndex.of(state) for scope, state in states.items()}, kept


def test_it_is_saved_when_enough_has_changed(semantic, asks, tmp_path, monkeypatch):  # noqa: F811 - the fixture
    ask(semantic, asks, ASKED)
    one, two = Worker(semantic.ledger, tmp_path), Worker(semantic.ledger, tmp_path)
    assert (one.keeping.once(), two.keeping.once()) == (True, False)
    ask(semantic, asks, BREAD)
    assert (one.follower.once() > 0, one.keeping.once()) == (True, False)
    monkeypatch.setattr(saving, "LEAST_CHANGES", 1)
    assert one.keeping.once()
    monkeypatch.setattr(saving, "LEAST_CHANGES", 1_000)
    os.utime(one.saved.folder / MANIFEST, (1, 1))
    assert not one.keeping.once()
    ask(semantic, asks, RIVER)
    one.follower.once()
    assert one.keeping.once()


def test_nothing_is_saved_of_a_ledger_without_answers(semantic, tmp_path):  # noqa: F811 - the fixture
    assert not Worker(semantic.ledger, tmp_path / "home").keeping.once()
    assert not (tmp_path / "home").exists()


def edit(**words):
    def change(worker):
        import hashlib

        path = worker.saved.folder / MANIFEST
        manifest = json.loads(path.read_text())
        body = json.loads(manifest["body"])
        body["meta"].update(words)
        manifest["body"] = json.dumps(body)
        manifest["sha256"] = hashlib.sha256(manifest["body"].encode()).hexdigest()
        path.write_text(json.dumps(manifest))

    return change


def forgotten(worker):
    """The changes up to it are kept no more."""
    with writing(worker.questions._ledger.engine) as tx:
        tx.execute(delete(CHANGES).where(CHANGES.c.number <= worker.questions.reached.mark.number))


def old(worker):
    """It is so old that changes after it may have been forgotten."""
    with writing(worker.questions._ledger.engine) as tx:
        mark = worker.questions.reached.mark
        at = now_ms() - KEPT_MS // 2 - 1
        tx.execute(update(CHANGES).where(CHANGES.c.number == mark.number).values(at=at))
        (row,) = tx.execute(select(CHANGES.c.at).where(CHANGES.c.number == mark.number))
    edit(at=str(row.at))(worker)


def restored(worker):
    with writing(worker.questions._ledger.engine) as tx:
        mark = worker.questions.reached.mark
        tx.execute(update(CHANGES).where(CHANGES.c.number == mark.number).values(at=CHANGES.c.at + 1))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (edit(embedder="other"), "of another embedder"),
        (edit(ledger="other"), "of another ledger"),
        (edit(number="9999999"), "does not hold the change 9999999"),
        (forgotten, "does not hold the change"),
        (old, "does not hold the change"),
        (restored, "does not hold the change"),
    ],
    ids=["embedder", "ledger", "later than the ledger", "forgotten", "old", "restored"],
)
def test_a_snapshot_that_does_not_hold_is_dropped(semantic, asks, tmp_path, read, caplog, spoil, why):  # noqa: F811
    ask(semantic, asks, ASKED, BREAD)
    worker = Worker(semantic.ledger, tmp_path)
    assert worker.keeping.once()
    ask(semantic, asks, RIVER)
    spoil(worker)
    read.clear()
    with caplog.at_level(logging.WARNING):
        worker = Worker(semantic.ledger, tmp_path)
    assert (0, False) in read
    assert len(worker.known) == 3
    (line,) = [record for record in caplog.records if getattr(record, "action", "") == "snapshot_dropped"]
    assert why in line.getMessage()


def test_the_last_change_is_believed_however_old(semantic, asks, tmp_path, read):  # noqa: F811 - the fixture
    """Nothing has changed since; it is not forgotten either."""
    ask(semantic, asks, ASKED)
    with writing(semantic.ledger.engine) as tx:
        tx.execute(update(CHANGES).values(at=CHANGES.c.at - 3 * KEPT_MS))
    assert semantic.ledger.prune(10**9) is False
    assert len(semantic.ledger.read(select(CHANGES))) == 1
    assert Worker(semantic.ledger, tmp_path).keeping.once()
    read.clear()
    assert len(Worker(semantic.ledger, tmp_path).known) == 1
    assert (0, False) not in read


def test_a_full_disk_costs_a_line(semantic, asks, tmp_path, caplog, monkeypatch):  # noqa: F811 - the fixture
    ask(semantic, asks, ASKED)
    (tmp_path / "file").write_text("no folder")
    worker = Worker(semantic.ledger, tmp_path / "file")
    with caplog.at_level(logging.WARNING):
        assert not worker.keeping.once()
        assert not worker.keeping.once()
    assert [getattr(record, "action", "") for record in caplog.records] == ["snapshot_dropped", "not_saved"]


def test_two_ledgers_or_embedders_share_a_home(semantic, asks, tmp_path):  # noqa: F811 - the fixture
    ask(semantic, asks, ASKED)
    mine = Worker(semantic.ledger, tmp_path)
    other = Worker(semantic.ledger, tmp_path, whose="other")
    third = Worker(semantic.ledger, tmp_path, embedder="third")
    assert [worker.keeping.once() for worker in (mine, other, third)] == [True] * 3
    assert len({worker.saved.folder for worker in (mine, other, third)}) == 3
    os.utime(other.saved.folder / MANIFEST, (1, 1))
    os.utime(mine.saved.folder / MANIFEST, (1, 1))
    shutil.rmtree(third.saved.folder)
    assert third.keeping.once()
    assert not other.saved.folder.exists()
    assert not mine.saved.folder.exists()


def test_changes_while_it_is_saved_come_again(semantic, asks, tmp_path, monkeypatch):  # noqa: F811 - the fixture
    ask(semantic, asks, ASKED, BREAD)
    worker = Worker(semantic.ledger, tmp_path)
    first, second = ids(semantic.ledger)
    live, whole = worker.known.live, worker.known.live.held

    def meanwhile():
        states, _ = whole()
        with writing(semantic.ledger.engine) as tx:
            kill(tx, [second], "wrong")
        worker.follower.once()
        return states, live._kept.copy()

    monkeypatch.setattr(live, "held", meanwhile)
    assert worker.keeping.once()
    known = Known(64)
    assert Saved(tmp_path, semantic.ledger.identity, EMBEDDER.id).load(known) is not None
    assert len(known) == 1
    (state,) = known.live.held()[0].values()
    assert state.rows.living == 1
    worker = Worker(semantic.ledger, tmp_path)
    assert worker.finds(BREAD) == [first]


def test_a_ledger_that_was_restored_is_read_anew(semantic, asks, tmp_path, read, monkeypatch):  # noqa: F811
    ask(semantic, asks, ASKED, BREAD)
    worker = Worker(semantic.ledger, tmp_path)
    whole = semantic.ledger.of(Answers).changed

    def away(position, limit):
        monkeypatch.setattr(semantic.ledger.of(Answers), "changed", whole)
        raise Unavailable("PostgreSQL is away")

    for restored_meanwhile in (False, True):
        monkeypatch.setattr(semantic.ledger.of(Answers), "changed", away)
        with pytest.raises(Unavailable):
            worker.follower.once()
        if restored_meanwhile:
            with writing(semantic.ledger.engine) as tx:
                tx.execute(delete(CHANGES))
                tx.execute(delete(ENTRIES))
                entry(tx, "another")
        read.clear()
        worker.follower.once()
        assert ((0, False) in read) is restored_meanwhile
        assert len(worker.known) == (0 if restored_meanwhile else 2)  # the vector of that one cannot be ours
