from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import MakeCheckpoint
from tests.sched.schedules import SPEC, Reference, run_schedule

# 10,000 take about a quarter of an hour: MOTET_SCHEDULES=10000 pytest tests/sched
SCHEDULES = int(os.environ.get("MOTET_SCHEDULES", "300"))
PART = 50


@pytest.fixture(scope="module")
def checkpoint(make_checkpoint: MakeCheckpoint) -> Path:
    return make_checkpoint(SPEC)


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Reference:
    return Reference(checkpoint)


@pytest.mark.parametrize("first", range(0, SCHEDULES, PART))
def test_random_schedules_answer_as_one_at_a_time(
    checkpoint: Path, reference: Reference, first: int
) -> None:
    for seed in range(first, min(first + PART, SCHEDULES)):
        run_schedule(checkpoint, reference, seed)


def test_schedules_reach_what_they_are_to_test(checkpoint: Path, reference: Reference) -> None:
    counters = [run_schedule(checkpoint, reference, seed) for seed in range(40)]
    for counter in ("cached_tokens", "pauses", "draft_tokens", "accepted_draft_tokens"):
        assert sum(metrics[counter] for metrics in counters) > 0, counter
