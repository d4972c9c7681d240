import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.services.eventually import eventually
from tests.workers.changed_settings import changed

from headrace_producers.settings import KafkaSettings
from headrace_workers.core.progress import STUCK_EXIT, Awaited, LoopState
from headrace_workers.runtime.health.reports import Report, check, deployment_of, judge, reports
from headrace_workers.runtime.health.watched import watched
from headrace_workers.runtime.settings import Settings, ledger_url

# A process with one loop, which turns until it is told to hang.
PROCESS = """
import sys, time
import headrace_workers.wiring
from headrace_workers.runtime.health.watched import watched
from headrace_workers.runtime.settings import Settings
settings = Settings.from_env()
with watched("bridge", settings, tick=0.05) as progress:
    loop = progress.loop("turns")
    print("runs", flush=True)
    while sys.argv[1] == "turn":
        loop.beat()
        time.sleep(0.02)
    open(sys.argv[2]).read()  # of a pipe that nobody writes to
"""


# A process that computes, in Python or in one call that lets no other thread go on. It may for 0.8 s of CPU time.
BUSY = """
import re, sys, time
import headrace_workers.wiring
from headrace_workers.runtime.health import watched
from headrace_workers.runtime.settings import Settings
watched.available_cores = lambda: 0.2
begun = time.process_time()
with watched.watched("worker", Settings.from_env(), tick=0.05) as progress:
    loop = progress.loop("turns")
    print("runs", flush=True)
    while time.process_time() < begun + 1.6:
        loop.beat()
    if sys.argv[1] == "hang":
        re.match("(a+)+b", "a" * 64)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where processes show that they live: none but this test's."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def settings(tmp_path):
    return Settings(
        home=tmp_path, kafka=KafkaSettings.at("localhost:1"), redis="redis://localhost:1/0",
        ledger="sqlite:///none.db", stuck=2.0,
    )  # fmt: skip


def process(settings: Settings, *arguments: str, program: str = PROCESS, **env: str) -> "subprocess.Popen[str]":
    known = {
        "HEADRACE_HOME": str(settings.home), "HEADRACE_KAFKA": "localhost:1", "HEADRACE_REDIS": settings.redis,
        "HEADRACE_LEDGER": settings.ledger, "HEADRACE_STUCK": "2", "TMPDIR": str(settings.home),
    }  # fmt: skip
    started = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | known | env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert started.stdout is not None
    assert started.stdout.readline() == "runs\n"
    return started


def living(settings: Settings, kind: str) -> list[Report]:
    return reports(deployment_of(settings), kind)


def trouble(settings: Settings, kind: str = "bridge") -> str | None:
    """What `headrace health` complains of."""
    healthy, words = judge(kind, living(settings, kind))
    return None if healthy else words


def test_a_process_that_turns_is_healthy_until_it_is_killed(settings):
    assert trouble(settings) == "no bridge of this deployment runs here"
    running = process(settings, "turn")
    try:
        eventually(lambda: trouble(settings) is None)
        assert trouble(settings, "worker") is not None
        running.kill()
        running.wait()
        assert trouble(settings) == "no bridge of this deployment runs here"
        assert list(Path(settings.home).glob("*.json")) == []
    finally:
        running.kill()


def test_a_process_that_was_stopped_is_not_healthy_and_goes_on_where_it_was(settings):
    """Nor does it end itself when it is let go on: its loops could not turn."""
    running = process(settings, "turn")
    try:
        running.send_signal(signal.SIGSTOP)
        eventually(lambda: "no sign of life" in (trouble(settings) or ""))
        eventually(lambda: living(settings, "bridge")[0].age > settings.stuck * 1.5)
        running.send_signal(signal.SIGCONT)
        eventually(lambda: trouble(settings) is None)
        assert running.poll() is None
    finally:
        running.kill()


def test_a_loop_that_hangs_is_named(settings):
    with watched("bridge", settings, end=lambda _code: None, tick=0.02) as progress:
        progress.loop("turns")
        eventually(lambda: "the loop turns has not gone on for" in (trouble(settings) or ""))


def test_a_loop_that_hangs_ends_its_process(settings, folder):
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    running = process(settings, "hang", str(pipe))
    try:
        assert running.wait(120) == STUCK_EXIT
        assert running.stderr is not None
        assert "the loop turns has not gone on for" in running.stderr.read()
    finally:
        running.kill()


@pytest.mark.parametrize(("then", "code"), [("end", 0), ("hang", -signal.SIGPROF)])
def test_a_process_that_lets_none_of_its_threads_look_is_ended(settings, then, code):
    """It says where it was. One that computes for as long, and lets its threads go on, ends as it should."""
    running = process(settings, then, program=BUSY, HEADRACE_STUCK="3", HEADRACE_LEASE="1")
    try:
        assert running.wait(120) == code
        assert running.stderr is not None
        assert ("in match" in running.stderr.read()) == (then == "hang")
    finally:
        running.kill()


def test_a_service_that_is_away_makes_nobody_unhealthy(settings):
    settings = changed(settings, stuck=60.0)  # what these loops have to do is not the matter here
    with watched("bridge", settings, tick=0.02) as progress:
        away = Awaited("Redis", "it did not answer")
        for loop in (progress.loop("dispatch"), progress.loop("ears")):
            loop.beat(away)

        def told():
            healthy, line = judge("bridge", living(settings, "bridge"))
            return healthy and "dispatch, ears wait for Redis, for " in line and "it did not answer" in line

        eventually(told)


def test_other_deployments_and_other_processes_are_told_apart(settings):
    other = changed(settings, kafka=KafkaSettings.at("localhost:1", "other."))
    running = [process(settings, "turn"), process(settings, "turn")]
    running.append(process(settings, "turn", HEADRACE_TOPIC_PREFIX="other."))
    try:
        assert {report.pid for report in living(settings, "bridge")} == {running[0].pid, running[1].pid}
        assert [report.pid for report in living(other, "bridge")] == [running[2].pid]
        running[0].send_signal(signal.SIGSTOP)
        eventually(lambda: f"bridge {running[0].pid}: " in (trouble(settings) or ""))
        eventually(lambda: trouble(other) is None)
    finally:
        for item in running:
            item.kill()


def test_a_secret_in_an_address_is_not_in_the_files_name(settings):
    with watched("bridge", changed(settings, redis="redis://user:secret@localhost:1/0")):
        eventually(lambda: trouble(changed(settings, redis="redis://localhost:1/0")) is None)


def test_only_a_loop_that_is_stuck_ends_the_process(settings):
    ends: list[int] = []
    with watched("worker", changed(settings, stuck=1.0), end=ends.append, tick=0.02) as progress:
        express, consumer = progress.loop("express"), progress.loop("consumer")
        with express.excused():
            eventually(lambda: consumer.beat(Awaited("Redis", "away")) or progress.lived > 2.0)
        assert ends == []
        eventually(lambda: ends)
    assert set(ends) == {STUCK_EXIT}


def test_a_folder_that_cannot_be_written_stops_no_work(settings, monkeypatch, caplog, folder):
    monkeypatch.setattr("tempfile.tempdir", str(folder / "not there"))
    with watched("bridge", settings, tick=0.02) as progress:
        progress.loop("a").beat()
    assert "cannot be written" in caplog.text


def test_a_process_that_ends_as_it_should_leaves_nothing_behind(settings, folder):
    with watched("bridge", settings, tick=60.0):
        assert [report.pid for report in living(settings, "bridge")] == [os.getpid()]
        (file,) = folder.glob("*/*.json")
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.parent.stat().st_mode & 0o777 == 0o700
        assert file.parent.name == f"headrace-{os.getuid()}"
    assert list(file.parent.iterdir()) == []
    assert trouble(settings) == "no bridge of this deployment runs here"


def test_the_next_process_of_any_deployment_removes_the_files_of_those_that_were_killed(settings, folder):
    killed = process(settings, "turn")
    try:
        eventually(lambda: trouble(settings) is None)
    finally:
        killed.kill()
        killed.wait()
    with watched("worker", changed(settings, ledger="sqlite:///other.db"), tick=60.0):
        assert [path.stem.rpartition("-")[2] for path in folder.glob("*/*.json")] == [str(os.getpid())]


def test_no_process_writes_into_a_folder_that_others_may_write_and_none_is_believed_there(settings, folder, caplog):
    """Anybody may make the folder first: the system's temporary folder is everybody's."""
    theirs = folder / f"headrace-{os.getuid()}"
    with watched("bridge", settings, tick=60.0):
        theirs.chmod(0o777)
        assert living(settings, "bridge") == []
        with watched("worker", settings, tick=60.0):
            assert list(theirs.glob("*-worker-*")) == []
    assert "belongs to another user" in caplog.text


# Runs the command line, and then tells of the modules that it loaded.
LOADED = """
import sys
before = set(sys.modules)
from headrace_workers.__main__ import main
try:
    main()
finally:
    names = {name for name in set(sys.modules) - before if name.partition(".")[0] not in sys.stdlib_module_names}
    print(*sorted(names), file=sys.stderr)
"""


def test_the_check_of_a_container_loads_the_standard_library_and_six_modules(settings):
    running = process(settings, "turn")
    try:
        eventually(lambda: trouble(settings) is None)
        env = {
            "PATH": os.environ["PATH"], "HEADRACE_HOME": str(settings.home), "HEADRACE_REDIS": settings.redis,
            "HEADRACE_LEDGER": settings.ledger, "TMPDIR": str(settings.home),
        }  # fmt: skip
        command = [sys.executable, "-c", LOADED, "health", "bridge"]
        shown = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=120)
        assert shown.stdout == f"bridge {running.pid}: healthy\n"
        packages = {"headrace_workers", "headrace_workers.core", "headrace_workers.runtime"}
        packages |= {"headrace_workers.runtime.health"}
        assert set(shown.stderr.split()) - packages == {
            "headrace_workers.__main__",
            "headrace_workers.core.log",
            "headrace_workers.core.progress",
            "headrace_workers.runtime.health.reports",
        }
        running.kill()
        running.wait()
        shown = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)
        assert shown.returncode == 1
        assert "headrace: no bridge of this deployment runs here\n" in shown.stderr
    finally:
        running.kill()


def test_the_check_finds_the_processes_of_a_ledger_whose_password_is_apart(settings, capfd):
    env = {
        "HEADRACE_HOME": str(settings.home), "HEADRACE_KAFKA": "localhost:1", "HEADRACE_REDIS": settings.redis,
        "HEADRACE_LEDGER": "postgresql+psycopg://me@/my%20data?host=b:1&host=a:2&application_name=x+y",
        "HEADRACE_LEDGER_PASSWORD": "a/b@c",
    }  # fmt: skip
    with watched("bridge", changed(settings, ledger=ledger_url(env))):
        assert check(["bridge"], env) == 0
        assert capfd.readouterr().out == f"bridge {os.getpid()}: healthy\n"
        assert check(["bridge"], env | {"HEADRACE_LEDGER": "postgresql+psycopg://me@/other?host=b:1"}) == 1


@pytest.mark.parametrize("arguments", [["bridge", "--json"], ["judge"], []])
def test_the_check_leaves_the_rest_to_the_command_line(settings, arguments):
    env = {"HEADRACE_HOME": "x", "HEADRACE_REDIS": "redis://localhost:1/0", "HEADRACE_LEDGER": "sqlite:///none.db"}
    assert check(arguments, env) is None
    assert check(["bridge"], {**env, "HEADRACE_REDIS": ""}) is None


def state(silent=0.0, awaited=None, waits=0.0, name="turns"):
    return LoopState(name=name, silent=silent, excused=False, awaited=awaited, waits=waits)


def test_a_process_is_unhealthy_before_it_would_end(monkeypatch):
    monkeypatch.setattr("headrace_workers.runtime.health.reports.time", SimpleNamespace(monotonic=lambda: 1_000.0))

    def troubles(*loops, age=0.0, stuck=100.0):
        return Report("bridge", 1, 1_000.0 - age, stuck, loops).incidents

    assert troubles(state(50.0), state(0.0)) == []
    assert troubles(state(51.0), state(0.0, name="b")) == ["the loop turns has not gone on for 51 s"]
    waits = state(60.0, Awaited("Redis", "no answer"), 9.0)
    assert troubles(waits) == ["the loop turns has not gone on for 60 s; it waited for Redis (no answer)"]
    assert troubles(age=30.0) == troubles(age=5.0, stuck=10.0) == []
    for age, stuck in ((31.0, 100.0), (5.1, 10.0)):
        assert "no sign of life" in troubles(age=age, stuck=stuck)[0]


def test_waits_are_told_a_service_a_line():
    redis, kafka = Awaited("Redis", "no answer"), Awaited("Kafka", "no broker")
    loops = (state(0, redis, 5.0, "a"), state(0, kafka, 1.0, "b"), state(0, redis, 9.0, "c"), state(name="d"))
    assert Report("bridge", 1, 0.0, 100.0, loops).waits == [
        "a, c wait for Redis, for 9 s: no answer", "b waits for Kafka, for 1 s: no broker"
    ]  # fmt: skip
