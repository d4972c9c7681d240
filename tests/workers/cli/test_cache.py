"""Answers that are given again, as the command line tells it, on each database."""

import json
from collections.abc import Callable

import pytest
from sqlalchemy import select, update
from tests.workers.cli.conftest import Call
from tests.workers.cli.test_refused_events import Terminal
from tests.workers.core.ledger.conftest import ledger  # noqa: F401 - a fixture
from tests.workers.core.ledger.test_documents import document
from tests.workers.features.cache.semantic.conftest import Flow, asks, flow, tiers  # noqa: F401 - fixtures
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_schemas import GenerationJob
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS
from headrace_workers.features.cache.store import entries
from headrace_workers.features.cache.store.entries import Served
from headrace_workers.features.cache.tables import ENTRIES, SERVES
from headrace_workers.features.knowledge.store.documents import KnowledgeBases

UNKNOWN = "7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00"
SCOPE = "ab" * 32


@pytest.fixture
def cache(call: Call, ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> Call:  # noqa: F811 - the fixture
    """Runs `headrace cache …`, or `headrace review audits`, against this ledger."""
    monkeypatch.setenv("HEADRACE_LEDGER", ledger_url)
    return lambda *arguments: call("review" if arguments[0] == "audits" else "cache", *arguments)


@pytest.fixture
def shared(flow: Flow, asks: Callable[..., GenerationJob]) -> list[str]:  # noqa: F811 - the fixtures
    """A job that made an answer, one that waited for it, one that got it later; and another tenant's own."""
    jobs = flow.send(asks(idempotency_key="1"), asks(idempotency_key="2"))
    flow.drain()
    jobs += flow.send(asks(idempotency_key="3"), asks(idempotency_key="4", tenant="other"))
    flow.drain()
    return sorted(jobs[:2], key=lambda job: tiers(flow, [job]) != ["none"]) + jobs[2:]


def entry_of(flow: Flow, job: str) -> int:  # noqa: F811 - no fixture
    (row,) = flow.ledger.read(select(ENTRIES.c.id).where(ENTRIES.c.job_id == job))
    return int(row.id)


def served_by_likeness(flow: Flow, job: str, first: str, tenant: str = "default") -> None:  # noqa: F811 - no fixture
    """Note that this job was given the answer of that one, as a like question."""
    with writing(flow.ledger.engine) as tx:
        tx.execute(update(ENTRIES).where(ENTRIES.c.job_id == first).values(scope=SCOPE))
        Served(
            job_id=job, entry_id=entry_of(flow, first), tenant=tenant, scope=SCOPE, tier="semantic", similarity=0.9512,
            first_job=first, saved_tokens=7, saved_ms=1_500.0,
        ).write(tx)  # fmt: skip


def states(flow: Flow) -> list[str]:  # noqa: F811 - no fixture
    return [row.state for row in flow.ledger.read(select(ENTRIES.c.state).order_by(ENTRIES.c.id))]


def fits(out: str) -> bool:
    """Whether a page of 100 columns holds it."""
    return all(len(line) <= 100 for line in out.splitlines())


def test_the_counts_are_those_of_what_was_given_and_is_kept(cache: Call, flow: Flow, shared: list[str], asks):  # noqa: F811
    flow.send(asks("Name a lake."))
    code, out, said = cache("stats", "--json")
    assert (code, said) == (0, "")
    rows = flow.ledger.read(select(SERVES.c.saved_tokens, SERVES.c.saved_ms))
    saved, saved_ms = sum(row.saved_tokens for row in rows), sum(row.saved_ms for row in rows)
    assert json.loads(out) == {
        "asked": 5, "answered": 2, "open": 1, "hits": {"exact": 1, "coalesced": 1, "normalised": 0, "semantic": 0},
        "saved_tokens": saved, "saved_ms": pytest.approx(saved_ms), "entries": {"live": 2, "pending": 0, "dead": 0},
        "bounds": [], "together": None, "guards": [],
    }  # fmt: skip
    other = json.loads(cache("stats", "--json", "--tenant", "other")[1])
    assert (other["asked"], other["answered"], other["entries"]["live"]) == (1, 0, 1)
    code, out, _ = cache("stats")
    assert (code, fits(out), "50.0%" in out) == (0, True, True)


def test_the_counts_of_a_time_leave_out_what_was_before(cache: Call, flow: Flow, shared: list[str]):  # noqa: F811
    with writing(flow.ledger.engine) as tx:
        tx.execute(update(JOBS).values(accepted_at=JOBS.c.accepted_at - 7_200_000))
        tx.execute(update(SERVES).where(SERVES.c.tier == "exact").values(served_at=1))
        tx.execute(update(ENTRIES).where(ENTRIES.c.tenant == "other").values(state="dead", died_at=1))
    found = json.loads(cache("stats", "--json", "--since", "1h")[1])
    assert (found["asked"], found["answered"], found["hits"]["exact"], found["hits"]["coalesced"]) == (0, 0, 0, 1)
    assert found["entries"] == {"live": 1, "pending": 0, "dead": 0}
    assert json.loads(cache("stats", "--json", "--since", "3h")[1])["asked"] == 4
    assert json.loads(cache("stats", "--json")[1])["entries"]["dead"] == 1
    assert cache("stats", "--since", "soon")[0] == 2


def test_the_counts_by_scope(cache: Call, flow: Flow, shared: list[str]):  # noqa: F811
    served_by_likeness(flow, shared[2], shared[0])
    found = [json.loads(line) for line in cache("stats", "--scopes", "--json")[1].splitlines()]
    assert [(row["scope"], row["tenant"]) for row in found] == [
        ("exact", "default"), (SCOPE, "default"), ("exact", "other"),
    ]  # fmt: skip
    assert (found[1]["hits"]["semantic"], found[1]["saved_ms"], found[1]["entries"]["live"]) == (1, 1_500.0, 1)
    code, out, said = cache("stats", "--scopes")
    assert (code, said, fits(out)) == (0, "", True)
    assert (SCOPE[:8] in out, SCOPE[:9] in out) == (True, False)
    assert "only the 1 scopes" in cache("stats", "--scopes", "-n", "1")[2]


def test_nothing_to_count(cache: Call, ledger: Ledger):  # noqa: F811
    assert cache("stats", "--scopes") == (0, "", "no answer was given, and none is kept\n")
    assert json.loads(cache("stats", "--json")[1])["asked"] == 0
    assert cache("stats")[0] == 0


def test_why_a_job_was_given_an_answer(cache: Call, flow: Flow, shared: list[str]):  # noqa: F811
    first, waited, later, _ = shared
    code, out, said = cache("explain", later, "--json")
    found = json.loads(out)
    assert (code, said) == (0, "")
    assert (found["outcome"], found["tier"], found["first_job"], found["cache"]) == ("hit", "exact", first, "exact")
    assert found["age_ms"] is not None
    assert found["saved_tokens"] > 0
    assert [answer["entry_id"] for answer in found["answers"]] == [entry_of(flow, first)]
    assert json.loads(cache("explain", waited, "--json")[1])["tier"] == "coalesced"
    code, out, _ = cache("explain", later)
    assert (code, fits(out), first in out) == (0, True, True)
    with writing(flow.ledger.engine) as tx:
        tx.execute(JOBS.delete().where(JOBS.c.id == later))
    assert json.loads(cache("explain", later, "--json")[1])["outcome"] == "hit"


def test_why_a_job_was_given_none(cache: Call, flow: Flow, shared: list[str]):  # noqa: F811
    found = json.loads(cache("explain", shared[0], "--json")[1])
    assert (found["outcome"], found["why"]) == ("miss", "no answer to it was known")
    (answer,) = found["answers"]
    assert (answer["state"], answer["served"], answer["first_job"]) == ("live", 2, shared[0])
    shown = " ".join(cache("explain", shared[0])[1].split())
    assert "made by this job, given 2 times" in shown


def test_of_a_job_that_waits_it_is_told_for_whom(cache: Call, flow: Flow, asks):  # noqa: F811
    jobs = flow.send(asks(idempotency_key="1"), asks(idempotency_key="2"))
    assert json.loads(cache("explain", jobs[0], "--json")[1])["outcome"] == "open"
    flow.run("recall")
    found = {job: json.loads(cache("explain", job, "--json")[1]) for job in jobs}
    leader, waiter = sorted(jobs, key=lambda job: found[job]["outcome"] != "miss")
    assert (found[waiter]["outcome"], found[waiter]["waits_for"]) == ("waits", leader)
    assert found[waiter]["until"].endswith("Z")
    assert [answer["state"] for answer in found[leader]["answers"]] == ["pending"]
    assert leader in cache("explain", waiter)[1]


def test_a_job_that_did_not_ask_or_is_not_there(cache: Call, flow: Flow, asks):  # noqa: F811
    off, silent = flow.send(asks(cache="off"), asks(cache=None, idempotency_key="2"))
    assert json.loads(cache("explain", off, "--json")[1])["why"] == "it says `cache: off`"
    assert "HEADRACE_CACHE was off" in json.loads(cache("explain", silent, "--json")[1])["why"]
    assert cache("explain", UNKNOWN) == (1, "", f"{UNKNOWN}: the ledger knows no such job\n")


def test_a_purge_wants_to_know_which(cache: Call, flow: Flow, shared: list[str]):  # noqa: F811
    for arguments in ((), ("--all", "--tenant", "default")):
        code, _, said = cache("purge", *arguments)
        assert (code, "--older-than, --knowledge, --document and --entry" in said) == (2, True)
    code, _, said = cache("purge", "--all")
    assert (code, "2 answers would go" in said, "--yes" in said) == (2, True, True)
    assert cache("purge", "--scope", "xyz", "--yes")[0] == cache("purge", "--scope", "", "--yes")[0] == 2
    assert cache("purge", "--older-than", "soon", "--yes")[0] == 2
    assert states(flow) == ["live"] * 2


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 1, ["live"] * 2), ("y", 0, ["dead"] * 2)])
def test_who_purges_is_asked(cache: Call, flow: Flow, shared: list[str], monkeypatch, answer, code, left):  # noqa: F811
    monkeypatch.setattr("sys.stdin", Terminal(f"{answer}\n"))
    assert cache("purge", "--all")[0] == code
    assert states(flow) == left


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (("--tenant", "other"), ["live", "dead"]),
        (("--tenant", "nobody"), ["live", "live"]),
        (("--scope", SCOPE[:8]), ["dead", "live"]),
        (("--scope", "cd"), ["live", "live"]),
        (("--scope", "exact"), ["live", "dead"]),
        (("--older-than", "1h"), ["dead", "live"]),
        (("--older-than", "3h"), ["live", "live"]),
        (("--older-than", "1h", "--tenant", "other"), ["live", "live"]),
        (("--all",), ["dead", "dead"]),
    ],
)
def test_what_a_purge_takes(cache: Call, flow: Flow, shared: list[str], arguments, left):  # noqa: F811
    served_by_likeness(flow, shared[2], shared[0])
    with writing(flow.ledger.engine) as tx:
        old = ENTRIES.c.made_at - 7_200_000
        tx.execute(update(ENTRIES).where(ENTRIES.c.job_id == shared[0]).values(made_at=old))
    code, out, said = cache("purge", *arguments, "--yes", "--json")
    assert (code, json.loads(out)) == (0, {"purged": left.count("dead")})
    assert said == f"{left.count('dead')} purged\n"
    assert states(flow) == left


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (("--knowledge", "k"), ["dead", "dead"]),
        (("--knowledge", "l"), ["dead", "live"]),
        (("--document", "a.md"), ["dead", "dead"]),
        (("--document", "b.md"), ["live", "dead"]),
        (("--knowledge", "l", "--document", "a.md"), ["dead", "live"]),
        (("--knowledge", "l", "--document", "b.md"), ["live", "live"]),
        (("--knowledge", "k", "--document", "b.md", "--tenant", "default"), ["live", "live"]),
    ],
)
def test_a_purge_of_what_rests_on_a_document(cache: Call, flow: Flow, shared: list[str], arguments, left):  # noqa: F811
    a, b, c = (
        flow.ledger.of(KnowledgeBases).put(document(name, knowledge=knowledge)) or 0
        for knowledge, name in (("k", "a.md"), ("k", "b.md"), ("l", "a.md"))
    )
    with writing(flow.ledger.engine) as tx:
        entries.write_uses(tx, entry_of(flow, shared[0]), [(a, "1"), (c, "1")])
        entries.write_uses(tx, entry_of(flow, shared[3]), [(a, "1"), (b, "1")])
    code, _, said = cache("purge", *arguments, "--yes")
    assert (code, said) == (0, f"{left.count('dead')} purged\n")
    assert states(flow) == left


def test_a_purge_of_answers_by_their_ids(cache: Call, flow: Flow, shared: list[str]):  # noqa: F811
    ids = [str(entry_of(flow, shared[0])), str(entry_of(flow, shared[3]))]
    assert cache("purge", "--entry", ids[0], "--yes")[0] == 0
    code, out, said = cache("purge", "--entry", ids[0], "--entry", ids[1], "--yes", "--json")
    assert (code, json.loads(out)) == (1, {"purged": 1})
    assert "1 of the --entry answers do not exist" in said
    assert states(flow) == ["dead", "dead"]
    assert cache("purge", "--entry", "9" * 30, "--yes")[0] == 2


def test_a_purge_of_many_goes_on_to_the_end(cache: Call, flow: Flow, shared: list[str], monkeypatch):  # noqa: F811
    monkeypatch.setattr("headrace_workers.features.cache.store.removal.AT_ONCE", 1)
    assert cache("purge", "--all", "--yes")[2] == "2 purged\n"
    assert states(flow) == ["dead", "dead"]
