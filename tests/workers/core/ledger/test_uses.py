"""Answers die with the versions of documents that they rest on, whichever transaction comes first."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
from sqlalchemy import select, update
from tests.workers.core.ledger.test_documents import document
from tests.workers.features.cache.semantic.conftest import Flow, asks, flow  # noqa: F401 - fixtures

from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import writing
from headrace_workers.features.cache.store import entries
from headrace_workers.features.cache.store.answers import Answers
from headrace_workers.features.cache.store.entries import Admit, NewEntry
from headrace_workers.features.cache.tables import ENTRIES, USES
from headrace_workers.features.knowledge.store.documents import KnowledgeBases

_keys = count()


def pending(ledger, key=None, passed=()):
    """The id of an answer that is being made, though these may be given."""
    key = key or f"k{next(_keys)}"
    wanted = NewEntry(scope="s", key=key, tenant="t", job_id=key, lane=0, question=key, vector=b"v")
    return ledger.of(Answers).lead([wanted], passed).leaders[key].entry_id


def admit(entry_id, *used, answer=b"{}"):
    return Admit(entry_id, answer, 1.0, 3_600_000, used)


def live(ledger, *used, key=None):
    """The id of an answer that may be given, and rests on these."""
    entry_id = pending(ledger, key)
    with writing(ledger.engine) as tx:
        admit(entry_id, *used).write(tx)
    return entry_id


def states(ledger, *entry_ids):
    """State of each; None: it is not there."""
    found = {row.id: row.state for row in ledger.read(select(ENTRIES.c.id, ENTRIES.c.state))}
    return [found.get(entry_id) for entry_id in entry_ids]


def reason(ledger, entry_id):
    return ledger.read(select(ENTRIES.c.reason).where(ENTRIES.c.id == entry_id))[0].reason


def put(ledger, name="a.md", sha="1", **more):
    """A document as it was written; its id, and what it is now."""
    return ledger.of(KnowledgeBases).put(document(name, sha=sha, **more)), sha


def test_a_changed_document_takes_its_answers_with_it(ledger):
    one, other = put(ledger), put(ledger, "b.md")
    resting, both, apart, on_none = live(ledger, one), live(ledger, one, other), live(ledger, other), live(ledger)
    position = ledger.horizon()
    put(ledger, sha="2")
    assert states(ledger, resting, both, apart, on_none) == ["dead", "dead", "live", "live"]
    assert reason(ledger, resting) == "document a.md of knowledge base k has changed"
    assert [(row.entry_id, row.vector) for row in ledger.of(Answers).changed(position, 9)] == [
        (resting, None), (both, None),
    ]  # fmt: skip
    assert ledger.of(Answers).living([resting, both, apart]).keys() == {apart}


def test_a_removed_document_takes_its_answers_with_it(ledger):
    one, other = put(ledger), put(ledger, "b.md")
    entries = live(ledger, one), live(ledger, other)
    ledger.of(KnowledgeBases).remove([one[0], other[0]])
    assert states(ledger, *entries) == ["dead", "dead"]
    assert [reason(ledger, entry) for entry in entries] == [
        "document a.md of knowledge base k was removed", "document b.md of knowledge base k was removed",
    ]  # fmt: skip


def test_another_embedders_vectors_change_no_answer(ledger):
    one = put(ledger)
    entry = live(ledger, one)
    assert put(ledger, embedder="f") == one
    assert states(ledger, entry) == ["live"]


def test_another_tenants_document_of_the_name_is_another(ledger):
    """It changes nobody else's answers."""
    entry = live(ledger, put(ledger))
    put(ledger, sha="2", tenant="u")
    put(ledger, sha="2", knowledge="l")
    assert states(ledger, entry) == ["live"]


@pytest.mark.parametrize("how", ["changed", "removed", "mixed"])
def test_an_answer_from_what_is_no_more_is_withdrawn(ledger, how):
    one, other = put(ledger), put(ledger, "b.md")
    entry = pending(ledger)
    if how == "removed":
        ledger.of(KnowledgeBases).remove([one[0]])
    elif how == "changed":
        put(ledger, sha="2")
    used = (other, (one[0], "1"), *([(one[0], "2")] if how == "mixed" else []))
    with writing(ledger.engine) as tx:
        admit(entry, *used).write(tx)
    assert states(ledger, entry) == [None]
    assert ledger.read(select(USES)) == []


def test_who_waits_for_an_answer_that_is_withdrawn_runs_by_itself(flow: Flow, asks):  # noqa: F811
    jobs = flow.send(*(asks(idempotency_key=str(n)) for n in range(3)))
    flow.run("recall")
    assert flow.states(jobs).count("parked") == 2
    (entry,) = [row.id for row in flow.ledger.read(select(ENTRIES.c.id))]
    with writing(flow.ledger.engine) as tx:
        admit(entry, (7, "1")).write(tx)
    assert flow.states(jobs).count("ready") == 2


def test_many_answers_of_one_document_die_together(ledger, monkeypatch):
    monkeypatch.setattr(entries, "AT_ONCE", 2)
    one, other = put(ledger), put(ledger, "b.md")
    answers = [live(ledger, one, other) for _ in range(5)]
    ledger.of(KnowledgeBases).remove([one[0], other[0]])
    assert states(ledger, *answers) == ["dead"] * 5


def test_what_an_answer_rests_on_is_forgotten_with_it(ledger):
    one = put(ledger)
    old, new = live(ledger, one), live(ledger, (ledger.of(KnowledgeBases).put(document("b.md")), "1"))
    put(ledger, sha="2")
    ledger.prune(3_600_000)
    assert {row.entry_id for row in ledger.read(select(USES.c.entry_id))} == {old, new}
    with writing(ledger.engine) as tx:
        tx.execute(update(ENTRIES).where(ENTRIES.c.id == old).values(died_at=1))
    ledger.prune(3_600_000)
    assert [row.entry_id for row in ledger.read(select(USES.c.entry_id))] == [new]


class Race:
    """Updates and look-ups of some documents. An answer tells the version of the document that it rests on."""

    def __init__(self, ledger_url, documents=3):
        self.url = ledger_url
        self.committed = [0] * documents  # each written by one updater
        self.served, self.stale, self.admitted = 0, [], 0
        self._lock = threading.Lock()

    def run(self, updates, lookups):
        """Each updater has a document of its own, and each of two askers asks for all of them."""
        number = len(self.committed)
        with ThreadPoolExecutor(number + 2) as pool:
            running = [pool.submit(self._update, place, updates // number) for place in range(number)]
            running += [pool.submit(self._ask, place, lookups // 2) for place in range(2)]
            for future in running:
                future.result()

    def _update(self, number, times):
        ledger = Ledger.at(self.url)
        for version in range(1, times + 1):
            if version % 7 == 0:
                again(lambda: ledger.of(KnowledgeBases).remove([row.id for row in self._row(ledger, number)]))
                self.committed[number] = version - 0.5  # no version is good enough
            changed = document(f"{number}", sha=str(version), texts=(str(version),))
            again(lambda changed=changed: ledger.of(KnowledgeBases).put(changed))
            self.committed[number] = version
        ledger.close()

    def _row(self, ledger, number):
        return [row for row in ledger.of(KnowledgeBases).documents("t", "k", "", 99) if row.name == str(number)]

    def _ask(self, asker, times):
        ledger = Ledger.at(self.url)
        for turn in range(times):
            again(lambda turn=turn: self._ask_once(ledger, turn % len(self.committed), f"{asker}.{turn}"))
        ledger.close()

    def _ask_once(self, ledger, number, job_id):
        key, at_least = f"q{number}", self.committed[number]
        found = ledger.of(Answers).exact([key]).get(key)
        if found is not None:
            with self._lock:
                self.served += 1
                if int(found.answer) < at_least:
                    self.stale.append((number, int(found.answer), at_least))
            return
        led = ledger.of(Answers).lead([NewEntry(scope="s", key=key, tenant="t", job_id=job_id, lane=0)])
        leader = led.leaders.get(key)
        if leader is None or leader.job_id != job_id:
            return
        row = next(iter(self._row(ledger, number)), None)
        used = () if row is None else ((row.id, row.sha256),)
        with writing(ledger.engine) as tx:
            admit(leader.entry_id, *(used or ((0, "gone"),)), answer=(row.sha256 if row else "0").encode()).write(tx)
        self.admitted += 1


def again(call):
    """As all who use a ledger do: SQLite serves writers in no order, and lets one wait for longer than it may."""
    while True:
        try:
            return call()
        except Unavailable:
            continue


@pytest.mark.integration
def test_racing_updates_and_look_ups_serve_nothing_stale(ledger_url, ledger):
    for number in range(3):
        put(ledger, f"{number}", sha="0")
    race = Race(ledger_url)
    race.run(updates=150, lookups=450)
    assert race.stale == []
    assert race.served > 0
    assert race.admitted > 0


@pytest.mark.luck
def test_10_000_racing_updates_and_look_ups_serve_nothing_stale(ledger_url, ledger):
    for number in range(3):
        put(ledger, f"{number}", sha="0")
    race = Race(ledger_url)
    race.run(updates=2_500, lookups=7_500)
    assert race.stale == []
    assert race.served > 1_000
