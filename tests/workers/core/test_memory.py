"""What the collector looks at in a process that lives long, and what becomes of memory that it freed."""

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest

from headrace_workers.core.machine import spare_what_is_loaded


class Knot:
    """Refers to itself: only the collector can free it."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


def test_what_is_loaded_is_not_looked_at_again() -> None:
    loaded = Knot()
    spare_what_is_loaded()
    assert gc.get_freeze_count() > 0
    assert not any(item is loaded for item in gc.get_objects())
    assert gc.get_threshold()[0] > 10_000


def test_what_is_garbage_at_that_moment_goes() -> None:
    """It would stay for good otherwise."""
    knot = weakref.ref(Knot())
    assert knot() is not None
    spare_what_is_loaded()
    assert knot() is None


# 20 blocks of 8 MiB are in use, and then free: what is resident (MiB) with them, without, and when that is handed back.
_RESIDENT = """
import psutil
from headrace_workers.core.machine import hand_back, keep_freed_memory
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
    ran = subprocess.run([sys.executable, "-c", _RESIDENT], capture_output=True, text=True, check=True)
    used, kept, left = map(int, ran.stdout.split())
    assert used - kept < 16
    assert kept - left > 128


def test_the_peak_of_a_process_is_not_that_of_the_larger_one_which_started_it() -> None:
    large = bytearray(b"x" * (200 << 20))
    program = "from headrace_workers.core.machine import peak_memory; print(peak_memory())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < len(large)
