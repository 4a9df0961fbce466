"""Engines over small random checkpoints.

MOTET_TEST_DEVICE is where they run: -1, the default, for the CPU, or the index of a GPU. Tests of
what a GPU does not have are skipped there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from motet import _core
from motet.checkpoint import Checkpoint
from motet.config import load_config
from motet.weights import core_config, load_weights

MakeEngine = Callable[..., _core.Engine]

CPU = -1
DEVICE = int(os.environ.get("MOTET_TEST_DEVICE", CPU))
STEP_TOKENS = 256 if DEVICE == CPU else 2048  # that a step computes at most
cpu_only = pytest.mark.skipif(DEVICE != CPU, reason="about the CPU alone")


def open_engine(directory: Path, **options: Any) -> _core.Engine:
    config = load_config(directory)
    if DEVICE != CPU and "device" not in options:
        options["device"] = DEVICE
        if options.get("precision") == "f32":
            pytest.skip("a GPU has no precision='f32'")
        if config.head_dim % 16:
            pytest.skip(f"a GPU has no head_dim={config.head_dim}")
    settings = {"max_context": 1024, "kv_cache_bytes": 1 << 28, "threads": 1, **options}
    return _core.Engine(
        core_config(config), load_weights(Checkpoint(directory), config), **settings
    )


@pytest.fixture
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Force one instruction set; parametrise indirectly with `_core.isas()`."""
    if DEVICE != CPU:
        pytest.skip("a GPU has no instruction sets to choose from")
    monkeypatch.setenv("MOTET_ISA", request.param)
    return str(request.param)


def random_ids(n: int, vocab: int, seed: int = 0) -> npt.NDArray[np.int32]:
    return np.random.default_rng(seed).integers(0, vocab, n).astype(np.int32)


def run(engine: _core.Engine) -> dict[int, list[_core.Event]]:
    """Step until every request has ended; the events of each."""
    events: dict[int, list[_core.Event]] = {}
    while not engine.idle:
        for event in engine.step():
            events.setdefault(event.request, []).append(event)
    return events


def tokens_of(events: list[_core.Event]) -> list[int]:
    return [e.token for e in events if e.token >= 0 and not e.is_prompt]
