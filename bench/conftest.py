"""Throughput of every benchmark, printed after pytest-benchmark's own table.

Bytes and FLOP of a call, GB/s, GFLOP/s, and the fraction of the memory bandwidth that one thread
reached in the same run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pytest


@dataclass(frozen=True)
class Measured:
    name: str
    seconds: float  # the fastest round: what the code can do, less what else the machine did
    bytes: int
    flops: int


@dataclass
class Report:
    lines: list[Measured] = field(default_factory=list)
    peak: float = 0.0  # bytes a second


class Measure(Protocol):
    def __call__(self, function: Callable[[], Any], *, bytes: int, flops: int) -> None: ...


REPORT = pytest.StashKey[Report]()


def read_bandwidth() -> float:
    """Bytes a second that one thread reads from an array far larger than any cache."""
    words = np.ones(1 << 24, dtype=np.int64)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        np.bitwise_or.reduce(words)
        best = min(best, time.perf_counter() - start)
    return words.nbytes / best


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Iterator[Report]:
    result = request.config.stash.setdefault(REPORT, Report())
    before = read_bandwidth()
    yield result
    result.peak = max(before, read_bandwidth())  # a shared machine may have been busy once


@pytest.fixture
def measure(request: pytest.FixtureRequest, benchmark: Any, report: Report) -> Measure:
    """measure(function, bytes=..., flops=...) times a call; bytes are those it must touch once."""

    def run(function: Callable[[], Any], *, bytes: int, flops: int) -> None:
        benchmark.extra_info.update(bytes=bytes, flops=flops)
        benchmark(function)
        if benchmark.stats is not None:
            seconds = benchmark.stats.stats.min
            report.lines.append(Measured(request.node.name, seconds, bytes, flops))

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    report = terminalreporter.config.stash.get(REPORT, None)
    if report is None or not report.lines:
        return
    width = max(len(line.name) for line in report.lines)
    terminalreporter.section("throughput")
    terminalreporter.write_line(f"memory read by one thread: {report.peak / 1e9:.1f} GB/s")
    terminalreporter.write_line(
        f"{'':{width}} {'us':>10} {'MB':>8} {'GB/s':>7} {'of peak':>8} {'GFLOP/s':>8}"
    )
    for line in report.lines:
        rate = line.bytes / line.seconds
        terminalreporter.write_line(
            f"{line.name:{width}} {line.seconds * 1e6:10.1f} {line.bytes / 1e6:8.2f}"
            f" {rate / 1e9:7.2f} {rate / report.peak:8.1%} {line.flops / line.seconds / 1e9:8.2f}"
        )
