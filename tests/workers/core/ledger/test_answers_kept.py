"""What is kept of answers: what failed and would again, what is counted, and what is put away."""

from uuid import uuid4

import pytest
from sqlalchemy import insert, select
from tests.workers.core.ledger.rows import LATE, entry, job, serve, states, step, write
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_schemas import Category, DeadLetter, GenerationJob
from headrace_workers.core.sql.database import writing
from headrace_workers.features.cache.store.answers import Answers, CacheCounts, Kept
from headrace_workers.features.cache.store.removal import EntryFilter
from headrace_workers.features.cache.tables import ENTRIES, USES
from headrace_workers.features.knowledge.tables import DOCUMENTS

# -- what failed, and would again


def letter(name, category=Category.PERMANENT):
    end = DeadLetter(
        job_id=str(uuid4()), tenant="a", stage="generate", category=category, reason=f"why {name}", attempts=1,
        topic="t", size=1, original="", encoding="utf-8",
    )  # fmt: skip
    return end.model_dump_json().encode()


def test_what_would_fail_again_is_told(ledger):
    asked = GenerationJob(model="echo", prompt="p").model_dump_json().encode()
    for name in (*Category, "other"):
        end = letter(name, Category.PERMANENT if name == "other" else name)
        job(ledger, name, "dead", payload=asked, terminal_type="headrace.dead.v1", terminal=end)
    found = ledger.of(Answers).failed(list(Category))
    assert {name: (item.job.prompt, item.category, item.reason) for name, item in found.items()} == {
        number: ("p", number, f"why {number}") for number in (Category.INVALID, Category.PERMANENT, Category.POISON)
    }


def test_of_what_did_not_die_for_what_it_asks_nothing_follows(ledger):
    asked = GenerationJob(model="echo", prompt="p").model_dump_json().encode()
    end = {"payload": asked, "terminal_type": "headrace.dead.v1"}
    job(ledger, "done", "done", terminal=letter("done"), **end)
    job(ledger, "withheld", "dead", terminal=letter("withheld"), **end)
    job(ledger, "strange", "dead", terminal=b"?", **end)
    job(ledger, "sound", "dead", terminal=letter("sound"), **end)
    step(ledger, "withheld", "dead", held_at=5)
    step(ledger, "sound", "dead")
    assert set(ledger.of(Answers).failed(["done", "withheld", "strange", "sound", "unknown"])) == {"sound"}


# -- what is counted


def test_how_well_it_does_is_counted_by_tenant_and_time(ledger):
    for name, state, tenant, at in (
        ("a1", "done", "a", 100), ("a2", "parked", "a", 200), ("a3", "dead", "a", 200), ("a4", "ready", "a", 300),
        ("b1", "cancelled", "b", 300),
    ):  # fmt: skip
        job(ledger, name, "active", tenant, accepted_at=at)
        step(ledger, name, state)
    step(ledger, "a1", "done", ordinal=1)
    step(ledger, "a4", "done", stage="generate")
    serve(ledger, 1, "a1", scope="s", tier="exact", served_at=100)
    serve(ledger, 1, "a1", scope="s", tier="semantic", saved_tokens=5, served_at=200)
    serve(ledger, 2, "x", scope="", tier="exact", served_at=200)
    serve(ledger, 3, "y", scope="s", tenant="b", tier="coalesced", saved_ms=4.0, served_at=200)
    for number, (state, tenant, died) in enumerate(
        [("live", "a", None), ("live", "a", None), ("dead", "a", 150), ("dead", "a", 250), ("pending", "b", None)]
    ):
        entry(ledger, number + 1, scope="s", state=state, tenant=tenant, died_at=died)
    plain = Kept(served={"exact": 1}, saved_tokens=3, saved_ms=0.5)
    assert ledger.of(Answers).scopes() == {
        ("a", ""): plain,
        ("a", "s"): Kept(
            served={"exact": 1, "semantic": 1}, saved_tokens=8, saved_ms=1.0, entries={"live": 2, "dead": 2}
        ),
        ("b", "s"): Kept(served={"coalesced": 1}, saved_tokens=3, saved_ms=4.0, entries={"pending": 1}),
    }
    assert list(ledger.of(Answers).scopes()) == [("a", ""), ("a", "s"), ("b", "s")]
    late = Kept(served={"semantic": 1}, saved_tokens=5, saved_ms=0.5, entries={"live": 2, "dead": 1})
    assert ledger.of(Answers).scopes("a", 200) == {("a", ""): plain, ("a", "s"): late}
    assert ledger.of(Answers).counts() == CacheCounts(
        asked=5, answered=1, open=2,
        kept=Kept(served={"exact": 2, "semantic": 1, "coalesced": 1}, saved_tokens=14, saved_ms=5.5,
                  entries={"live": 2, "dead": 2, "pending": 1}),
    )  # fmt: skip
    assert ledger.of(Answers).counts("a", 200) == CacheCounts(
        asked=3, answered=0, open=2,
        kept=Kept(served={"exact": 1, "semantic": 1}, saved_tokens=8, saved_ms=1.0, entries={"live": 2, "dead": 1}),
    )  # fmt: skip
    assert ledger.of(Answers).counts("nobody") == CacheCounts(asked=0, answered=0, open=0, kept=Kept())


# -- what is put away


@pytest.fixture
def kept(ledger):
    for number, fields in enumerate([
        {}, {"tenant": "b"}, {"scope": ""}, {"made_at": 900}, {"state": "dead"}, {"state": "pending"}, {}, {},
    ]):  # fmt: skip
        entry(ledger, number + 1, **fields)
    for number, (base, name) in enumerate([("kb", "x"), ("kb", "y"), ("other", "x")]):
        write(ledger, insert(DOCUMENTS).values(
            id=number + 1, tenant="a", knowledge=base, name=name, sha256="s", format="plain", embedder="e", size=1,
            chunks=1, added_at=1,
        ))  # fmt: skip
    for entry_id, document in ((1, 1), (7, 2), (8, 3)):
        write(ledger, insert(USES).values(entry_id=entry_id, document_id=document, sha256="s"))
    return ledger


@pytest.mark.parametrize(
    ("wanted", "gone"),
    [
        ({}, {1, 2, 3, 7, 8}),
        ({"made_before": 1_000}, {1, 2, 3, 4, 7, 8}),
        ({"made_before": 100}, set()),
        ({"tenant": "b"}, {2}),
        ({"scope": "7c"}, {7}),
        ({"scope": "%"}, set()),
        ({"scope": "exact"}, {3}),
        ({"knowledge": "kb"}, {1, 7}),
        ({"document": "x"}, {1, 8}),
        ({"knowledge": "kb", "document": "x"}, {1}),
        ({"ids": (2, 3, 5, 6)}, {2, 3}),
        ({"tenant": "a", "ids": (2, 3)}, {3}),
    ],
)
def test_answers_are_put_away_by_what_they_are(kept, wanted, gone):
    before = states(kept)
    which = EntryFilter(**{"made_before": 500} | wanted)
    assert kept.of(Answers).count(which) == len(gone)
    assert kept.of(Answers).purge(which, 0, "put away") == (len(gone), None)
    now = states(kept)
    assert {number for number in now if now[number] != before[number]} == gone
    reasons = kept.read(select(ENTRIES.c.reason).where(ENTRIES.c.id.in_(gone)))
    assert {row.reason for row in reasons} <= {"put away"}
    assert kept.of(Answers).count(which) == 0


def test_answers_are_put_away_a_bounded_number_at_a_time(ledger):
    row = {"scope": "s", "tenant": "a", "state": "live", "job_id": "j", "lane": 1, "made_at": 1, "expires_at": LATE}
    with writing(ledger.engine) as tx:
        tx.execute(insert(ENTRIES), [{**row, "id": n, "key": str(n)} for n in range(1, 502)])
    which = EntryFilter(made_before=500)
    assert ledger.of(Answers).purge(which, 0, "all") == (500, 500)
    assert ledger.of(Answers).purge(which, 500, "all") == (1, None)
    assert ledger.of(Answers).purge(EntryFilter(made_before=500), 0, "all") == (0, None)
