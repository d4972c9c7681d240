"""What `headrace status` and `headrace health` say of the processes on this machine."""

import json
import os

import pytest
from tests.services.eventually import eventually
from tests.services.tables import sqlite_tables
from tests.workers.cli.conftest import Call

from headrace_workers.core import config_watch
from headrace_workers.core.progress import Awaited
from headrace_workers.features.moderation.deployed_policy import WatchedPolicy
from headrace_workers.runtime.health.watched import watched
from headrace_workers.runtime.settings import Settings


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """A deployment, as the environment names it, in a process that has done nothing by a policy before."""
    monkeypatch.setattr(config_watch, "_STANDINGS", type(config_watch._STANDINGS)())
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / ".headrace"))
    monkeypatch.setenv("HEADRACE_KAFKA", "localhost:1")
    monkeypatch.setenv("HEADRACE_REDIS", "redis://localhost:1/0")
    monkeypatch.setenv("HEADRACE_LEDGER", sqlite_tables(tmp_path / "ledger.db"))
    (tmp_path / ".headrace").mkdir()
    return Settings.from_env()


@pytest.fixture
def shown(call: Call, settings, monkeypatch, tmp_path):
    """Runs a command of this deployment."""
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
    """A slip of the pen is no dead process."""
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
    """Its version and file; and what is wrong with what the file says now, until it is right."""
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
        (mine,) = (each for each in process["policies"] if each["path"] == str(file))
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
        mine = {each["what"]: each["outdated"] for each in process["policies"] if each["path"] == str(file)}
        assert mine == {"outputs": False, "routing": True}
        change("verbatim = true\n", busy, idle)
        says(f"{me}: the moderation policy of before, {before}, holds: ")
        change("verbatim = 70\n", busy)
        says(past)
        assert f"the moderation policy of before, {before}," not in " ".join(shown("status")[1].split())
