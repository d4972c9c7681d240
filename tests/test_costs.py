import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.costs import COLLECTION, SERVICES, Costs
from tests.services.warm import CPU_SECONDS, Forked


def counted(**seconds: float) -> Any:
    return SimpleNamespace(workeroutput={"cpu_seconds": seconds})


def test_a_run_ends_with_the_files_that_take_most_in_all_processes() -> None:
    costs = Costs(SimpleNamespace())  # type: ignore[arg-type]
    costs.pytest_testnodedown(counted(**{COLLECTION: 10.0}, **{f"test_{n}.py": float(n) for n in range(12)}))
    costs.pytest_testnodedown(counted(**{COLLECTION: 11.0, SERVICES: 100.0, "test_0.py": 99.0}))
    costs.pytest_testnodedown(SimpleNamespace())  # it was killed
    total, first, second, *_ = lines = costs.told()
    assert total == "286 CPU seconds, 21 of them for collection, 100 for services"
    assert (first.split(), second.split()) == (["99.0", "test_0.py"], ["11.0", "test_11.py"])
    assert len(lines) == 11


def test_a_few_files_are_not_listed() -> None:
    costs = Costs(SimpleNamespace())  # type: ignore[arg-type]
    costs.charge("test_a.py")
    assert costs.told() == []


def test_the_last_test_is_not_charged_with_what_ends_behind_it() -> None:
    costs = Costs(SimpleNamespace())  # type: ignore[arg-type]
    last = SimpleNamespace(nodeid="test_a.py::test_last")
    teardown = costs.pytest_runtest_teardown(last, None)  # type: ignore[arg-type]
    next(teardown)
    charged = costs.seconds["test_a.py"]
    subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
    with pytest.raises(StopIteration):
        next(teardown)
    assert costs.seconds["test_a.py"] == charged
    assert costs.seconds[SERVICES] > 0


def test_a_process_that_was_forked_counts_for_whoever_waited(tmp_path: Path) -> None:
    costs = Costs(SimpleNamespace())  # type: ignore[arg-type]
    log = tmp_path / "log"
    Forked(["timeit", "-n", "1", "-r", "1", "pass"], log, dict(os.environ)).wait(60)  # the process that forks is there
    costs.charge("test_a.py")
    assert Forked(["timeit", "-n", "1", "-r", "1", "sum(range(9_000_000))"], log, dict(os.environ)).wait(60) == 0
    costs.charge("test_b.py")
    assert costs.seconds["test_b.py"] > CPU_SECONDS[-1] - 0.001 > 0.05
