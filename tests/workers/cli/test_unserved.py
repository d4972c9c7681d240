import json
import os

import pytest
import redis
from tests.services.tables import sqlite_tables
from tests.workers.cli.conftest import Call
from tests.workers.ledger_jobs import claim_one, take_in
from tests.workers.runtime.bridge.records import evaluation, generation

from headrace_workers.cli.connections import find_redis_url, redis_address
from headrace_workers.cli.durations import show_time
from headrace_workers.cli.unserved import UnservedWarning, start_command, unserved
from headrace_workers.cli.waiting import LedgerJobs
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.redis import RedisNames

COMMAND = "headrace worker --role generate --model echo"


@pytest.fixture
def ledger(tmp_path):
    (tmp_path / ".headrace").mkdir()
    ledger = Ledger.at(sqlite_tables(tmp_path / ".headrace" / "ledger.db"))
    yield ledger
    ledger.close()


def queues(status: str) -> dict[str, object]:
    """Whether each queue is served, by `status --json`."""
    return {queue["queue"]: queue["served"] for queue in json.loads(status)["queues"]}


def test_status_names_the_queue_and_the_command(call: Call, ledger, redis_server, monkeypatch):
    take_in(ledger, [generation(), evaluation()])
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
        client.set(RedisNames("headrace.").listens("judge"), b"")
    monkeypatch.setenv("HEADRACE_REDIS", redis_server.url)
    for _ in range(2):
        assert queues(call("status", "--json")[1]) == {"model.echo": False, "judge": True}
        shown = call("status")[1]
        assert COMMAND in shown
        assert "--role judge" not in shown
        claim_one(ledger)


@pytest.mark.integration
@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "no url", None])
def test_a_redis_that_does_not_answer_is_no_error(call: Call, ledger, monkeypatch, url):
    take_in(ledger, [generation()])
    if url:
        monkeypatch.setenv("HEADRACE_REDIS", url)
    code, out, err = call("status", "--json")
    assert (code, queues(out), err) == (0, {"model.echo": None}, "")
    code, out, _ = call("status")
    assert code == 0
    assert "unknown" in out
    assert COMMAND not in out


def test_the_redis_of_another_ledgers_stack_is_not_asked(tmp_path):
    stack = {"kafka": "k:1", "redis": "redis://r", "ledger": "sqlite:///l", "pid": os.getpid()}
    (tmp_path / "run.json").write_text(json.dumps(stack))
    home = {"HEADRACE_HOME": str(tmp_path)}
    assert find_redis_url(home) == "redis://r"
    assert find_redis_url(home | {"HEADRACE_LEDGER": "sqlite:///l"}) == "redis://r"
    assert find_redis_url(home | {"HEADRACE_LEDGER": "sqlite:///other"}) is None
    assert find_redis_url(home | {"HEADRACE_LEDGER": "sqlite:///other", "HEADRACE_REDIS": "redis://o"}) == "redis://o"


@pytest.mark.parametrize(
    ("queue", "arguments"),
    [
        ("model.a.b", "generate --model a.b"),
        ("moderate", "moderate"),
        ("judge", "judge"),
        ("embed", "recall"),
        ("own", "own"),
    ],
)
def test_each_queue_has_its_command(queue, arguments):
    assert start_command(queue) == f"headrace worker --role {arguments}"


def test_what_is_not_known_is_not_said():
    assert unserved(["a", "b", "a"], None) == []
    assert unserved(["a", "b", "a"], frozenset("b")) == ["a"]


def test_a_warning_comes_once_a_queue(ledger):
    ids = take_in(ledger, [generation(), evaluation()])
    take_in(ledger, [generation(model="other")])
    said: list[str] = []
    served: set[str] = {"judge"}
    warning = UnservedWarning(LedgerJobs(ledger).queues, lambda _queues: frozenset(served), said.append)
    for _ in range(2):
        warning.look(ids)
    assert len(said) == 1
    assert COMMAND in said[0]
    served.clear()
    warning.look(ids)
    assert len(said) == 2
    assert "--role judge" in said[1]


def test_a_silent_redis_is_told_once_an_outage(ledger):
    """Where it is, without its password, since when, and that it answers again. Without a Redis nothing is said."""
    ids = take_in(ledger, [generation()])
    said: list[str] = []
    answers: list[frozenset[str] | None] = [None, None, frozenset({"model.echo"}), frozenset({"model.echo"}), None]
    address = redis_address({"HEADRACE_REDIS": "redis://me:secret@far.example:6380/1"})
    served = iter(answers)
    warning = UnservedWarning(
        LedgerJobs(ledger).queues, lambda _queues: next(served), said.append, redis=address, wall=lambda: 1_000.0
    )
    for _ in answers:
        warning.look(ids)
    silent, again, anew = said
    assert silent.startswith(f"waiting: Redis at far.example:6380 has not answered since {show_time(1_000_000)}")
    assert again == "Redis at far.example:6380 answers again"
    assert anew == silent
    UnservedWarning(LedgerJobs(ledger).queues, lambda _queues: None, said.append).look(ids)
    assert len(said) == len((silent, again, anew))
    assert redis_address({"HEADRACE_HOME": "/nowhere"}) is None
    assert redis_address({"HEADRACE_REDIS": "redis://[broken"}) is None
