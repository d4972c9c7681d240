"""Vector stores and the files that are on their way into one, on each database."""

from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import update
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_workers.features.knowledge.store.documents import KnowledgeBases, NewChunk, NewDocument
from headrace_workers.features.knowledge.store.store_files import Incoming, StoreFile, document_name
from headrace_workers.features.knowledge.store.vector_stores import VectorStores
from headrace_workers.features.knowledge.tables import DOCUMENTS, INCOMING, STORES

LEASE_MS = 60_000
FILES = [f"file-{letter * 8}" for letter in "abc"]


@pytest.fixture
def stores(ledger):
    return ledger.of(VectorStores)


def create(stores, knowledge="vs_1", tenant="t", files=(), **more):
    incoming = [Incoming(file_id, f"{file_id}.md", {}) for file_id in files]
    values = {"name": "Handbook", "description": None, "metadata": {}, "expire_days": None, **more}
    return stores.create(tenant, knowledge, files=incoming, **values)


def document(file_id, name="a.md", tenant="t", knowledge="vs_1", sha="1", **more):
    chunk = NewChunk("c", "", 0, 3, "one", np.ones(2, np.float32).tobytes())
    return NewDocument(
        tenant=tenant, knowledge=knowledge, name=document_name(file_id, name), sha256=sha, format="markdown", size=7,
        embedder="e", chunks=[chunk], **more,
    )  # fmt: skip


def age(ledger, table, column, ms):
    """As if so much time had passed since."""
    with ledger.engine.begin() as connection:
        connection.execute(update(table).values({column: table.c[column] - ms}))


def test_a_store_is_there_before_its_documents_and_counts_them(ledger, stores):
    made = create(stores, files=FILES, metadata={"team": "x"}, description="of rules")
    assert (made.id, made.name, made.metadata, made.coming, made.documents) == ("vs_1", "Handbook", {"team": "x"}, 3, 0)
    assert ledger.of(KnowledgeBases).exists("t", "vs_1")
    first, second = stores.take("t", LEASE_MS), stores.take("t", LEASE_MS)
    assert stores.arrived(first.id, first.tries, document(first.file_id))
    stores.fail(second.id, second.tries, "unsupported_file", "it is empty")
    now = stores.store("t", "vs_1")
    assert (now.coming, now.documents, now.failed, now.size) == (1, 1, 1, 7)
    ledger.of(KnowledgeBases).put(replace(document(FILES[0]), knowledge="handbook", name="docs/a.md"))
    assert [(store.id, store.name, store.documents) for store in stores.stores("t")] == [
        ("vs_1", "Handbook", 1), ("handbook", "handbook", 1),
    ]  # fmt: skip
    assert stores.store("u", "vs_1") is None
    assert stores.stores("u") == []


def test_what_is_said_of_a_store_changes_and_the_rest_stays(ledger, stores):
    create(stores, metadata={"a": "1"}, expire_days=3)
    assert stores.change("t", "vs_1", {"name": "Other"}).metadata == {"a": "1"}
    changed = stores.change("t", "vs_1", {"expire_days": None, "metadata": {}})
    assert (changed.name, changed.expire_days, changed.expires_at, changed.metadata) == ("Other", None, None, {})
    ledger.of(KnowledgeBases).put(replace(document(FILES[0]), knowledge="handbook", name="docs/a.md"))
    assert stores.change("t", "handbook", {"metadata": {"b": "2"}}).name == "handbook"
    assert stores.store("t", "handbook").metadata == {"b": "2"}
    assert stores.change("t", "nowhere", {"name": "x"}) is None
    assert stores.change("u", "vs_1", {"name": "x"}) is None


def test_a_file_is_read_by_one_and_by_another_when_its_time_is_over(ledger, stores):
    create(stores, files=FILES[:1])
    first = stores.take("t", LEASE_MS)
    assert stores.take("t", LEASE_MS) is None
    assert not stores.waiting_tenants(9)
    age(ledger, INCOMING, "taken_until", LEASE_MS + 1)
    assert stores.waiting_tenants(9) == ["t"]
    second = stores.take("t", LEASE_MS)
    assert (second.id, second.tries) == (first.id, 2)
    assert not stores.arrived(first.id, first.tries, document(FILES[0]))
    stores.fail(first.id, first.tries, "server_error", "late")
    assert stores.store("t", "vs_1").coming == 1
    assert stores.arrived(second.id, second.tries, document(FILES[0]))
    assert stores.store("t", "vs_1").documents == 1


def test_what_kills_its_readers_fails(ledger, stores):
    create(stores, files=FILES[:2])
    for _ in range(3):
        row = stores.take("t", LEASE_MS)
        assert row.file_id == FILES[0]
        age(ledger, INCOMING, "taken_until", LEASE_MS + 1)
        with ledger.engine.begin() as connection:
            connection.execute(update(INCOMING).where(INCOMING.c.file_id == FILES[1]).values(taken_until=2**50))
    with ledger.engine.begin() as connection:
        connection.execute(update(INCOMING).where(INCOMING.c.file_id == FILES[1]).values(taken_until=0))
    assert stores.take("t", LEASE_MS).file_id == FILES[1]
    assert stores.take("t", LEASE_MS) is None
    failed = stores.file("t", "vs_1", FILES[0])
    assert (failed.state, failed.code, failed.reason) == (
        "failed", "server_error", "whoever read it died of it 3 times",
    )  # fmt: skip


def test_a_file_that_was_given_back_waits_a_moment_and_counts_as_no_try(ledger, stores):
    create(stores, files=FILES[:1])
    for _ in range(5):
        row = stores.take("t", LEASE_MS)
        assert row.tries == 1
        stores.give_back(row.id, row.tries)
        assert stores.take("t", LEASE_MS) is None
        age(ledger, INCOMING, "taken_until", 10_000)


def test_a_file_that_was_given_back_comes_after_those_that_wait(ledger, stores):
    create(stores, files=FILES)
    row = stores.take("t", LEASE_MS)
    stores.give_back(row.id, row.tries)
    age(ledger, INCOMING, "taken_until", 10_000)
    assert [stores.take("t", LEASE_MS).file_id for _ in FILES] == [*FILES[1:], FILES[0]]


def test_who_was_too_slow_gives_back_nothing_that_another_reads(ledger, stores):
    create(stores, files=FILES[:1])
    slow = stores.take("t", LEASE_MS)
    age(ledger, INCOMING, "taken_until", LEASE_MS + 1)
    stores.take("t", LEASE_MS)
    stores.give_back(slow.id, slow.tries)
    age(ledger, INCOMING, "taken_until", LEASE_MS - 1_000)
    assert stores.take("t", LEASE_MS) is None


def test_a_file_that_is_removed_meanwhile_does_not_arrive(stores):
    create(stores, files=FILES[:2])
    first, second = stores.take("t", LEASE_MS), stores.take("t", LEASE_MS)
    assert stores.remove_file("t", "vs_1", first.file_id)
    assert not stores.arrived(first.id, first.tries, document(first.file_id))
    assert stores.remove("t", "vs_1")
    assert not stores.arrived(second.id, second.tries, document(second.file_id))
    assert not stores.remove("t", "vs_1")
    assert stores.store("t", "vs_1") is None


def test_a_file_is_found_whatever_it_is_and_only_in_its_store(ledger, stores):
    create(stores, files=FILES[:1])
    ledger.of(KnowledgeBases).put(document(FILES[1], attributes={"year": 2026}))
    document_id = ledger.of(KnowledgeBases).put(replace(document(FILES[2]), name="docs/a.md", sha256="2"))
    other = f"document-{document_id}"
    found = {text: stores.file("t", "vs_1", text) for text in (FILES[0], FILES[1], other)}
    assert {text: (file.name, file.state) for text, file in found.items()} == {
        FILES[0]: (f"{FILES[0]}.md", "in_progress"), FILES[1]: ("a.md", "completed"), other: ("docs/a.md", "completed"),
    }  # fmt: skip
    assert found[FILES[1]].attributes == {"year": 2026}
    for tenant, knowledge in (("u", "vs_1"), ("t", "vs_2")):
        assert [stores.file(tenant, knowledge, text) for text in found] == [None] * 3
        assert not any(stores.remove_file(tenant, knowledge, text) for text in found)
        assert not any(stores.describe(tenant, knowledge, text, {}) for text in found)
    for nothing in ("", "file-%", "file-", "document-", "document-x", "document-99999999999999999999", "file-a_aaaaaa"):
        assert stores.file("t", "vs_1", nothing) is None
    assert [stores.remove_file("t", "vs_1", text) for text in found] == [True] * 3
    assert stores.files("t", "vs_1", limit=9) == []


def test_attributes_of_a_file_change_wherever_it_is(ledger, stores):
    create(stores, files=FILES[:1])
    assert stores.describe("t", "vs_1", FILES[0], {"a": 1})
    row = stores.take("t", LEASE_MS)
    assert row.attributes == '{"a":1}'
    assert stores.arrived(row.id, row.tries, document(FILES[0], attributes={"a": 1}))
    assert stores.describe("t", "vs_1", FILES[0], {"a": 2})
    assert stores.file("t", "vs_1", FILES[0]).attributes == {"a": 2}
    stores.send("t", "vs_1", [Incoming(FILES[0], "a.md", {"a": 3})])
    assert (stores.file("t", "vs_1", FILES[0]).attributes, stores.waiting_tenants(9)) == ({"a": 3}, [])


def test_a_file_that_failed_is_read_again_when_it_is_sent_again(stores):
    create(stores, files=FILES[:1])
    row = stores.take("t", LEASE_MS)
    stores.fail(row.id, row.tries, "unsupported_file", "no")
    stores.send("t", "vs_1", [Incoming(FILES[0], "a.md", {})])
    file = stores.file("t", "vs_1", FILES[0])
    assert (file.state, file.code, file.reason) == ("in_progress", None, None)
    assert stores.take("t", LEASE_MS).tries == 1


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("state", [None, "completed", "in_progress"])
def test_files_are_paged_in_order_of_time_and_none_is_passed_over(ledger, stores, newest_first, state):
    """Though many came at the same moment, there and on their way."""
    coming = [f"file-{n:08x}" for n in range(7)]
    create(stores, files=coming)
    for n in range(7):
        ledger.of(KnowledgeBases).put(document(f"file-{n + 20:08x}", sha=str(n)))
    with ledger.engine.begin() as connection:
        connection.execute(update(INCOMING).values(created_at=1_000 + INCOMING.c.id % 3))
        connection.execute(update(DOCUMENTS).values(added_at=1_000 + DOCUMENTS.c.id % 3))
    whole = stores.files("t", "vs_1", limit=99, newest_first=newest_first, state=state)
    assert len(whole) == (14 if state is None else 7)
    times = [item.created_at for item in whole]
    assert times == sorted(times, reverse=newest_first)
    for size in (1, 2, 5):
        paged, after = [], None
        while page := stores.files("t", "vs_1", after=after, limit=size, newest_first=newest_first, state=state):
            paged += page
            after = page[-1]
        assert paged == whole


def test_a_store_that_nobody_uses_loses_its_documents(ledger, stores):
    for knowledge, days in (("vs_1", 2), ("vs_2", 2), ("vs_3", None), ("vs_4", 365)):
        create(stores, knowledge, expire_days=days)
        for n in range(3):
            ledger.of(KnowledgeBases).put(replace(document(f"file-{n:08x}", sha=str(n)), knowledge=knowledge))
    age(ledger, STORES, "used_at", 2 * 86_400_000 + 1)
    stores.used("t", "vs_2")
    assert [stores.expire(2), stores.expire(2), stores.expire(2)] == [2, 1, 0]
    assert {store.id: (store.documents, store.expired) for store in stores.stores("t")} == {
        "vs_1": (0, True), "vs_2": (3, False), "vs_3": (3, False), "vs_4": (3, False),
    }  # fmt: skip
    assert stores.store("t", "vs_2").expires_at > stores.store("t", "vs_2").used_at
    stores.used("t", "vs_1")
    assert stores.store("t", "vs_1").expired


def test_a_file_is_told_whole_and_nobody_elses_is_touched(ledger, stores):
    before = ledger.now()
    for tenant, knowledge in (("t", "vs_1"), ("t", "vs_2"), ("u", "vs_3")):
        create(stores, knowledge, tenant, FILES[:2])
    file = stores.file("t", "vs_1", FILES[0])
    assert before <= file.created_at <= ledger.now()
    name = f"{FILES[0]}.md"
    assert file == StoreFile(FILES[0], name, "in_progress", file.created_at, {})
    others = [("t", "vs_1", FILES[1]), ("t", "vs_2", FILES[0]), ("u", "vs_3", FILES[0])]
    were = [stores.file(*other) for other in others]
    assert stores.describe("t", "vs_1", FILES[0], {"a": 1})
    row = stores.take("t", LEASE_MS)
    assert (row.tenant, row.knowledge, row.file_id, row.tries) == ("t", "vs_1", FILES[0], 1)
    stores.fail(row.id, row.tries, "unsupported_file", "r" * 3_000)
    assert stores.file("t", "vs_1", FILES[0]) == replace(
        file, state="failed", attributes={"a": 1}, code="unsupported_file", reason="r" * 2_000
    )
    stores.send("t", "vs_1", [Incoming(FILES[0], "again.md", {})])
    assert stores.file("t", "vs_1", FILES[0]).name == "again.md"
    for _ in range(len(others)):
        row = stores.take("t", LEASE_MS)
        stores.give_back(row.id, row.tries)
    assert [stores.file(*other) for other in others] == were
    assert stores.remove_file("t", "vs_1", FILES[0])
    assert [stores.file(*other) for other in others] == were
    for knowledge in ("vs_1", "vs_2"):
        ledger.of(KnowledgeBases).put(document(FILES[2], knowledge=knowledge, attributes={"k": knowledge}))
    there = stores.file("t", "vs_2", FILES[2])
    assert (there.id, there.name, there.state, there.size, there.attributes) == (
        FILES[2], "a.md", "completed", 7, {"k": "vs_2"},
    )  # fmt: skip
    assert stores.describe("t", "vs_1", FILES[2], {"k": "other"})
    assert stores.remove_file("t", "vs_1", FILES[2])
    assert stores.file("t", "vs_2", FILES[2]) == there
    assert [row.text for row in stores.texts(there.document_id).rows] == ["one"]
    assert stores.texts(99) == ([], False)
