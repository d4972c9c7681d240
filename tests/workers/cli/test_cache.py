"""Answers that are given again, as the command line tells it, on each database."""

import json
from collections.abc import Callable

import pytest
from sqlalchemy import select, update
from tests.services.kafka import KafkaServer
from tests.services.records import read
from tests.workers.cli.conftest import Call
from tests.workers.cli.test_outbox import Terminal
from tests.workers.ledger.conftest import ledger, ledger_url  # noqa: F401 - fixtures
from tests.workers.ledger.test_documents import document
from tests.workers.ledger_jobs import take_in
from tests.workers.recall.conftest import Flow, asks, flow, tiers  # noqa: F401 - fixtures

from headrace_producers.admin import ensure_topics
from headrace_schemas import GenerationJob, Topic
from headrace_schemas.codec import decode
from headrace_schemas.job import derive_job_id
from headrace_workers.ledger import uses
from headrace_workers.ledger.cancel import Cancellation
from headrace_workers.ledger.claim import Wanted
from headrace_workers.ledger.database import writing
from headrace_workers.ledger.entries import Served
from headrace_workers.ledger.ledger import Ledger
from headrace_workers.ledger.recall_tables import ENTRIES, SERVES
from headrace_workers.ledger.tables import JOBS, STEPS

UNKNOWN = "7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00"
SCOPE = "ab" * 32


@pytest.fixture
def cache(call: Call, ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> Call:  # noqa: F811 - the fixture
    """Runs `headrace cache …` against this ledger."""
    monkeypatch.setenv("HEADRACE_LEDGER", ledger_url)
    return lambda *arguments: call("cache", *arguments)


@pytest.fixture
def shared(flow: Flow, asks: Callable[..., GenerationJob]) -> list[str]:  # noqa: F811 - the fixtures
    """A job that made an answer, one that waited for it, one that got it later; and another tenant's own."""
    jobs = flow.send(asks(idempotency_key="1"), asks(idempotency_key="2"))
    flow.drain()
    jobs += flow.send(asks(idempotency_key="3"), asks(idempotency_key="4", tenant="other"))
    flow.drain()
    return sorted(jobs[:2], key=lambda job: tiers(flow, [job]) != ["none"]) + jobs[2:]


def entry_of(flow: Flow, job: str) -> int:  # noqa: F811 - no fixture
    """The answer that this job made."""
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
    """The state of each answer."""
    return [row.state for row in flow.ledger.read(select(ENTRIES.c.state).order_by(ENTRIES.c.id))]


def fits(out: str) -> bool:
    """Whether a page of 100 columns holds it."""
    return all(len(line) <= 100 for line in out.splitlines())


def test_the_counts_are_those_of_what_was_given_and_is_kept(cache: Call, flow: Flow, shared: list[str], asks):  # noqa: F811
    """By tier, of one tenant or all; a job that is not looked up yet is open."""
    flow.send(asks("Name a lake."))
    code, out, said = cache("stats", "--json")
    assert (code, said) == (0, "")
    rows = flow.ledger.read(select(SERVES.c.saved_tokens, SERVES.c.saved_ms))
    saved, saved_ms = sum(row.saved_tokens for row in rows), sum(row.saved_ms for row in rows)
    assert json.loads(out) == {
        "asked": 5, "answered": 2, "open": 1, "hits": {"exact": 1, "coalesced": 1, "semantic": 0},
        "saved_tokens": saved, "saved_ms": pytest.approx(saved_ms), "entries": {"live": 2, "pending": 0, "dead": 0},
        "bounds": [], "together": None,
    }  # fmt: skip
    other = json.loads(cache("stats", "--json", "--tenant", "other")[1])
    assert (other["asked"], other["answered"], other["entries"]["live"]) == (1, 0, 1)
    code, out, _ = cache("stats")
    assert (code, fits(out), "50.0%" in out) == (0, True, True)


def test_the_counts_of_a_time_leave_out_what_was_before(cache: Call, flow: Flow, shared: list[str]):  # noqa: F811
    """Jobs by when they came, hits by when they were, deaths by when they died; what lives, lives now."""
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
    """The one with the most hits first; a table names a scope by its beginning, and what has none by `exact`."""
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
    """That is no error."""
    assert cache("stats", "--scopes") == (0, "", "nothing was given, and nothing is kept\n")
    assert json.loads(cache("stats", "--json")[1])["asked"] == 0
    assert cache("stats")[0] == 0


def test_why_a_job_was_given_an_answer(cache: Call, flow: Flow, shared: list[str]):  # noqa: F811
    """Tier, whose it is, how old, what it saved; also when the job itself is forgotten."""
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
    """It made the answer itself, which is kept; how often that was given stands beside it."""
    found = json.loads(cache("explain", shared[0], "--json")[1])
    assert (found["outcome"], found["why"]) == ("miss", "no answer to it was known")
    (answer,) = found["answers"]
    assert (answer["state"], answer["served"], answer["first_job"]) == ("live", 2, shared[0])
    shown = " ".join(cache("explain", shared[0])[1].split())
    assert "made by this job, given 2 times" in shown


def test_of_a_job_that_waits_it_is_told_for_whom(cache: Call, flow: Flow, asks):  # noqa: F811
    """And until when; of the one that makes the answer, that it is being made."""
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
    """The first is told, with why; the second is one line, and a failure."""
    off, silent = flow.send(asks(cache="off"), asks(cache=None, idempotency_key="2"))
    assert json.loads(cache("explain", off, "--json")[1])["why"] == "it says `cache: off`"
    assert "HEADRACE_CACHE was off" in json.loads(cache("explain", silent, "--json")[1])["why"]
    assert cache("explain", UNKNOWN) == (1, "", f"{UNKNOWN}: the ledger knows no such job\n")


def test_a_purge_wants_to_know_which(cache: Call, flow: Flow, shared: list[str]):  # noqa: F811
    """Without conditions nothing happens, nor with all of them and one; nor where nobody can be asked."""
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
    """And may say no."""
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
    """What all conditions hold for; the next that asks makes its answer anew."""
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
    """By the base, by the document, and by one of one."""
    a, b, c = (
        flow.ledger.knowledge.put(document(name, knowledge=knowledge)) or 0
        for knowledge, name in (("k", "a.md"), ("k", "b.md"), ("l", "a.md"))
    )
    with writing(flow.ledger.engine) as tx:
        uses.write(tx, entry_of(flow, shared[0]), [(a, "1"), (c, "1")])
        uses.write(tx, entry_of(flow, shared[3]), [(a, "1"), (b, "1")])
    code, _, said = cache("purge", *arguments, "--yes")
    assert (code, said) == (0, f"{left.count('dead')} purged\n")
    assert states(flow) == left


def test_a_purge_of_answers_by_their_ids(cache: Call, flow: Flow, shared: list[str]):  # noqa: F811
    """Who names one that is not kept is told."""
    ids = [str(entry_of(flow, shared[0])), str(entry_of(flow, shared[3]))]
    assert cache("purge", "--entry", ids[0], "--yes")[0] == 0
    code, out, said = cache("purge", "--entry", ids[0], "--entry", ids[1], "--yes", "--json")
    assert (code, json.loads(out)) == (1, {"purged": 1})
    assert "1 of those that --entry names were not kept" in said
    assert states(flow) == ["dead", "dead"]
    assert cache("purge", "--entry", "9" * 30, "--yes")[0] == 2


def test_a_purge_of_many_goes_on_to_the_end(cache: Call, flow: Flow, shared: list[str], monkeypatch):  # noqa: F811
    """A bounded part is one transaction."""
    monkeypatch.setattr("headrace_workers.ledger.purge.AT_ONCE", 1)
    assert cache("purge", "--all", "--yes")[2] == "2 purged\n"
    assert states(flow) == ["dead", "dead"]


@pytest.mark.parametrize("named", [0, 1, 2])
def test_a_wrong_answer_is_called_back_from_all_who_have_it(cache: Call, flow: Flow, shared: list[str], asks, named):  # noqa: F811
    """Whoever of them is named: it dies, each is listed, and the next that asks is answered afresh."""
    served_by_likeness(flow, UNKNOWN, shared[0])
    code, out, said = cache("wrong", shared[named], "--reason", "the old price", "--json")
    found = json.loads(out)
    assert code == 0
    assert said == f"answer {entry_of(flow, shared[0])}: it is given to nobody any more; 3 jobs were given it\n"
    assert (found["killed"], found["withdrawn"], found["rerun"]) == (1, 0, None)
    assert [(row["job_id"], row["tier"], row["similarity"], row["state"]) for row in found["served"]] == [
        (shared[1], "coalesced", None, "done"), (shared[2], "exact", None, "done"),
        (UNKNOWN, "semantic", 0.9512, "gone"),
    ]  # fmt: skip
    (answer,) = found["answers"]
    assert (answer["first_job"], answer["state"], answer["reason"]) == (shared[0], "dead", "wrong: the old price")
    assert states(flow) == ["dead", "live"]
    (again,) = flow.send(asks(idempotency_key="5"))
    flow.drain()
    assert tiers(flow, [again]) == ["none"]
    code, out, said = cache("wrong", shared[named])
    assert (code, fits(out)) == (0, True)
    assert all(job in out for job in (*shared[1:3], UNKNOWN))
    assert "as before; 3 jobs were given it" in said


@pytest.mark.parametrize("ends", [True, False])
def test_who_read_it_just_before_is_listed_too(cache: Call, flow: Flow, shared: list[str], asks, monkeypatch, ends):  # noqa: F811
    """They are waited for; where that takes too long it is said."""
    (late,) = flow.send(asks(idempotency_key="late"))
    (claim,) = flow.ledger.claim([Wanted("recall", 0, 1, 9)], lease_ms=60_000, sender="b").claims
    started = flow.ledger.start(claim.id, worker="w", lease_ms=60_000)
    assert started is not None
    settled = flow.work.do(started)

    def wait(_seconds: float) -> None:
        flow.ledger.complete(claim.id, settled, ran_ms=1, quantum_ms=5_000)

    monkeypatch.setattr("time.sleep", wait)
    if not ends:
        monkeypatch.setattr("headrace_workers.cli.cache._WAIT_SECONDS", -1.0)
    code, out, said = cache("wrong", shared[0], "--json")
    assert (code, late in [row["job_id"] for row in json.loads(out)["served"]]) == (0, ends)
    assert ("1 groups have been looking up since before" in said) is not ends


def test_an_answer_that_is_being_made_is_withdrawn(cache: Call, flow: Flow, asks):  # noqa: F811
    """Who waits for it runs by itself."""
    jobs = flow.send(asks(idempotency_key="1"), asks(idempotency_key="2"))
    flow.run("recall")
    leader = next(job for job, state in zip(jobs, flow.states(jobs), strict=True) if state == "done")
    found = json.loads(cache("wrong", leader, "--json")[1])
    assert (found["killed"], found["withdrawn"], found["served"]) == (0, 1, [])
    assert (states(flow), "parked" in flow.states(jobs)) == ([], False)
    flow.drain()
    assert tiers(flow, jobs) == ["none", "none"]


def test_an_answer_that_is_forgotten_is_still_traced(cache: Call, flow: Flow, shared: list[str]):  # noqa: F811
    """By the job that made it, too: what was given is known for longer."""
    with writing(flow.ledger.engine) as tx:
        for table in (ENTRIES, STEPS, JOBS):
            tx.execute(table.delete())
    for job in shared[:3]:
        found = json.loads(cache("wrong", job, "--json")[1])
        assert [(row["job_id"], row["state"]) for row in found["served"]] == [(shared[1], "gone"), (shared[2], "gone")]
        assert found["answers"][0]["state"] == "gone"


def test_a_job_of_which_nothing_was_kept_has_nothing_to_call_back(cache: Call, flow: Flow, asks):  # noqa: F811
    """Nor has one that is not there."""
    (alone,) = flow.send(asks(cache="off"))
    flow.drain()
    code, out, said = cache("wrong", alone)
    assert (code, out, "there is nothing to call back" in said) == (1, "", True)
    assert cache("wrong", UNKNOWN) == (1, "", f"{UNKNOWN}: the ledger knows no such job\n")


@pytest.fixture
def kafka(embedded_kafka: KafkaServer, fresh_prefix: str, cache: Call, monkeypatch: pytest.MonkeyPatch):
    """A broker for the command, with topics of its own."""
    settings = embedded_kafka.settings(fresh_prefix)
    ensure_topics(settings)
    monkeypatch.setenv("HEADRACE_KAFKA", settings.address)
    monkeypatch.setenv("HEADRACE_TOPIC_PREFIX", fresh_prefix)
    return settings


def test_all_who_have_a_wrong_answer_are_answered_afresh_once(
    cache: Call, kafka, flow: Flow, shared: list[str]  # noqa: F811
):  # fmt: skip
    """As new jobs that name the old, and look nothing up; called again, nothing is sent twice."""
    served_by_likeness(flow, UNKNOWN, shared[0])
    entry = entry_of(flow, shared[0])
    code, out, said = cache("wrong", shared[1], "--rerun", "--json")
    assert (code, f"{UNKNOWN}: not sent: its content is no longer in the ledger" in said) == (1, True)
    told = {row["job_id"]: row for row in json.loads(out)["rerun"]}
    keys = {job: f"rerun:{job}:{entry}" for job in shared[:3]}
    assert {job: row["rerun"] for job, row in told.items()} == {
        **{job: derive_job_id("default", key) for job, key in keys.items()}, UNKNOWN: None,
    }  # fmt: skip
    sent = [decode(record.headers, record.value)[1] for record in read(kafka, [Topic.GENERATION])]
    assert {job.metadata["rerun_of"]: job.idempotency_key for job in sent} == keys
    assert {(job.cache, job.prompt) for job in sent} == {("off", "Name a river.")}
    take_in(flow.ledger, sent)
    flow.drain()
    assert all(flow.result(told[job]["rerun"]).answer.recall is None for job in shared[:3])
    code, out, said = cache("wrong", shared[0], "--rerun")
    assert (code, fits(out), "0 sent afresh" in said, out.count("sent before")) == (1, True, True, 3)
    assert len(read(kafka, [Topic.GENERATION])) == 3


def test_without_a_broker_the_answer_is_dead_all_the_same(cache: Call, flow: Flow, shared: list[str], monkeypatch):  # noqa: F811
    """And whom it was given to is told; the command may be called again."""
    monkeypatch.setenv("HEADRACE_KAFKA", "127.0.0.1:1")
    code, out, said = cache("wrong", shared[0], "--rerun", "--json")
    assert (code, "Traceback" in said) == (1, False)
    assert len(json.loads(out)["served"]) == 2
    assert states(flow) == ["dead", "live"]


def test_who_was_cancelled_is_not_asked_again(cache: Call, kafka, flow: Flow, asks):  # noqa: F811
    """Nobody was told an answer."""
    (first,) = flow.send(asks(idempotency_key="1"))
    flow.drain()
    (second,) = flow.send(asks(idempotency_key="2"))
    flow.run("recall")
    flow.ledger.cancel(Cancellation(second, "default", "enough"))
    code, _, said = cache("wrong", first, "--rerun")
    assert (code, "1 sent afresh" in said) == (1, True)
    assert f"{second}: not sent: it is cancelled: it told nobody an answer" in said
