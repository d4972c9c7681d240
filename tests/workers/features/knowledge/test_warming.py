"""Knowledge bases are in memory before the first question: the bases that were used lately, the most used first."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update
from tests.services.eventually import eventually
from tests.workers.features.knowledge.test_bases import CLOCK, MILL, Spied, found
from tests.workers.features.knowledge.test_passages import put

from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger.change_feed import Follower
from headrace_workers.core.progress import Progress
from headrace_workers.core.sql.database import writing
from headrace_workers.features.knowledge import bases as bases_module
from headrace_workers.features.knowledge.bases import Bases, KeepsWarm, Warming
from headrace_workers.features.knowledge.store.documents import KnowledgeBases
from headrace_workers.features.knowledge.tables import BASE_USES, DOCUMENTS
from headrace_workers.testing import HashEmbedder

LONG_AGO = 1_000  # ms since 1970


@pytest.fixture
def loop():
    """Where it is told how far the reading is."""
    return Progress().loop("knowledge bases")


def begun(ledger, **more):
    bases = Bases(ledger, HashEmbedder(), **more)
    Follower(bases, Progress().loop("follow documents")).once()
    return bases


def in_memory(bases):
    return sorted(name.tenant for name, held in bases._held.items() if held.there)


def test_what_was_used_lately_is_read_before_it_is_asked_for(ledger, loop):
    for tenant in "tuv":
        put(ledger, {"mill.md": [MILL]}, tenant=tenant)
    with writing(ledger.engine) as tx:
        tx.execute(update(DOCUMENTS).where(DOCUMENTS.c.tenant != "v").values(added_at=LONG_AGO))
    ledger.of(KnowledgeBases).asked({("t", "k"): 1})
    bases, spied = begun(ledger), Spied(ledger)
    assert Warming(ledger, bases).warm(loop) == 2
    assert [tenant for tenant, *_ in spied.reads] == ["t", "v"]
    assert [found(bases, tenant=tenant) for tenant in "tv"] == [[MILL], [MILL]]
    assert len(spied.reads) == 2


def test_those_asked_most_come_first_and_as_many_as_have_room(ledger, loop):
    """One that is too large for what is left gives its place to a smaller one."""
    sizes = {"t": 3, "u": 2, "v": 2, "w": 1}
    for tenant, size in sizes.items():
        put(ledger, {f"{n}.md": [f"Mill {n} of {tenant}."] for n in range(size)}, tenant=tenant)
    ledger.of(KnowledgeBases).asked({("t", "k"): 2, ("u", "k"): 9, ("v", "k"): 1})
    bases, spied = begun(ledger, most=5), Spied(ledger)
    Warming(ledger, bases).warm(loop)
    assert [tenant for tenant, *_ in spied.reads] == ["u", "t"]
    assert bases.room == 0
    bases, spied = begun(ledger, most=3), Spied(ledger)
    Warming(ledger, bases).warm(loop)
    assert [tenant for tenant, *_ in spied.reads] == ["w", "u"][::-1]


def test_questions_of_days_before_count_half(ledger):
    """So that what is asked today comes before what was asked once; and what nobody asked in a week is forgotten."""
    put(ledger, {"mill.md": [MILL]})
    put(ledger, {"mill.md": [MILL]}, tenant="u")
    ledger.of(KnowledgeBases).asked({("t", "k"): 8, ("u", "k"): 5})
    assert [row.tenant for row in ledger.of(KnowledgeBases).lately_used(9)] == ["t", "u"]
    with writing(ledger.engine) as tx:
        tx.execute(update(BASE_USES).values(asked_at=LONG_AGO))
    ledger.of(KnowledgeBases).asked({("t", "k"): 1})
    ledger.of(KnowledgeBases).asked({("t", "k"): 1, ("u", "k"): 4})
    assert ledger.read(BASE_USES.select().with_only_columns(BASE_USES.c.questions)) == [(6.0,), (6.5,)]
    with writing(ledger.engine) as tx:
        tx.execute(update(BASE_USES).where(BASE_USES.c.tenant == "u").values(asked_at=LONG_AGO))
    ledger.prune(10**9)
    assert ledger.read(BASE_USES.select().with_only_columns(BASE_USES.c.tenant)) == [("t",)]


def test_what_is_asked_is_told_to_the_ledger(ledger, loop):
    put(ledger, {"mill.md": [MILL]})
    bases = begun(ledger)
    warming = Warming(ledger, bases)
    bases.search("t", "k", [MILL, CLOCK], 1)
    bases.search("t", "nothing", [MILL], 1)
    told, ledger.of(KnowledgeBases).asked = ledger.of(KnowledgeBases).asked, _away
    with pytest.raises(Unavailable):
        warming.tell()
    ledger.of(KnowledgeBases).asked = told
    bases.search("t", "k", [MILL], 1)
    warming.tell()
    warming.tell()
    assert ledger.read(BASE_USES.select().with_only_columns(BASE_USES.c.knowledge, BASE_USES.c.questions)) == [
        ("k", 3.0)
    ]


def _away(_asked):
    raise Unavailable("the ledger did not answer")


def test_all_is_read_again_when_the_follower_began_anew(ledger, loop):
    """It has let all go; and nothing is read before it has begun, which would let that go."""
    put(ledger, {"mill.md": [MILL]})
    bases = Bases(ledger, HashEmbedder())
    warming = Warming(ledger, bases)
    assert warming.warm(loop) == 0
    bases.begin(loop)
    assert (warming.warm(loop), warming.warm(loop)) == (1, 0)
    bases.begin(loop)
    assert in_memory(bases) == []
    assert (warming.warm(loop), in_memory(bases)) == (1, ["t"])


def test_who_asks_meanwhile_waits_for_the_same_reading_and_hurries_it(ledger, loop, monkeypatch):
    put(ledger, {"mill.md": [MILL, CLOCK], "clock.md": [CLOCK]})
    monkeypatch.setattr(bases_module, "STRETCH", 1)
    bases, reads, asked = begun(ledger), threading.Event(), threading.Event()
    spied = Spied(ledger)

    def meanwhile():
        reads.set()
        assert asked.wait(120)

    spied.meanwhile = meanwhile
    rests = []
    monkeypatch.setattr(threading.Event, "wait", _noting(rests, threading.Event.wait))
    with ThreadPoolExecutor(2) as pool:
        warms = pool.submit(Warming(ledger, bases).warm, loop)
        reads.wait(120)
        says = loop.state().doing
        answer = pool.submit(found, bases)
        eventually(bases._held["t", "k"].wanted.is_set)
        asked.set()
        assert answer.result() == [CLOCK, MILL]
        assert warms.result() == 1
    assert says == "reads knowledge bases before they are asked: 0 of 1 are in memory, 0 of 3 passages"
    assert loop.state().doing is None
    assert spied.reads == [("t", "k", None)]
    assert bases._held["t", "k"].wanted not in rests
    bases.begin(loop)
    Warming(ledger, bases).warm(loop)
    assert rests.count(bases._held["t", "k"].wanted) == 3


def _noting(rests, wait):
    def noted(self, timeout=None):
        rests.append(self)
        return wait(self, timeout)

    return noted


def test_it_goes_on_by_itself(ledger):
    put(ledger, {"mill.md": [MILL]})
    bases, tries = begun(ledger), []

    def with_embedder():
        tries.append(1)
        if len(tries) == 1:
            raise Unavailable("there is no embedder")
        return bases

    progress = Progress()
    keeps = KeepsWarm(ledger, with_embedder, progress.loop("knowledge bases"))
    keeps.start()
    try:
        eventually(lambda: in_memory(bases) == ["t"])
        eventually(lambda: [loop.state().awaited for loop in progress.loops] == [None])
    finally:
        keeps.stop()


def test_a_base_that_cannot_be_read_keeps_no_other_from_it(ledger, loop, caplog):
    put(ledger, {"mill.md": [MILL]}, tenant="u")
    put(ledger, {"mill.md": [MILL]})
    with writing(ledger.engine) as tx:
        tx.execute(update(DOCUMENTS).where(DOCUMENTS.c.tenant == "t").values(attributes="{"))
    ledger.of(KnowledgeBases).asked({("t", "k"): 1})
    bases = begun(ledger)
    assert Warming(ledger, bases).warm(loop) == 2
    assert in_memory(bases) == ["u"]
    assert "knowledge base k could not be read before it is asked for" in caplog.text
    with pytest.raises(ValueError, match="Expecting"):
        found(bases)
