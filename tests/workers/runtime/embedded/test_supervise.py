"""Crashed children are started again, with patience and without end-less tries."""

import errno
import os
import signal
import sys

import pytest

from headrace_workers.core.progress import STUCK_EXIT
from headrace_workers.runtime.embedded import supervise
from headrace_workers.runtime.embedded.child_processes import ChildFailed, ChildSpec
from headrace_workers.runtime.embedded.supervise import Done, Supervisor, restart_delay

pytestmark = pytest.mark.integration

SLEEP = ("sleep", "600")
CRASH = ("sh", "-c", "exit 7")
# Once told to stop it waits until the other is told, too.
BESIDE = """
import pathlib, signal, sys, time
ready, told, other = map(pathlib.Path, sys.argv[1:])
def stop(*_):
    told.touch()
    while not other.exists():
        time.sleep(0.01)
    sys.exit()
signal.signal(signal.SIGTERM, stop)
ready.touch()
while True:
    signal.pause()
"""


class Time:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def supervisor(tmp_path, time):
    supervisor = Supervisor(tmp_path, monotonic=time)
    yield supervisor
    supervisor.stop_all()


def kill(child):
    os.kill(child.process.pid, signal.SIGKILL)
    child.process.wait()


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "headrace.stack"]


def test_a_crash_is_told_with_its_log_and_what_comes_next(supervisor, time, caplog):
    exits = supervisor.start(ChildSpec(name="exits", argv=CRASH))
    exits.process.wait()
    killed = supervisor.start(ChildSpec(name="killed", argv=SLEEP))
    kill(killed)
    for _ in range(2):
        supervisor.check()
    first, second = warnings(caplog)
    assert first.startswith(
        f"exits ended with exit code 7; see {exits.log}; it is started again in 0.5 s, after crash 1"
    )
    assert second.startswith(f"killed was killed by SIGKILL (for want of memory?); see {killed.log}; ")


def test_a_restart_that_fails_is_told_once_with_its_log(supervisor, time, caplog):
    ready = iter([True, False])
    first = supervisor.start(ChildSpec(name="a", argv=SLEEP, ready=lambda: next(ready), ready_seconds=0.0))
    kill(first)
    supervisor.check()
    time.now += restart_delay(1)
    supervisor.check()
    assert warnings(caplog)[1:] == [
        f"a is not ready after 0 s; see {first.log}; it is started again in 1 s, after crash 2 of at most 10"
    ]


def crash(supervisor, time):
    supervisor.children[0].process.wait()
    supervisor.check()
    time.now += supervise.LONGEST_DELAY
    supervisor.check()


def test_delays_double_up_to_a_bound():
    assert [restart_delay(crashes) for crashes in (1, 2, 3, 7, 50)] == [0.5, 1.0, 2.0, 30.0, 30.0]


def test_a_killed_child_is_started_again_after_its_delay(supervisor, time):
    started = []
    first = supervisor.start(ChildSpec(name="a", argv=SLEEP, started=lambda: started.append(1)))
    kill(first)
    supervisor.check()
    supervisor.check()
    assert supervisor.children == [first]
    time.now += restart_delay(1)
    supervisor.check()
    [second] = supervisor.children
    assert second.running
    assert second.process.pid != first.process.pid
    assert started == [1, 1]


def test_a_steady_child_starts_with_a_clean_record(supervisor, time):
    kill(supervisor.start(ChildSpec(name="a", argv=SLEEP)))
    supervisor.check()
    time.now += restart_delay(1)
    supervisor.check()
    time.now += supervise.STEADY_SECONDS
    kill(supervisor.children[0])
    supervisor.check()
    time.now += restart_delay(1)
    supervisor.check()
    assert supervisor.children[0].running


def test_a_child_that_always_crashes_ends_in_an_error(supervisor, time):
    supervisor.start(ChildSpec(name="broken", argv=CRASH))

    for _ in range(supervise.MAX_CRASHES - 1):
        crash(supervisor, time)
    with pytest.raises(ChildFailed, match=r"broken ended with exit code 7; see .*broken\.log; that was crash 10"):
        crash(supervisor, time)


def test_a_child_that_all_else_goes_on_without_is_started_rarely_after_many_crashes(supervisor, time, tmp_path, caplog):
    healed = tmp_path / "healed"
    argv = ("sh", "-c", f"test -e {healed} && exec sleep 600; echo no weights; exit 7")
    spec = ChildSpec(name="broken", argv=argv, works=True, was_ready=healed.exists, optional="Mend the folder")
    broken = supervisor.start(spec)
    other = supervisor.start(ChildSpec(name="other", argv=SLEEP))
    for _ in range(supervise.MAX_CRASHES):
        time.now += supervise.STEADY_SECONDS  # it takes long to load what is there
        crash(supervisor, time)
    told = (
        f"broken ended with exit code 7; see {broken.log}: no weights; that was crash 10 in a row without progress, "
        "and all else goes on without it. Mend the folder. It is started again every 300 s"
    )
    assert warnings(caplog)[-1] == told
    healed.touch()
    time.now += supervise.RARE_DELAY - 2 * supervise.LONGEST_DELAY
    supervisor.check()
    assert [child.running for child in supervisor.children] == [False, True]
    time.now += 2 * supervise.LONGEST_DELAY
    supervisor.check()
    assert [child.running for child in supervisor.children] == [True, True]
    assert supervisor.children[1] is other


@pytest.mark.parametrize(
    ("each", "was_ready", "lives"),
    [((1, 1), True, True), ((1, 1), False, False), ((1, 0), True, False), ((0, 0), True, False)],
    ids=["others are answered", "it takes no job", "each job kills it", "nothing ends"],
)
def test_crashes_count_where_no_work_was_done_between_them(tmp_path, time, each, was_ready, lives):
    ended, answered = 0, 0
    supervisor = Supervisor(tmp_path, monotonic=time, done=lambda: Done(ended, answered))
    supervisor.start(ChildSpec(name="works", argv=CRASH, works=True, was_ready=lambda: was_ready))
    supervisor.start(ChildSpec(name="serves", argv=SLEEP))
    gave_up = False
    for _ in range(2 * supervise.MAX_CRASHES + 2):
        supervisor.children[0].process.wait()
        try:
            supervisor.check()
        except ChildFailed:
            gave_up = True
            break
        time.now += supervise.LONGEST_DELAY
        supervisor.check()
        ended, answered = ended + each[0], answered + each[1]
    supervisor.stop_all()
    assert gave_up is not lives


def test_those_that_run_jobs_stop_together(supervisor, tmp_path):
    seen, workers = [], []
    supervisor._changed = lambda children: seen.append([child.spec.name for child in children])
    supervisor.start(ChildSpec(name="broker", argv=SLEEP))
    for name, other in (("a", "b"), ("b", "a")):
        ready, told, others = tmp_path / f"{name}-ready", tmp_path / name, tmp_path / other
        argv = (sys.executable, "-c", BESIDE, str(ready), str(told), str(others))
        workers.append(supervisor.start(ChildSpec(name=name, argv=argv, ready=ready.exists, works=True)))
    supervisor.start(ChildSpec(name="bridge", argv=SLEEP))
    supervisor.stop_all()
    assert [child.process.returncode for child in workers] == [0, 0]
    assert seen[-4:] == [["broker", "a", "b", "bridge"], ["broker", "a", "b"], ["broker"], []]


def test_a_start_that_the_machine_does_not_allow_is_tried_for_as_long_as_it_takes(supervisor, time, caplog):
    full = [True]

    def prepare():
        if full[0]:
            raise OSError(errno.ENOSPC, "No space left on device", "/somewhere")

    full[0] = False
    kill(supervisor.start(ChildSpec(name="a", argv=SLEEP, prepare=prepare)))
    full[0] = True
    for _ in range(2 * supervise.MAX_CRASHES):
        supervisor.check()
        time.now += supervise.LONGEST_DELAY
    assert "a cannot be started: /somewhere: No space left on device; it is tried again in 0.5 s" in warnings(caplog)
    full[0] = False
    supervisor.check()
    assert supervisor.children[0].running


def test_while_something_is_in_the_way_of_all_no_crash_is_one_too_many(tmp_path, time, caplog):
    obstacles = ["no space is left"]
    supervisor = Supervisor(tmp_path, monotonic=time, obstacle=lambda: obstacles[0])
    supervisor.start(ChildSpec(name="broken", argv=CRASH))

    for _ in range(2 * supervise.MAX_CRASHES):
        crash(supervisor, time)
    assert all("; no space is left; " in warning for warning in warnings(caplog))
    obstacles[0] = None
    with pytest.raises(ChildFailed, match="that was crash 10 in a row"):
        crash(supervisor, time)
    supervisor.stop_all()


def test_a_child_that_was_stuck_is_named_and_gets_another_chance_each_time(supervisor, time, caplog):
    stuck = ("sh", "-c", f"exit {STUCK_EXIT}")
    supervisor.start(ChildSpec(name="bridge", argv=stuck))
    for _ in range(supervise.MAX_CRASHES + 3):
        supervisor.children[0].process.wait()
        supervisor.check()
        time.now += supervise.LONGEST_DELAY
        supervisor.check()
    assert "bridge ended itself, because one of its loops was stuck or a run hung; see " in warnings(caplog)[-1]
    [child] = supervisor.children
    assert child.restarts == supervise.MAX_CRASHES + 3
    assert child.last_end == "ended itself, because one of its loops was stuck or a run hung"


@pytest.fixture
def signs():
    """When each process gave its last sign of life."""
    return {}


def watched_child(supervisor, signs, name="a"):
    """A child whose silence may last ten seconds."""
    spec = ChildSpec(name=name, argv=SLEEP, sign_of_life=signs.get, silence_seconds=10.0)
    return supervisor.start(spec)


def pass_by(supervisor, time, seconds):
    """Let the supervisor look once a second."""
    for _ in range(seconds):
        time.now += 1
        supervisor.check()


def test_a_child_that_is_stopped_is_killed_and_started_again(supervisor, time, signs, caplog):
    first = watched_child(supervisor, signs)
    pid = first.process.pid
    for second in range(20):
        signs[pid] = float(second)
        pass_by(supervisor, time, 1)
    os.kill(pid, signal.SIGSTOP)
    pass_by(supervisor, time, 10)
    assert first.running
    pass_by(supervisor, time, 2)
    assert not first.running
    assert warnings(caplog)[0].startswith(f"a gave no sign of life for 11 s, and was killed; see {first.log}; ")
    pass_by(supervisor, time, 2)
    (second,) = supervisor.children
    assert (second.running, second.restarts) == (True, 1)
    assert second.last_end == "gave no sign of life for 11 s, and was killed"
    signs[second.process.pid] = 1.0
    pass_by(supervisor, time, 10)
    assert second.running
    pass_by(supervisor, time, 3)
    assert not second.running


def test_who_is_not_known_to_be_silent_is_left_alone(supervisor, time, signs):
    unknown, frozen = watched_child(supervisor, signs, "unknown"), watched_child(supervisor, signs, "frozen")
    signs[frozen.process.pid] = 1.0
    pass_by(supervisor, time, 5)
    time.now += 3_600
    supervisor.check()
    assert (unknown.running, frozen.running) == (True, True)
    signs[frozen.process.pid] = 2.0
    pass_by(supervisor, time, 10)
    assert (unknown.running, frozen.running) == (True, True)
