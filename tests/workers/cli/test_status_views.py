import json
import os
from datetime import UTC, datetime

import pytest
from sqlalchemy import select, update
from tests.services.eventually import eventually
from tests.services.tables import sqlite_tables
from tests.workers.cli.conftest import Call
from tests.workers.core.ledger.after import After, answer
from tests.workers.core.ledger.test_documents import document
from tests.workers.ledger_jobs import claim_one, sqlite_ledger, take_in
from tests.workers.runtime.bridge.records import decision, evaluation, generation

from headrace_schemas import Category, Decisions, Result, Usage
from headrace_workers.cli.durations import rfc3339, show_time
from headrace_workers.cli.job_views import JobDetails, job_json
from headrace_workers.cli.status_views import step_rows
from headrace_workers.core import config_watch
from headrace_workers.core.ledger.completion import StepResult
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outbox import outgoing
from headrace_workers.core.ledger.outcome import Dead, Done, Ended, Retry
from headrace_workers.core.progress import Awaited
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import CLAIMS, JOBS, NEVER, STEPS
from headrace_workers.features.judging import store as scored
from headrace_workers.features.knowledge.store.documents import KnowledgeBases
from headrace_workers.features.moderation.deployed_policy import WatchedPolicy
from headrace_workers.features.quality.store import PassRate, PassRates
from headrace_workers.runtime.health.watched import watched
from headrace_workers.runtime.settings import Settings

STATE, WAITED, RAN = 1, 4, 5  # columns of step_rows


def test_a_step_in_hand_tells_since_when_and_by_whom(ledger):
    (job_id,) = take_in(ledger, [generation()])
    claim = claim_one(ledger)
    (row,) = step_rows(JobDetails.of(ledger.job(job_id)))
    assert (row[STATE], row[RAN]) == ("handed out, not begun", "–")

    started = ledger.start(claim.id, worker="generate@host:1:abc", lease_ms=60_000)
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(ready_at=started.now - 5_000))
        tx.execute(update(CLAIMS).values(started_at=started.now - 3_000))
    view = ledger.job(job_id)
    job = JobDetails.of(view)
    (row,) = step_rows(job)
    assert row[STATE] == f"running since {show_time(started.now - 3_000)} by generate@host:1:abc"
    assert row[WAITED] == "2.0 s"
    (step,) = job.model_dump(mode="json")["steps"]
    assert (step["state"], step["worker"]) == ("leased", "generate@host:1:abc")
    assert (step["started_at"], step["ended_at"], step["waited_ms"]) == (rfc3339(started.now - 3_000), None, 2_000)
    assert step["ran_ms"] == view.now - (started.now - 3_000) >= 3_000


def test_operators_see_what_http_shows_and_more(ledger: Ledger):
    (job_id,) = take_in(ledger, [evaluation(metadata={"tell": "a"})])
    answer(ledger, job_id)
    (standing,) = ledger.standings([job_id]).values()
    over_http = json.loads(job_json(job_id, standing))
    here = JobDetails.of(ledger.job(job_id)).model_dump(mode="json")
    assert (over_http["state"], over_http["end"]["job_id"]) == ("done", job_id)
    assert over_http.keys() < here.keys()
    (step,), (in_full,) = over_http.pop("steps"), here["steps"]
    assert {name: in_full[name] for name in step} == step
    assert {name: here[name] for name in over_http} == over_http


def test_a_step_in_nobodys_hands_names_nobody(ledger):
    (job_id,) = take_in(ledger, [generation()])
    for _ in range(2):
        job = JobDetails.of(ledger.job(job_id))
        (row,), (step,) = step_rows(job), job.model_dump()["steps"]
        assert (row[STATE], row[RAN], step["worker"], step["started_at"]) == ("ready", "–", None, None)
        claim = claim_one(ledger)
        ledger.start(claim.id, worker="w", lease_ms=60_000)
        ledger.release([claim.id])


@pytest.fixture
def followed(ledger: Ledger) -> str:
    """A job whose end four endpoints are to hear of, of which one did; and another job, of which one did."""
    said = {"a": Done(), "b": Retry("503 [busy]"), "c": Dead(Category.PERMANENT, "410")}
    after = After(ledger, lambda units: [said[unit.endpoint] for unit in units])
    job, other = take_in(ledger, [evaluation(metadata={"tell": tell}) for tell in ("a b c", "a")])
    for job_id in (job, other):
        answer(ledger, job_id)
    after.relay()
    after.run()
    with writing(ledger.engine) as tx:
        (unit,) = tx.execute(select(JOBS).where(JOBS.c.subject == other))
        (step,) = tx.execute(select(STEPS).where(STEPS.c.job_id == unit.id))
        tx.execute(JOBS.insert().values({**unit._mapping, "id": "u", "subject": job, "endpoint": "d"}))
        tx.execute(STEPS.insert().values({**step._mapping, "job_id": "u", "state": "ready", "attempts": 0}))
    return job


def test_a_job_is_shown_with_what_follows_it(call: Call, ledger: Ledger, followed: str):
    shown = json.loads(call("status", followed, "--json")[1])
    ids = {unit.pop("endpoint"): unit.pop("id") for unit in shown["units"]}
    assert shown["units"] == [
        {"stage": "after", "state": "done", "attempts": 1, "reason": None},
        {"stage": "after", "state": "waiting", "attempts": 1, "reason": "503 [busy]"},
        {"stage": "after", "state": "dead", "attempts": 1, "reason": "410"},
        {"stage": "after", "state": "ready", "attempts": 0, "reason": None},
    ]
    assert list(ids) == ["a", "b", "c", "d"]
    table = call("status", followed)[1]
    assert "what follows" in table
    assert "503 [busy]" in table
    assert all(unit in table for unit in ids.values())
    assert json.loads(call("status", ids["c"], "--json")[1])["kind"] == "unit"
    assert len(ledger.units_of(followed, 2)) == 2


def test_a_job_that_nothing_follows_has_no_such_table(call: Call, ledger: Ledger):
    (job,) = take_in(ledger, [generation()])
    assert "what follows" not in call("status", job)[1]
    assert json.loads(call("status", job, "--json")[1])["units"] == []


def test_a_job_tells_why_another_model_answered(call: Call, ledger: Ledger):
    why = "echo answered in place of small (abstained: it is not sure)"
    usage = Usage(prompt_tokens=5, completion_tokens=0)
    made = Decisions(model="echo", quantization="int8", usage=usage, because=why, answers=())
    (job_id,) = take_in(ledger, [decision()])
    end = Result(
        job_id=job_id, tenant="default", status="completed", kind="decision", decisions=made,
        accepted_at=datetime.now(UTC),
    )  # fmt: skip
    started = ledger.start(claim_one(ledger).id, worker="w", lease_ms=60_000)
    told = outgoing(end, event_id="e", job_id=job_id, traceparent=None, correlationid=None, at_ms=1)
    ledger.complete(started.claim_id, [StepResult(job_id, Ended(end), end=told)], ran_ms=1, quantum_ms=1)
    assert why in " ".join(call("status", job_id)[1].split())


def test_who_follows_what_and_how_far_behind_is_told(call: Call, ledger: Ledger):
    """A row each, in words and as JSON; nobody is not told of."""
    assert "memories" not in call("status")[1]
    ledger.report_position("recall@host:1:abcdef01", "document", ledger.horizon())
    ledger.report_position("recall@host:1:abcdef01", "entry", ledger.horizon())
    ledger.of(KnowledgeBases).put(document())
    code, out, _ = call("status")
    assert code == 0
    rows = [line for line in out.splitlines() if "recall@host" in line]
    assert [("documents" in row, "answers" in row) for row in rows] == [(True, False), (False, True)]
    assert [row.split()[-1] == "–" or "–" in row for row in rows] == [False, True]
    told = json.loads(call("status", "--json")[1])["followers"]
    assert [(item["kind"], item["behind"]) for item in told] == [("document", 1), ("entry", 0)]


def test_the_whole_shows_what_people_would_say(call: Call, tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    monkeypatch.setenv("HEADRACE_LEDGER", url)
    with sqlite_ledger(tmp_path) as ledger:
        assert "pass rate" not in call("status")[1]
        ledger.of(PassRates).put("shop", [PassRate("polite", "", 0.25, 0.125, 0.5, 0.95, 40, 900)])
    _, shown, _ = call("status")
    assert "0.250" in shown
    assert "0.125 to 0.500" in shown
    (rate,) = json.loads(call("status", "--json")[1])["pass_rates"]
    assert (rate["tenant"], rate["criterion"], rate["value"], rate["labels"]) == ("shop", "polite", 0.25, 40)


def test_the_whole_shows_what_was_judged_and_what_is_held(call: Call, ledger: Ledger):
    assert not any(said in call("status")[1] for said in ("by why", "waits for"))
    (job_id,) = take_in(ledger, [evaluation()])
    with writing(ledger.engine) as tx:
        scored.add_scores(
            tx, {("rubric", "unanswered"): 1_203, ("rubric", "order"): 2, ("rubric", "too_long"): 40, ("f1", ""): 7}
        )
        values = {"state": "held", "held_at": 1, "ready_at": NEVER, "reason": "polite is 0.2"}
        tx.execute(update(STEPS).where(STEPS.c.job_id == job_id).values(values))
    shown = call("status")[1]
    assert "unanswered 1,203, too_long 40, order 2" in " ".join(shown.split())
    (held,) = [line for line in shown.splitlines() if "polite is" in line]
    assert "a person" in held
    told = json.loads(call("status", "--json")[1])
    assert {"criterion": "rubric", "not_judged": "too_long", "scores": 40} in told["scores"]
    (held,) = told["held_by"]
    assert (held["stage"], held["needs_person"], held["held"], told["held"]) == ("judge", True, 1, 1)


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """A deployment, as the environment names it, in a process that has done nothing by a policy before."""
    monkeypatch.setattr(config_watch, "STANDINGS", type(config_watch.STANDINGS)())
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / ".headrace"))
    monkeypatch.setenv("HEADRACE_KAFKA", "localhost:1")
    monkeypatch.setenv("HEADRACE_REDIS", "redis://localhost:1/0")
    monkeypatch.setenv("HEADRACE_LEDGER", sqlite_tables(tmp_path / "ledger.db"))
    (tmp_path / ".headrace").mkdir()
    return Settings.from_env()


@pytest.fixture
def shown(call: Call, settings, monkeypatch, tmp_path):
    for name, value in (("KAFKA", "localhost:1"), ("REDIS", settings.redis), ("LEDGER", settings.ledger)):
        monkeypatch.setenv(f"HEADRACE_{name}", value)
    monkeypatch.setenv("HEADRACE_HOME", str(settings.home))
    return call


def test_what_a_process_waits_for_is_shown(shown, settings):
    """A line for people, the whole for machines, and no cry of alarm: it is healthy."""
    with watched("bridge", settings, tick=0.05) as progress:
        progress.loop("dispatch").beat(Awaited("Redis", "no answer"))
        line = f"bridge {os.getpid()}: dispatch waits for Redis, for "
        eventually(lambda: line in " ".join(shown("status")[1].split()))
        (process,) = json.loads(shown("status", "--json")[1])["processes"]
        assert (process["kind"], process["healthy"], process["restarts"]) == ("bridge", True, 0)
        code, said, _ = shown("health", "bridge")
        assert (code, "waiting; dispatch waits for Redis" in said) == (0, True)
        code, said, _ = shown("health", "bridge", "--json")
        (line,) = map(json.loads, said.splitlines())
        assert (code, line["pid"], line["healthy"], line["troubles"]) == (0, os.getpid(), True, [])
        assert line["waits"][0].startswith("dispatch waits for Redis, for ")
    assert json.loads(shown("status", "--json")[1])["processes"] == []


def test_what_a_process_is_in_the_middle_of_is_shown(shown, settings):
    """By `status`, and by `health`, for people and for machines: it is healthy."""
    with watched("worker", settings, tick=0.05) as progress:
        progress.loop("knowledge bases").doing = "reads knowledge bases: 1 of 3"
        line = f"worker {os.getpid()}: reads knowledge bases: 1 of 3"
        eventually(lambda: line in " ".join(shown("status")[1].split()))
        code, said, _ = shown("health", "worker")
        assert (code, "healthy; reads knowledge bases: 1 of 3" in said) == (0, True)
        assert json.loads(shown("health", "worker", "--json")[1])["doing"] == ["reads knowledge bases: 1 of 3"]
    assert shown("health", "worker")[0] == 1
    code, _, words = shown("health", "judge")
    assert (code, "'judge' is no kind of process: it may be bridge or worker or gateway" in words) == (2, True)


def test_a_process_that_was_started_again_is_shown_with_the_end_of_the_one_before(shown, settings):
    """So that nobody has to find it in a log."""
    end = "ended itself, because one of its loops was stuck or a run hung"
    row = {"name": "bridge", "pid": os.getpid(), "started": "1", "restarts": 2, "last_end": end}
    (settings.home / "children.json").write_text(json.dumps([row]))
    with watched("bridge", settings, tick=0.05):
        line = f"bridge was started again 2 times; the one before {end}"
        assert line in " ".join(shown("status")[1].split())
        (process,) = json.loads(shown("status", "--json")[1])["processes"]
        assert (process["restarts"], process["last_end"]) == (2, end)


def test_health_says_which_kinds_there_are(shown):
    code, _, said = shown("health", "brigde")
    assert (code, "'brigde' is no kind of process: it may be bridge or worker" in said) == (2, True)
    assert shown("health", "worker")[0] == shown("health", "worker", "--json")[0] == 1


def test_health_for_machines_tells_who_is_stuck_and_fails(shown, settings):
    """The exit code is the same as for people."""
    with watched("bridge", settings, tick=0.05, end=lambda _code: None) as progress:
        progress.loop("relay")
        progress.lived += settings.stuck * 0.75
        eventually(lambda: shown("health", "bridge")[0] == 1)
        code, said, _ = shown("health", "bridge", "--json")
        (line,) = map(json.loads, said.splitlines())
        assert (code, line["healthy"], len(line["troubles"])) == (1, False, 1)


def test_which_policy_holds_is_shown(shown, settings, tmp_path):
    file, now = tmp_path / "policy.toml", [0.0]
    file.write_text("screen = true\n")
    policy = WatchedPolicy(file, every=2.0, monotonic=lambda: now[0])
    version = policy.of("shop").version

    def words(command):
        return " ".join(shown(command, *(["worker"] if command == "health" else []))[1].split())

    with watched("worker", settings, tick=0.05):
        holds = f"moderation policy {version} of {file} holds"
        eventually(lambda: holds in words("status"))
        assert "policy of before" not in words("status")
        file.write_text("screen = 3\n")
        now[0] += 2.0
        assert policy.of("shop").screen
        refused = f"worker {os.getpid()}: the moderation policy of before, {version}, holds: "
        eventually(lambda: refused in words("status"))
        assert f"the moderation policy of before, {version}, holds: " in words("health")
        (process,) = json.loads(shown("status", "--json")[1])["processes"]
        (mine,) = (item for item in process["policies"] if item["path"] == str(file))
        assert (mine["version"], "line 1: screen" in mine["refused"], process["healthy"]) == (version, True, True)


def test_who_has_not_needed_the_policy_since_it_changed_is_shown_as_such(shown, settings, tmp_path):
    """A switch has not failed where a process had nothing to do since; nor is what was wrong before still so."""
    file, now = tmp_path / "policy.toml", [0.0]
    file.write_text("verbatim = 50\n")
    busy, idle = (
        WatchedPolicy(file, what=what, every=2.0, monotonic=lambda: now[0]) for what in ("outputs", "routing")
    )
    before = busy.of("shop").version

    def says(line):
        eventually(lambda: line in " ".join(shown("status")[1].split()))

    def change(text, *needed):
        now[0] += 2.0
        file.write_text(text)
        return [policy.of("shop").version for policy in needed]

    me = f"worker {os.getpid()}"
    past = f"{file} has changed, and is read again before its next use, by {me} (routing): last used there was {before}"
    with watched("worker", settings, tick=0.05):
        (new,) = change("verbatim = 60\n", busy)
        says(f"moderation policy {new} of {file} holds")
        says(past)
        assert f"policy {before} of {file} holds" not in " ".join(shown("status")[1].split())
        (process,) = json.loads(shown("status", "--json")[1])["processes"]
        mine = {policy["what"]: policy["outdated"] for policy in process["policies"] if policy["path"] == str(file)}
        assert mine == {"outputs": False, "routing": True}
        change("verbatim = true\n", busy, idle)
        says(f"{me}: the moderation policy of before, {before}, holds: ")
        change("verbatim = 70\n", busy)
        says(past)
        assert f"the moderation policy of before, {before}," not in " ".join(shown("status")[1].split())
