"""Cores and memory that this process may use, and the memory of a process that lives long."""

import contextlib
import ctypes
import gc
import os
import resource
import sys
from pathlib import Path
from typing import Any, Final


def available_cores(cgroup_root: Path = Path("/sys/fs/cgroup"), own_cgroup: Path = Path("/proc/self/cgroup")) -> int:
    """Return how many cores CPU affinity and the container's limit (cgroup v2, `cpu.max`) leave this process."""
    affine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    quotas = [
        quota for folder in _cgroups(cgroup_root, own_cgroup) if (quota := _quota(folder / "cpu.max")) is not None
    ]
    return max(1, int(min([affine, *quotas])))


def available_memory(
    cgroup_root: Path = Path("/sys/fs/cgroup"), own_cgroup: Path = Path("/proc/self/cgroup")
) -> int | None:
    """Return the bytes of memory that the machine and the container's limit (cgroup v2, `memory.max`) give this
    process; None where the system does not say.
    """
    try:
        machine = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, OSError, ValueError):
        machine = []
    limits = [limit for folder in _cgroups(cgroup_root, own_cgroup) if (limit := _limit(folder / "memory.max"))]
    return min([*machine, *limits], default=None)


def _limit(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None  # "max", or no such limit here


def _cgroups(root: Path, own: Path) -> list[Path]:
    # The limit may stand at any level between our own group and the root.
    try:
        paths = [line[3:] for line in own.read_text().splitlines() if line.startswith("0::")]
    except OSError:
        paths = []
    group = root / paths[0].strip("/") if paths else root
    return [group, *(parent for parent in group.parents if parent.is_relative_to(root))]


def _quota(path: Path) -> float | None:
    try:
        quota, period = path.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None  # no such limit here: an older kernel, or another system


# New containers to the next look: more than a group of jobs leaves at any time, so that nearly all of them are gone by
# themselves before. What they hold may be some megabytes.
_NEW: Final = 20_000
# Of glibc's malloc.h. Any value also ends glibc's own adapting of it.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT = 32 * 1024**2  # bytes: glibc's own bound of the second
_NEVER = 2**31 - 1


def peak_memory(status: Path = Path("/proc/self/status")) -> int:
    """Return the most memory that this process had so far, in bytes.

    `ru_maxrss` serves only where the kernel says nothing else: a program keeps that of the process which started it.
    """
    with contextlib.suppress(OSError):
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


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
