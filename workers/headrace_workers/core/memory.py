"""Memory of a process that lives long: what Python's collector looks at, and what glibc keeps of what was freed.

By default the collector looks at a few hundred new objects at a time, and now and then at all there are. Of those a
worker with its detectors has half a million, none of them garbage: that was a fifth of what moderating and judging a
job cost.

glibc hands large blocks back to the kernel at once, and the kernel gives each page anew, emptied: on two cores that was
four times the page faults and 2 to 3 % of SmolLM2's time. So a process that computes keeps the most that it ever needed
at one time. Of small blocks glibc keeps what lies between others: that of a bridge grew with every burst of jobs.
"""

import ctypes
import gc
from typing import Any, Final

# New containers to the next look: more than a group of jobs leaves at any time, so that nearly all of them are gone by
# themselves before. What they hold may be some megabytes.
_NEW: Final = 20_000
# Of glibc's malloc.h. Any value also ends glibc's own adapting of it.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT = 32 * 1024**2  # bytes: glibc's own bound of the second
_NEVER = 2**31 - 1


def spare_what_is_loaded() -> None:
    """Let the collector look no more at what there is. Call it once a process, when all that it works with is loaded,
    and after any fork.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW, 10, 10)


def keep_freed_memory() -> None:
    """Keep freed memory in this process. Does nothing where the C library is not glibc."""
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)


def hand_back() -> None:
    """Hand the kernel all that is free in this process. Does nothing where the C library is not glibc."""
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _of_glibc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None)
