"""Random schedules: requests that come, share prefixes, are cancelled, stall and fork in any order.

Every request must answer with the tokens that it answers with alone, and after every step each page
of the cache must be owned by those who use it, kept, or free.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from motet import _core
from tests.engine.conftest import open_engine
from tests.reference.checkpoint_writer import CheckpointSpec

# As small as a model gets in which everything happens: full and sliding layers, a window shorter
# than a page and one that spans pages.
SPEC = CheckpointSpec(
    num_layers=2,
    hidden_size=32,
    intermediate_size=32,
    num_heads=2,
    num_kv_heads=1,
    head_dim=16,
    num_experts=4,
    experts_per_token=2,
    sliding_window=40,
)
VOCAB = SPEC.vocab_size
CONTEXT = 256
PAGE = 32


@dataclass(frozen=True)
class Asked:
    """What a request asks for; equal ones have equal answers."""

    prompt: tuple[int, ...]
    n_new: int
    temperature: float
    seed: int
    n: int = 1


@dataclass
class Running:
    asked: Asked
    cancelled: bool = False
    window: int = 0
    taken: int = 0
    events: dict[int, list[_core.Event]] = field(default_factory=dict)  # by sample


class Reference:
    """One request at a time, nothing cached, no drafts."""

    def __init__(self, checkpoint: Path) -> None:
        self._engine = open_engine(checkpoint, max_context=CONTEXT, max_batch=1, prefix_cache=False)
        self._answers: dict[Asked, list[list[int]]] = {}

    def answers(self, asked: Asked) -> list[list[int]]:
        """The tokens of each sample."""
        if asked not in self._answers:
            self._answers[asked] = self._compute(asked)
        return self._answers[asked]

    def _compute(self, asked: Asked) -> list[list[int]]:
        first = submit(self._engine, asked)
        tokens: dict[int, list[int]] = {first + i: [] for i in range(asked.n)}
        while not self._engine.idle:
            for event in self._engine.step():
                tokens[event.request].append(event.token)
        return [tokens[first + i] for i in range(asked.n)]


def submit(engine: _core.Engine, asked: Asked, **options: Any) -> int:
    sampling = _core.Sampling(temperature=asked.temperature, seed=asked.seed)
    ids = np.array(asked.prompt, np.int32)
    return engine.submit(ids, sampling, asked.n_new, n=asked.n, **options)


def random_request(rng: np.random.Generator) -> Asked:
    """Prompts from few families, so that prefixes are shared, cut at any token."""
    family = np.random.default_rng(int(rng.integers(3))).integers(0, VOCAB, CONTEXT)
    n_shared, n_own = int(rng.integers(0, 180)), int(rng.integers(1, 30))
    own = rng.integers(0, 4, n_own)
    temperature, seed = (0.0, 0) if rng.random() < 0.5 else (1.0, int(rng.integers(3)))
    return Asked(
        tuple(int(i) for i in (*family[:n_shared], *own)),
        int(rng.integers(1, 40)),
        temperature,
        seed,
        int(rng.choice([1, 1, 1, 2, 3])) if temperature > 0 else 1,
    )


def random_engine(checkpoint: Path, rng: np.random.Generator) -> _core.Engine:
    """From a cache that barely holds one request to one that holds all of them."""
    batch = int(rng.integers(1, 6))
    config_bytes = 2 * SPEC.num_kv_heads * SPEC.head_dim * PAGE * 2  # of a page, one layer
    pages = int(rng.integers(8, 40))
    sliding = batch * 4 + 8
    return open_engine(
        checkpoint,
        max_context=CONTEXT,
        max_batch=batch,
        kv_cache_bytes=config_bytes * (pages + sliding),
        prefix_cache=bool(rng.random() < 0.8),
        speculation=bool(rng.random() < 0.5),
        target_itl=float(rng.choice([0.0, 0.002])),
    )


def run_schedule(checkpoint: Path, reference: Reference, seed: int) -> dict[str, int]:
    """One schedule; returns the engine's counters."""
    rng = np.random.default_rng(seed)
    engine = random_engine(checkpoint, rng)
    left = int(rng.integers(2, 9))
    requests: dict[int, Running] = {}
    owner: dict[int, tuple[int, int]] = {}  # event id -> (first id, sample)
    while left > 0 or not engine.idle:
        while left > 0 and rng.random() < 0.4:
            left -= 1
            request = Running(random_request(rng), window=int(rng.choice([0, 0, 3, 10])))
            salt = int(rng.integers(2))
            prediction = request.asked.prompt[-20:] if rng.random() < 0.3 else ()
            if rng.random() < 0.3:  # a drafter that is often right
                answer = np.array(reference.answers(request.asked)[0], np.int32)
                wrong = rng.random(len(answer)) < 0.2
                prediction = np.where(wrong & (answer >= 0), rng.integers(0, VOCAB), answer)
                prediction = prediction[prediction >= 0]
            first = submit(
                engine,
                request.asked,
                window=request.window,
                cache_salt=salt,
                prediction=np.array(prediction, np.int32),
            )
            requests[first] = request
            owner |= {first + i: (first, i) for i in range(request.asked.n)}
        for event in engine.step():
            first, sample = owner[event.request]
            requests[first].events.setdefault(sample, []).append(event)
        engine.audit()
        _act(engine, rng, requests)
    check_answers(reference, requests)
    metrics = engine.metrics()
    assert metrics["full_pages_used"] == metrics["sliding_pages_used"] == 0
    return metrics


def _act(engine: _core.Engine, rng: np.random.Generator, requests: dict[int, Running]) -> None:
    """Readers take what has come, or do not; some requests are cancelled."""
    for first, request in requests.items():
        for sample, events in request.events.items():
            if request.window and rng.random() < 0.7:
                engine.grant(first + sample, sum(e.token >= 0 for e in events) - request.taken)
                request.taken = sum(e.token >= 0 for e in events)
        if rng.random() < 0.01:
            request.cancelled = True
            engine.cancel(first + int(rng.integers(request.asked.n)))


def check_answers(reference: Reference, requests: dict[int, Running]) -> None:
    for request in requests.values():
        for sample, expected in enumerate(reference.answers(request.asked)):
            events = request.events[sample]
            tokens = [event.token for event in events if event.token >= 0]
            if events[-1].finish == "cancelled":
                assert request.cancelled
                assert tokens == expected[: len(tokens)]
            else:
                assert events[-1].finish == "length"
                assert tokens == expected
