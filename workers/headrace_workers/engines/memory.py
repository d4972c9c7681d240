"""Memory that an engine frees between two batches is kept for the next one.

glibc hands large blocks back to the kernel at once, and the kernel gives each page anew, emptied: on two cores that was
four times the page faults and 2 to 3 % of SmolLM2's time. What is free at the end of the heap beyond a bound goes back:
that costs no more page faults than keeping all.
"""

import ctypes

# Of glibc's malloc.h. Any value also ends glibc's own adapting of it.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT = 32 * 1024**2  # bytes: glibc's own bound of the second
_KEPT_AT_THE_END = 256 * 1024**2  # bytes


def keep_freed_memory() -> None:
    """Keep freed memory in this process. Does nothing where the C library is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_AT_THE_END)
