import threading

from headrace_workers.runtime.worker.consumer import IoRuns
from headrace_workers.runtime.worker.process import _pool


def test_runs_go_side_by_side_up_to_a_bound():
    io_runs, go, began = IoRuns({"deliver": 2}), threading.Event(), threading.Semaphore(0)

    def work():
        began.release()
        go.wait(120)

    assert io_runs.takes("deliver")
    assert not io_runs.takes("judge")
    assert [io_runs.begin("deliver", work) for _ in range(3)] == [True, True, False]
    assert began.acquire(timeout=120)
    assert began.acquire(timeout=120)
    go.set()
    io_runs.wait(120)
    assert io_runs.begin("deliver", work)


def test_one_that_fails_leaves_its_room():
    io_runs = IoRuns({"deliver": 1})

    def fail():
        raise RuntimeError("no")

    for _ in range(3):
        assert io_runs.begin("deliver", fail)
        io_runs.wait(120)


def test_a_machine_without_a_thread_left_costs_no_room(monkeypatch):
    """What could not be begun is for later, and an end waits for nothing."""
    io_runs = IoRuns({"deliver": 1})

    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert [io_runs.begin("deliver", fail_if_run) for _ in range(2)] == [False, False]
        io_runs.wait(120)
    began = threading.Event()
    assert io_runs.begin("deliver", began.set)
    assert began.wait(120)


def test_an_end_waits_so_long_at_most():
    """What hangs is left to its lease."""
    io_runs, over = IoRuns({"deliver": 1}), threading.Event()
    io_runs.begin("deliver", lambda: over.wait(120))
    io_runs.wait(0.01)
    assert not io_runs.begin("deliver", fail_if_run)
    over.set()


def fail_if_run():
    raise AssertionError


def test_a_listener_waits_for_room():
    """It takes no work from its queue before that could begin; more room counts at once."""
    io_runs, over = IoRuns({}), threading.Event()
    io_runs.allow("model.far", 1)
    assert io_runs.wait_for_room("model.far", 0.01)
    assert io_runs.begin("model.far", lambda: over.wait(120))
    assert not io_runs.wait_for_room("model.far", 0.01)
    io_runs.allow("model.far", 2)
    assert io_runs.wait_for_room("model.far", 0.01)
    over.set()


def test_calls_of_another_machine_have_no_pool():
    """A pool would hand each claim on to such a thread; a model that runs here keeps its pool of threads, and so does a
    worker that is told how many to run side by side.
    """
    generate = frozenset({"generate"})
    assert _pool(generate, None, remote=True) == _pool(generate, 1, remote=True) == "solo"
    assert _pool(generate, 2, remote=True) == _pool(generate, None, remote=False) != "solo"
