import threading

import pytest
from tests.services.eventually import eventually

from headrace_schemas.errors import Unavailable, UnknownModel
from headrace_workers.core.progress import Progress
from headrace_workers.features.knowledge.intake import Filling, Fills, TenantTurns
from headrace_workers.features.knowledge.reading import Reader
from headrace_workers.features.knowledge.store.documents import FIRST, KnowledgeBases
from headrace_workers.features.knowledge.store.store_files import Incoming
from headrace_workers.features.knowledge.store.vector_stores import VectorStores
from headrace_workers.testing import HashEmbedder

EMBEDDER = HashEmbedder()
MILL = b"---\nyear: 1976\n---\n# Mills\n\nA mill by the river.\n"


@pytest.fixture
def files():
    return {"file-a": MILL, "file-b": b"", "file-c": b"\x7fELF\0\1", "file-d": "A clock.".encode("utf-16")}


@pytest.fixture
def filling(ledger, files):
    with Reader() as reader:
        yield Filling(
            ledger, lambda file_id, most: None if file_id not in files else files[file_id][:most], reader,
            lambda: EMBEDDER,
        )  # fmt: skip


def send(ledger, *names, tenant="t", **attributes):
    """These files are on their way into the tenant's store `vs_1`."""
    incoming = [Incoming(f"file-{name[0]}", name, attributes) for name in names]
    ledger.of(VectorStores).create(
        tenant, "vs_1", name="", description=None, metadata={}, expire_days=None, files=incoming
    )  # fmt: skip


def test_a_file_becomes_a_document_and_what_cannot_is_told(ledger, filling):
    send(ledger, "a.md", "b.md", "c.txt", "d.txt", "e.txt", language="en")
    while filling.once():
        pass
    found = {file.id: file for file in ledger.of(VectorStores).files("t", "vs_1", limit=9)}
    assert {item: file.state for item, file in found.items()} == {
        "file-a": "completed", "file-b": "failed", "file-c": "failed", "file-d": "completed", "file-e": "failed",
    }  # fmt: skip
    assert found["file-a"].attributes == {"language": "en"}
    assert found["file-a"].size == len(MILL)
    assert [(found[name].code, found[name].reason) for name in ("file-b", "file-e")] == [
        ("unsupported_file", "b.md: it is empty"), ("invalid_file", "there is no file file-e any more"),
    ]  # fmt: skip
    assert "binary" in found["file-c"].reason
    rows = ledger.of(KnowledgeBases).chunks("t", "vs_1", FIRST, 9)
    assert [(row.document, row.section) for row in rows] == [
        ("file-a/a.md", ""),
        ("file-a/a.md", "Mills"),
        ("file-d/d.txt", ""),
    ]


@pytest.mark.parametrize("away", [Unavailable("the file store is away"), UnknownModel("no embedder is called x")])
def test_what_cannot_be_read_for_now_is_read_later(ledger, filling, files, away):
    send(ledger, "a.md")

    def fails(*_):
        raise away

    object.__setattr__(filling, "embedder", fails)
    with pytest.raises(Unavailable, match=str(away)):
        filling.once()
    (file,) = ledger.of(VectorStores).files("t", "vs_1", limit=9)
    assert file.state == "in_progress"


def test_a_file_that_is_too_large_is_refused(ledger, filling, files, monkeypatch):
    monkeypatch.setattr("headrace_workers.features.knowledge.intake.SIZE_LIMIT", 10)
    send(ledger, "a.md")
    assert filling.once()
    (file,) = ledger.of(VectorStores).files("t", "vs_1", limit=9)
    assert (file.state, "more than 10 bytes" in file.reason) == ("failed", True)


def test_it_goes_on_by_itself_and_stops(ledger, filling):
    before, progress = set(threading.enumerate()), Progress()
    fills = Fills(filling, progress.loop("fill"))
    fills.start()
    send(ledger, "a.md")
    eventually(lambda: ledger.of(VectorStores).store("t", "vs_1").documents == 1)
    fills.stop()
    assert not any(thread.name == "fill" for thread in set(threading.enumerate()) - before)


def test_tenants_take_turns_by_the_time_that_their_files_cost(ledger, filling, files):
    files.update(dict.fromkeys("wxyz", MILL))
    files.update({f"file-{text}": MILL for text in "wxyz"})
    send(ledger, "w.md", "x.md", "y.md", "z.md", tenant="crowd")
    order = []
    clock = iter(range(0, 100_000, 300))  # each file takes 300 s
    fair = Filling(ledger, filling.read_file, filling.reader, filling.embedder, monotonic=lambda: next(clock))

    def read_one():
        before = {tenant: ledger.of(VectorStores).store(tenant, "vs_1").documents for tenant in ("crowd", "few")}
        assert fair.once()
        order.append(
            next(t for t, count in before.items() if ledger.of(VectorStores).store(t, "vs_1").documents > count)
        )

    ledger.of(VectorStores).create("few", "vs_1", name="", description=None, metadata={}, expire_days=None, files=[])
    read_one()
    read_one()
    ledger.of(VectorStores).send("few", "vs_1", [Incoming("file-a", "a.md", {})])
    read_one()
    ledger.of(VectorStores).send("few", "vs_1", [Incoming("file-d", "d.txt", {})])
    read_one()
    read_one()
    assert order == ["crowd", "crowd", "few", "crowd", "few"]


def test_a_tenant_that_was_away_gets_no_credit():
    turns = TenantTurns()
    turns.order(["a"])
    turns.charge("a", 900.0)
    assert turns.order(["a", "b"])[0] in ("a", "b")
    turns.charge("b", 1.0)
    assert turns.order(["a", "b"]) == ["a", "b"]


def test_what_is_missing_is_told_once_until_it_is_back(ledger, filling, caplog):
    caplog.set_level("INFO")
    send(ledger, "a.md")
    here = [False]

    def embedder():
        if not here[0]:
            raise UnknownModel("no embedder is called x")
        return EMBEDDER

    fills = Fills(
        Filling(ledger, filling.read_file, filling.reader, embedder), Progress().loop("fill")
    )  # fmt: skip
    loop = fills._progress
    seen = []
    for _ in range(3):
        awaited = fills._look()
        loop.beat(awaited)
        seen.append(awaited is not None)
    assert seen == [True, True, True]
    here[0] = True
    ledger.of(VectorStores).remove("t", "vs_1")
    loop.beat(fills._look())
    assert loop.state().awaited is None
    told = [record.message for record in caplog.records if "vector stores" in record.message]
    assert [("waiting" in line, "there again" in line) for line in told] == [(True, False), (False, True)]
