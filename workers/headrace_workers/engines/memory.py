"""Memory that an engine frees between two batches is kept for the next one.

glibc hands large blocks back to the kernel at once, and the kernel gives each page anew, emptied: on two cores that was
four times the page faults and 2 to 3 % of SmolLM2's time. A process keeps the most that it ever needed at one time.
"""

import ctypes

# Of glibc's malloc.h. Any value also ends glibc's own adapting of it.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT = 32 * 1024**2  # bytes: glibc's own bound of the second
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Keep freed memory in this process. Does nothing where the C library is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
