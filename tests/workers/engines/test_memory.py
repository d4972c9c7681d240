"""What an engine frees stays with its process while that computes."""

import subprocess
import sys
import threading
import time

import pytest
from tests.services.eventually import eventually

from headrace_schemas import Message, Sampling
from headrace_workers.engines import ctranslate2
from headrace_workers.engines.memory import Resting
from headrace_workers.ports import Request

# 16 blocks of 8 MiB, ten times over: without it each is taken from the kernel and given back.
_SCRIPT = """
import resource, sys
from headrace_workers.engines.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    blocks = [bytearray(8 * 1024**2) for _ in range(16)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(how: str) -> int:
    ran = subprocess.run([sys.executable, "-c", _SCRIPT, how], capture_output=True, text=True, check=True)
    return int(ran.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is asked")
def test_freed_memory_is_not_taken_anew():
    """The same work, with far fewer new pages."""
    assert _faults("kept") * 2 < _faults("given back")


# 20 blocks of 8 MiB are in use, and then free: what is resident (MiB) with them, without, and when that is handed back.
_RESIDENT = """
import psutil
from headrace_workers.engines.memory import hand_back, keep_freed_memory
keep_freed_memory()
resident = lambda: psutil.Process().memory_info().rss // 2**20
blocks = [b"x" * (8 * 1024**2) for _ in range(20)]
used = resident()
del blocks
kept = resident()
hand_back()
print(used, kept, resident())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is asked")
def test_what_is_kept_can_be_handed_back():
    """All of it."""
    ran = subprocess.run([sys.executable, "-c", _RESIDENT], capture_output=True, text=True, check=True)
    used, kept, left = map(int, ran.stdout.split())
    assert used - kept < 16
    assert kept - left > 128


def test_a_process_that_rests_is_told_once_for_each_time():
    """Again when it has worked since."""
    told = []
    resting = Resting(lambda: told.append(len(told)), seconds=0.01)
    for times in (1, 2):
        with resting.busy(), resting.busy():
            pass
        eventually(lambda times=times: len(told) == times)
        time.sleep(0.1)
        assert len(told) == times


def test_a_process_that_works_does_not_rest():
    """However long one run takes, and whatever ends beside it."""
    told = threading.Event()
    resting = Resting(told.set, seconds=0.01)
    with resting.busy():
        for _ in range(5):
            with resting.busy():
                time.sleep(0.02)
        assert not told.is_set()
    assert told.wait(120)


def test_who_works_again_before_the_time_is_over_has_not_rested():
    """The time begins anew."""
    told = threading.Event()
    resting = Resting(told.set, seconds=3_600)
    for _ in range(3):
        with resting.busy():
            pass
    assert not told.is_set()


def test_an_engine_that_has_answered_rests(tiny_home, monkeypatch):
    """And hands back what it kept."""
    told = threading.Event()
    monkeypatch.setattr(ctranslate2, "RESTING", Resting(told.set, seconds=0.01))
    engine = ctranslate2.CTranslate2Generator.load(tiny_home / "models" / "tiny")
    assert not told.is_set()
    engine.generate([Request((Message(role="user", content="a river"),), Sampling(max_tokens=2), "default")])
    assert told.wait(120)
