"""Batches of files that share files: one is taken out when nobody wants it any more, and not before."""

import threading

from sqlalchemy import text
from tests.services.eventually import eventually
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_workers.core.sql.database import writing
from headrace_workers.features.knowledge.store import store_files, vector_stores
from headrace_workers.features.knowledge.store.store_files import Incoming
from headrace_workers.features.knowledge.store.vector_stores import FileBatches, VectorStores

FILES = [f"file-{letter * 8}" for letter in "abc"]


def of(*numbers):
    return [Incoming(FILES[number], f"{FILES[number]}.md", {}) for number in numbers]


def create(ledger, *files):
    ledger.of(VectorStores).create(
        "t", "vs", name="n", description=None, metadata={}, expire_days=None, files=of(*files)
    )  # fmt: skip


def there(ledger):
    return [
        number for number, file_id in enumerate(FILES) if ledger.of(VectorStores).file("t", "vs", file_id) is not None
    ]


def stands(batch):
    """Files of a batch that are in the store, and how many were taken out of it."""
    return [FILES.index(file.id) for file in batch.files], batch.cancelled


def test_a_file_stays_while_another_batch_wants_it(ledger):
    create(ledger)
    ledger.of(FileBatches).send("t", "vs", "one", of(0, 1))
    ledger.of(FileBatches).send("t", "vs", "two", of(1, 2))
    assert stands(ledger.of(FileBatches).cancel("t", "vs", "one")) == ([], 2)
    assert there(ledger) == [1, 2]
    assert stands(ledger.of(FileBatches).find("t", "vs", "two")) == ([1, 2], None)
    assert stands(ledger.of(FileBatches).cancel("t", "vs", "two")) == ([], 2)
    assert there(ledger) == []
    assert stands(ledger.of(FileBatches).find("t", "vs", "one")) == ([], 2)


def test_a_file_that_was_put_in_by_itself_stays(ledger):
    create(ledger, 0)
    ledger.of(FileBatches).send("t", "vs", "one", of(0, 1))
    ledger.of(VectorStores).send("t", "vs", of(1))
    ledger.of(FileBatches).cancel("t", "vs", "one")
    assert there(ledger) == [0, 1]
    ledger.of(FileBatches).send("t", "vs", "a-old", of(2))
    for number in range(vector_stores.MOST_KEPT):
        ledger.of(FileBatches).send("t", "vs", f"new-{number}", of(2))
    assert ledger.of(FileBatches).find("t", "vs", "a-old") is None
    for number in range(vector_stores.MOST_KEPT):
        ledger.of(FileBatches).cancel("t", "vs", f"new-{number}")
    assert there(ledger) == [0, 1, 2]


def test_a_batch_that_comes_while_another_is_cancelled_keeps_its_files(ledger):
    create(ledger)
    ledger.of(FileBatches).send("t", "vs", "one", of(0))
    with writing(ledger.engine) as tx:
        store_files.send(tx, "t", "vs", of(0), batched=True)
        if ledger.engine.dialect.name == "postgresql":  # SQLite has one writer at a time
            cancelled = threading.Thread(target=ledger.of(FileBatches).cancel, args=("t", "vs", "one"), daemon=True)
            cancelled.start()
            waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            eventually(lambda: ledger.read(text(waits)))
        vector_stores.note_files(tx, "t", "vs", "two", of(0))
    if ledger.engine.dialect.name == "postgresql":
        cancelled.join(60)
    else:
        ledger.of(FileBatches).cancel("t", "vs", "one")
    assert ledger.of(FileBatches).find("t", "vs", "one").cancelled == 1
    assert there(ledger) == [0]
