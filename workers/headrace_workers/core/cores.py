"""Cores and memory that this process may use."""

import os
from pathlib import Path


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
