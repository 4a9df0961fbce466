"""What this process may use of the machine: memory and cores, a container's limits included."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")  # of version 2, or 1 with a folder a controller
_CPUS = Path("/sys/devices/system/cpu")


def memory_bytes() -> int:
    """Physical memory, or the container's share of it."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = (_read(_CGROUP / "memory.max"), _read(_CGROUP / "memory/memory.limit_in_bytes"))
    return min([physical, *(int(limit) for limit in limits if limit.isdigit())])


def core_count() -> int:
    """Physical cores this process may run on: hyper-threads share the units that limit us.

    A single core counts as two if it has two threads, since one thread can't load its memory fully.
    """
    if not hasattr(os, "sched_getaffinity"):  # macOS
        return os.cpu_count() or 1
    allowed = os.sched_getaffinity(0)
    siblings = {
        _read(_CPUS / f"cpu{cpu}/topology/thread_siblings_list") or str(cpu) for cpu in allowed
    }
    quota, _, period = _read(_CGROUP / "cpu.max").partition(" ")
    if not quota:
        quota = _read(_CGROUP / "cpu/cpu.cfs_quota_us")
        period = _read(_CGROUP / "cpu/cpu.cfs_period_us")
    limit = math.ceil(int(quota) / int(period)) if quota.isdigit() else len(allowed)
    return max(1, min(max(len(siblings), 2), len(allowed), limit))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
