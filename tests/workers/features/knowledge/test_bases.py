"""Knowledge bases in a worker's memory: read when they are asked for, and then as the ledger is."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from sqlalchemy import delete
from tests.services.eventually import eventually
from tests.workers.features.knowledge.test_passages import put

from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger import change_feed
from headrace_workers.core.ledger.change_feed import Follower
from headrace_workers.core.progress import Progress
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import CHANGES
from headrace_workers.features.knowledge.bases import Bases
from headrace_workers.features.knowledge.passages import VECTORS, WORDS
from headrace_workers.features.knowledge.store.documents import KnowledgeBases, NewChunk, NewDocument
from headrace_workers.testing import HashEmbedder

MILL, CLOCK = "A mill by the river grinds corn.", "A clock in the hall."
ALL = 9  # more than any base here holds


class Counting(HashEmbedder):
    def __init__(self, name="hash"):
        super().__init__(name)
        self.calls = []

    def embed(self, texts):
        self.calls.append(list(texts))
        return super().embed(texts)


class Spied:
    """A ledger whose reads of chunks are noted, and of which a test may do something in the middle of the next."""

    def __init__(self, ledger):
        self.ledger, self.reads, self.meanwhile = ledger, [], None
        self._chunks = ledger.of(KnowledgeBases).chunks
        ledger.of(KnowledgeBases).chunks = self

    def __call__(self, tenant, knowledge, after, limit, document_id=None):
        self.reads.append((tenant, knowledge, document_id))
        rows = self._chunks(tenant, knowledge, after, limit, document_id)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return rows


@pytest.fixture
def embedder():
    return Counting()


@pytest.fixture
def bases(ledger, embedder):
    return Bases(ledger, embedder)


@pytest.fixture
def follower(bases):
    follower = Follower(bases, Progress().loop("follow documents"))
    follower.once()
    return follower


def found(bases, query=MILL, tenant="t"):
    """The texts that are found, in any order."""
    (hits,) = bases.search(tenant, "k", [query], ALL)
    return sorted(hit.chunk.text for hit in hits)


def test_passages_are_found_with_the_version_of_their_document(ledger, bases):
    put(ledger, {"mill.md": [MILL], "clock.md": [CLOCK]})
    documents = {row.id: row for row in ledger.of(KnowledgeBases).documents("t", "k", "", 9)}
    (mill, clock), (best, _) = bases.search("t", "k", ["a mill", "a clock"], 2)
    assert (mill.chunk.text, best.chunk.text) == (MILL, CLOCK)
    assert documents[mill.document_id].name == mill.chunk.document == "mill.md"
    assert mill.version == documents[mill.document_id].sha256
    assert clock.document_id == best.document_id
    assert set(mill.ranks) == {WORDS, VECTORS}


def test_nothing_is_found_where_nothing_is(ledger, bases):
    assert bases.search("t", "k", ["mill", "clock"], 5) == [[], []]
    assert not bases.exists("t", "k")
    put(ledger, {"empty.md": []})
    assert bases.search("t", "k", ["mill"], 5) == [[]]
    assert bases.exists("t", "k")
    put(ledger, {"mill.md": [MILL]})
    assert found(bases) == [MILL]
    assert bases.search("t", "k", [], 5) == []
    assert bases.exists("t", "k")


def test_another_tenants_base_of_the_name_is_another(ledger, bases):
    put(ledger, {"mill.md": [MILL]})
    put(ledger, {"mill.md": [CLOCK]}, tenant="u")
    assert (found(bases), found(bases, tenant="u"), found(bases, tenant="v")) == ([MILL], [CLOCK], [])
    assert [bases.exists(tenant, "k") for tenant in "tuv"] == [True, True, False]


def test_queries_are_embedded_at_once_or_not_at_all(ledger, bases, embedder):
    put(ledger, {"mill.md": [MILL], "clock.md": [CLOCK]})
    queries = ["a mill", "a clock"]
    hits = bases.search("t", "k", queries, 2)
    assert embedder.calls == [queries]
    assert bases.search("t", "k", queries, 2, vectors=HashEmbedder().embed(queries)) == hits
    assert embedder.calls == [queries]
    with pytest.raises(ValueError, match="zip"):
        bases.search("t", "k", queries, 2, vectors=HashEmbedder().embed(["a mill"]))


def test_a_base_is_read_once_however_many_ask(ledger, bases):
    put(ledger, {"mill.md": [MILL]})
    spied, start = Spied(ledger), threading.Barrier(4)

    def ask(_):
        start.wait()
        return found(bases)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(4))) == [[MILL]] * 4
    assert spied.reads == [("t", "k", None)]


def test_a_changed_document_replaces_its_passages(ledger, bases, follower):
    put(ledger, {"mill.md": [MILL, "Its wheel turns slowly."], "clock.md": [CLOCK]})
    assert len(found(bases)) == 3
    put(ledger, {"mill.md": ["A windmill on the hill."]}, sha="2")
    assert follower.once() == 2 + 1  # those of before it was asked for, too
    assert found(bases) == [CLOCK, "A windmill on the hill."]
    (hits,) = bases.search("t", "k", ["windmill"], 1)
    assert hits[0].version == "2"


def test_a_change_costs_the_reading_of_its_document(ledger, bases, follower):
    put(ledger, {"mill.md": [MILL], "clock.md": [CLOCK]})
    put(ledger, {"mill.md": [MILL]}, tenant="u")
    found(bases)
    follower.once()
    spied = Spied(ledger)
    put(ledger, {"mill.md": ["A windmill."]}, sha="2")
    put(ledger, {"mill.md": ["A windmill."]}, sha="2", tenant="u")
    follower.once()
    (mill,) = [row.id for row in ledger.of(KnowledgeBases).documents("t", "k", "", 9) if row.name == "mill.md"]
    assert spied.reads == [("t", "k", mill)]
    assert follower.once() == 0
    assert len(spied.reads) == 1


def test_what_is_removed_is_found_no_more(ledger, bases, follower):
    put(ledger, {"mill.md": [MILL], "clock.md": [CLOCK]})
    assert len(found(bases)) == 2
    clock, mill = (row.id for row in ledger.of(KnowledgeBases).documents("t", "k", "", 9))
    ledger.of(KnowledgeBases).remove([clock])
    follower.once()
    assert found(bases) == [MILL]
    ledger.of(KnowledgeBases).remove([mill])
    follower.once()
    assert found(bases) == []
    assert not bases.exists("t", "k")


@pytest.mark.parametrize("what", ["changed", "removed", "added"])
def test_what_changes_while_a_base_is_read_is_not_missed(ledger, bases, follower, what):
    put(ledger, {"mill.md": [MILL], "clock.md": [CLOCK]})
    follower.once()
    spied = Spied(ledger)

    def change():
        if what == "removed":
            ledger.of(KnowledgeBases).remove(
                [row.id for row in ledger.of(KnowledgeBases).documents("t", "k", "clock.md", 9)]
            )
        else:
            put(ledger, {"mill.md" if what == "changed" else "new.md": ["A windmill."]}, sha="2")
        assert follower.once() == 1

    spied.meanwhile = change
    expected = {"changed": [CLOCK, "A windmill."], "removed": [CLOCK], "added": [CLOCK, MILL, "A windmill."]}[what]
    assert found(bases) == sorted(expected)
    assert follower.once() == 0


def test_a_search_beside_a_change_misses_no_document(ledger, bases, follower):
    put(ledger, {"mill.md": [MILL], "clock.md": [CLOCK]})
    found(bases)
    passages = bases._held["t", "k"].there
    search, turns = passages._vectors.search, iter(range(9))

    def change_before(vectors, k, among=None):
        nearest = search(vectors, k, among)
        if next(turns) == 0:
            put(ledger, {"mill.md": [MILL]}, sha="2")
            follower.once()
        return nearest

    passages._vectors.search = change_before
    (hits,) = bases.search("t", "k", [MILL], 9)
    assert sorted(hit.chunk.text for hit in hits) == [CLOCK, MILL]
    assert hits[0].version == "2"


def test_a_base_that_nobody_asks_for_is_let_go(ledger, embedder):
    now = 0.0
    bases = Bases(ledger, embedder, unused=60.0, monotonic=lambda: now)
    put(ledger, {"mill.md": [MILL]})
    put(ledger, {"clock.md": [CLOCK]}, tenant="u")
    found(bases), found(bases, tenant="u")
    spied = Spied(ledger)
    now = 40.0
    found(bases)
    now = 90.0
    bases.tidy()
    assert (found(bases), found(bases, tenant="u")) == ([MILL], [CLOCK])
    assert spied.reads == [("u", "k", None)]


def test_while_nobody_asks_nothing_is_followed(ledger, embedder, monkeypatch):
    now, asked = 0.0, []
    bases = Bases(ledger, embedder, unused=60.0, monotonic=lambda: now)
    follower = Follower(bases, Progress().loop("follow documents"))
    changed = bases.changed
    monkeypatch.setattr(bases, "changed", lambda *given: asked.append(given) or changed(*given))
    put(ledger, {"mill.md": [MILL]})
    follower.once()
    assert found(bases) == [MILL]
    now = 61.0
    follower.once()
    assert len(asked) == 2  # it is held
    bases.tidy()
    follower.once()
    follower.once()
    assert len(asked) == 2
    put(ledger, {"mill.md": [CLOCK]}, sha="2")
    assert found(bases) == [CLOCK]
    follower.once()
    assert found(bases) == [CLOCK]
    assert bases.begun == 2  # the ledger may have been restored meanwhile
    put(ledger, {"mill.md": [MILL]}, sha="3")
    follower.once()
    assert found(bases) == [MILL]


def test_the_passages_in_memory_are_bounded(ledger, embedder):
    now = 0.0
    bases = Bases(ledger, embedder, most=2, monotonic=lambda: now)
    for number, tenant in enumerate("tuv"):
        put(ledger, {f"{n}.md": [f"Mill {n} of {tenant}."] for n in range(number + 1)}, tenant=tenant)
    spied = Spied(ledger)
    for now, tenant in enumerate("tuv"):  # noqa: B007 - the clock
        found(bases, tenant=tenant)
        bases.tidy()
    assert [name.tenant for name in bases._held] == ["v"]
    now = 9.0
    found(bases, tenant="t")
    bases.tidy()
    assert [name.tenant for name in bases._held] == ["t"]
    assert [tenant for tenant, *_ in spied.reads] == ["t", "u", "v", "t"]


def test_who_has_not_followed_for_long_reads_anew(ledger, bases, follower):
    """Changes are not kept for ever."""
    put(ledger, {"mill.md": [MILL]})
    found(bases)
    put(ledger, {"mill.md": [CLOCK]}, sha="2")
    with writing(ledger.engine) as tx:
        tx.execute(delete(CHANGES))
    assert follower.once() == 0
    assert found(bases) == [MILL]
    follower._looked -= change_feed.TOO_LONG + 1
    follower.once()
    assert found(bases) == [CLOCK]


def test_a_base_that_is_read_while_all_is_forgotten_is_not_kept(ledger, bases, follower):
    put(ledger, {"mill.md": [MILL]})
    spied = Spied(ledger)
    spied.meanwhile = lambda: bases.begin(Progress().loop("x"))
    assert found(bases) == [MILL]
    assert bases._held == {}


def test_a_ledger_that_is_away_is_told_to_whoever_asks(ledger, bases):
    put(ledger, {"mill.md": [MILL]})

    def away():
        raise Unavailable("the ledger did not answer")

    Spied(ledger).meanwhile = away
    with pytest.raises(Unavailable):
        found(bases)
    assert found(bases) == [MILL]


def test_a_vector_that_can_be_none_of_ours_is_left_out(ledger, bases, follower, caplog):
    put(ledger, {"mill.md": [MILL], "clock.md": [CLOCK]})
    found(bases)
    good = np.full(64, 0.125, np.float32)
    spoilt = [b"", b"abc", good[:-1].tobytes(), (good * np.nan).tobytes(), (good * 2).tobytes()]
    for number, vector in enumerate(spoilt):
        put(ledger, {f"{number}.md": [f"Windmill {number}."]}, vector=vector)
    with caplog.at_level(logging.WARNING, "headrace"):
        follower.once()
    hits = {hit.chunk.document: set(hit.ranks) for hit in bases.search("t", "k", ["windmill"], ALL)[0]}
    assert hits == {f"{n}.md": {WORDS} for n in range(len(spoilt))} | {"mill.md": {VECTORS}, "clock.md": {VECTORS}}
    assert caplog.text.count("passages of document") == len(spoilt)
    assert caplog.text.count("`headrace knowledge remove` it and add it again") == len(spoilt)


def test_chunks_of_one_key_are_all_kept(ledger, bases):
    texts = [MILL, CLOCK]
    vectors = HashEmbedder().embed(texts)
    chunks = [
        NewChunk("same", "", 0, 9, text, vector.tobytes()) for text, vector in zip(texts, vectors, strict=True)
    ]  # fmt: skip
    for name in ("a.md", "b.md"):
        ledger.of(KnowledgeBases).put(
            NewDocument(
                tenant="t", knowledge="k", name=name, sha256="1", format="markdown", size=1,
                embedder=HashEmbedder().id, chunks=chunks if name == "a.md" else chunks[:1],
            )
        )  # fmt: skip
    assert found(bases) == [CLOCK, MILL]  # of those that say the same, one
    assert len(bases._held["t", "k"].there) == 3


def test_another_embedders_vectors_are_told_of_once(ledger, embedder, caplog):
    put(ledger, {"mill.md": [MILL], "clock.md": [CLOCK]}, embedder=HashEmbedder("other"))
    bases = Bases(ledger, embedder)
    follower = Follower(bases, Progress().loop("follow documents"))
    follower.once()
    with caplog.at_level(logging.WARNING, "headrace"):
        (hits,) = bases.search("t", "k", ["a mill"], 9)
        put(ledger, {"mill.md": [MILL]}, sha="2", embedder=HashEmbedder("other"))
        follower.once()
    assert {frozenset(hit.ranks) for hit in hits} == {frozenset({WORDS})}
    (told,) = [record.getMessage() for record in caplog.records]
    assert "2 of 2 passages of knowledge base k are found by words only" in told
    assert f"not of {embedder.id}; `headrace knowledge add k PATH…`" in told


def test_a_follower_of_its_own_keeps_a_base_up(ledger, bases):
    put(ledger, {"mill.md": [MILL]})
    progress = Progress()
    tell = partial(ledger.report_position, "w", "document")
    follower = Follower(bases, progress.loop("follow documents"), tell)
    follower.start()
    try:
        eventually(lambda: found(bases) == [MILL])
        put(ledger, {"mill.md": [CLOCK]}, sha="2")
        eventually(lambda: found(bases) == [CLOCK])
        eventually(lambda: [item.holder for item in ledger.overview().followers] == ["w"])
        assert [loop.name for loop in progress.loops] == ["follow documents"]
    finally:
        follower.stop()


def test_a_floor_fits_its_base_and_is_read_with_it(ledger, embedder):
    put(ledger, {"a.md": [MILL]}, tenant="t")
    put(ledger, {"b.md": [CLOCK]}, tenant="u")
    bases = Bases(ledger, embedder)
    mill, clock, again, none = (bases.floor(tenant, "k") for tenant in ("t", "u", "t", "nobody"))
    assert none == 0.28 < mill == again != clock > 0.28
    assert [len(texts) for texts in embedder.calls if len(texts) > 1] == [160]
