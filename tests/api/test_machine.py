from __future__ import annotations

import os

import pytest

from motet import machine


def pretend(monkeypatch: pytest.MonkeyPatch, cpus: int, files: dict[str, str]) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cpus)), raising=False)
    monkeypatch.setattr(
        machine,
        "_read",
        lambda path: next((v for k, v in files.items() if str(path).endswith(k)), ""),
    )


@pytest.mark.parametrize(
    ("cpus", "files", "cores"),
    [
        (1, {}, 1),
        (2, {}, 2),
        (8, {f"cpu{i}/topology/thread_siblings_list": f"{i % 4},{i % 4 + 4}" for i in range(8)}, 4),
        (2, {"thread_siblings_list": "0-1"}, 2),  # one core of a cloud machine
        (64, {"cpu.max": "150000 100000"}, 2),
        (64, {"cpu.max": "max 100000"}, 64),
        (4, {"cpu.max": "10000 100000"}, 1),
        (64, {"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        (64, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
    ],
)
def test_core_count(
    monkeypatch: pytest.MonkeyPatch, cpus: int, files: dict[str, str], cores: int
) -> None:
    pretend(monkeypatch, cpus, files)
    assert machine.core_count() == cores


def test_memory_is_that_of_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 1, {"memory.max": "max"})
    physical = machine.memory_bytes()
    assert physical > 1 << 28
    pretend(monkeypatch, 1, {"memory.max": "1000000"})
    assert machine.memory_bytes() == 1000000
    pretend(monkeypatch, 1, {"memory/memory.limit_in_bytes": "2000000"})  # control groups 1
    assert machine.memory_bytes() == 2000000
    pretend(monkeypatch, 1, {"memory/memory.limit_in_bytes": "9223372036854771712"})
    assert machine.memory_bytes() == physical
