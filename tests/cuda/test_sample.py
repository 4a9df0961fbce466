"""The device's draws against the oracle in numpy and the CPU's op."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
import numpy.typing as npt
import pytest

from motet import _core
from tests.reference import sampler as oracle

INF = float("inf")
NAN = float("nan")
NO_TOKEN = -1
KINDS = ("normal", "ties", "crowded", "peaked", "masked")
ROWS = [
    oracle.Row(temperature=0.0),
    oracle.Row(),
    oracle.Row(temperature=0.05),
    oracle.Row(temperature=100.0),
    oracle.Row(min_p=0.02),
    oracle.Row(min_p=1.0, temperature=0.7),
    oracle.Row(top_k=1),
    oracle.Row(top_k=2),
    oracle.Row(top_k=40, temperature=1.3),
    oracle.Row(top_k=2500, temperature=5.0),
    oracle.Row(top_k=10**6),
    oracle.Row(top_p=0.01),
    oracle.Row(top_p=0.5, temperature=0.6),
    oracle.Row(top_p=0.95),
    oracle.Row(top_p=0.9999, temperature=20.0),
    oracle.Row(top_k=50, top_p=0.93, min_p=0.01),
    oracle.Row(top_k=10**6, top_p=0.4),
    oracle.Row(top_k=7, top_p=0.999, temperature=100.0),
]


def logits_of(vocab: int, seed: int, kind: str) -> oracle.Logits:
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, vocab).astype(np.float32)
    if kind == "ties":
        logits = np.round(logits)
    elif kind == "crowded":  # within 64 ulp of each other, and a few far below
        logits = (8 + random.integers(0, 64, vocab) * 2.0**-20).astype(np.float32)
        logits[random.random(vocab) < 0.1] = -300
    elif kind == "peaked":
        logits[random.integers(0, vocab, 4)] += 15
    elif kind == "masked":
        logits[random.random(vocab) < 0.7] = -INF
        logits[random.random(vocab) < 0.1] = NAN
        logits[random.integers(0, vocab)] = 1
    return logits


def sample(
    logits: npt.ArrayLike, rows: Sequence[oracle.Row], positions: Sequence[int]
) -> list[int]:
    samplings = [_core.Sampling(**asdict(row)) for row in rows]
    tokens = _core.cuda_ops.sample(np.asarray(logits, np.float32), samplings, positions)
    return [int(token) for token in tokens]


def draws(logits: npt.ArrayLike, n: int, row: oracle.Row) -> list[int]:
    """At positions 0 to n - 1."""
    return sample(np.tile(np.asarray(logits, np.float32), (n, 1)), [row] * n, range(n))


def on_cpu(logits: oracle.Logits, row: oracle.Row, position: int) -> int:
    sampling = _core.Sampling(**asdict(row))
    return int(_core.sample(logits, sampling, np.zeros(0, np.int32), 0, position)[0])


def check(logits: oracle.Logits, rows: Sequence[oracle.Row], positions: Sequence[int]) -> None:
    tokens = sample(logits, rows, positions)
    for x, row, position, token in zip(logits, rows, positions, tokens, strict=True):
        assert token == on_cpu(x, row, position), row
        if row.temperature == 0:
            continue
        kept = oracle.keep(x, row)
        if kept.margin > 1e-5:  # else the oracle, whose weights differ by 2e-7, may cut elsewhere
            assert token in oracle.candidates(kept, oracle.uniform(row.seed, position)), row


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vocab", [1, 7, 320, 4097, 8200])
def test_draws_what_the_oracle_and_the_cpu_draw(vocab: int, kind: str) -> None:
    random = np.random.default_rng(vocab)
    seeds = random.integers(0, 2**64, len(ROWS), np.uint64).tolist()
    rows = [replace(row, seed=seed) for row, seed in zip(ROWS, seeds, strict=True)]
    logits = np.stack([logits_of(vocab, seed % 2**32, kind) for seed in seeds])
    positions = random.integers(0, 2**40, len(rows)).tolist()
    check(logits, rows, positions)


@pytest.mark.parametrize("kind", ["normal", "ties"])
def test_many_chunks(kind: str) -> None:
    rows = [replace(ROWS[i], seed=i) for i in (0, 1, 4, 8, 9, 13, 14, 16)]
    logits = np.stack([logits_of(70000, seed, kind) for seed in range(len(rows))])
    check(logits, rows, range(len(rows)))


def test_a_row_draws_the_same_alone() -> None:
    n = len(ROWS)
    logits = np.stack([logits_of(9001, i, KINDS[i % len(KINDS)]) for i in range(n)])
    positions = list(range(100, 100 + n))
    together = sample(logits, ROWS, positions)
    assert sample(logits[::-1], ROWS[::-1], positions[::-1]) == together[::-1]
    assert together == [
        sample([x], [row], [position])[0]
        for x, row, position in zip(logits, ROWS, positions, strict=True)
    ]


@pytest.mark.parametrize("vocab", [4096, 20480])
@pytest.mark.parametrize(
    "row", [oracle.Row(), oracle.Row(top_p=1 - 2**-53), oracle.Row(top_k=9**9)]
)
def test_equal_logits_give_the_uniform_number(vocab: int, row: oracle.Row) -> None:
    streams = [(seed, p) for seed in (0, 1, 2**32, 2**64 - 1) for p in (0, 7, 2**32, 2**40 + 5)]
    rows = [replace(row, seed=seed) for seed, _ in streams]
    tokens = sample(np.zeros((len(rows), vocab)), rows, [position for _, position in streams])
    assert tokens == [int(oracle.uniform(*stream) * vocab) for stream in streams]


def test_greedy_is_argmax_with_ties_to_the_lower_id() -> None:
    rows = [oracle.Row(temperature=0.0), oracle.Row(temperature=9e-6)]
    for vocab in (2, 333, 9000):
        logits = np.round(np.random.default_rng(vocab).normal(size=(2, vocab)))
        assert sample(logits, rows, [0, 0]) == np.argmax(logits, axis=1).tolist()
        assert sample(np.zeros((2, vocab)), rows, [0, 0]) == [0, 0]
        assert sample([[-0.0, *[0.0] * vocab]] * 2, rows, [0, 0]) == [0, 0]


def test_cut_among_equal_logits_keeps_the_lower_ids() -> None:
    assert set(draws([0, 1, 1, 1, 1, 0], 20, oracle.Row(top_k=2))) == {1, 2}
    assert set(draws([0.0, -0.0, -0.0, 0.0], 20, oracle.Row(top_k=2))) == {0, 1}
    assert set(draws(np.zeros(10), 20, oracle.Row(top_p=0.3))) == {0, 1, 2}
    assert set(draws(np.zeros(10), 20, oracle.Row(top_p=0.31))) == {0, 1, 2, 3}
    assert set(draws(np.zeros(9000), 15, oracle.Row(top_k=3))) == {0, 1, 2}
    # top_p counts what top_k left.
    assert set(draws(np.zeros(9000), 15, oracle.Row(top_k=6, top_p=0.5))) == {0, 1, 2}


def test_each_cut_keeps_exactly_its_tokens() -> None:
    logits = np.log([0.05, 0.4, 0.15, 0.3, 0.1])
    for row, kept in (
        (oracle.Row(top_k=3), {1, 2, 3}),
        (oracle.Row(top_p=0.69), {1, 3}),
        (oracle.Row(top_p=0.71), {1, 2, 3}),
        (oracle.Row(min_p=0.3), {1, 2, 3}),
        (oracle.Row(min_p=1.0), {1}),
        (oracle.Row(top_k=2, top_p=0.57), {1}),
        (oracle.Row(top_k=2, top_p=0.6), {1, 3}),
        (oracle.Row(min_p=0.7, top_p=0.57), {1}),
        (oracle.Row(min_p=0.3, temperature=2.0), {0, 1, 2, 3, 4}),
    ):
        assert set(draws(logits, 20, row)) == kept, row


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nan_and_infinities(temperature: float) -> None:
    def tokens(logits: npt.ArrayLike, row: oracle.Row = ROWS[1]) -> set[int]:
        return set(draws(logits, 12, replace(row, temperature=temperature)))

    assert tokens([NAN, 1, NAN]) == {1}
    assert tokens([-INF, -INF, -3e38]) == {2}
    assert tokens([3e38, -3e38]) == {0}
    assert tokens([NAN, -INF, NAN]) == {NO_TOKEN}
    assert tokens([-INF] * 5, oracle.Row(top_k=2, top_p=0.5, min_p=0.1)) == {NO_TOKEN}
    shared = [1, INF, 2, INF, NAN, 3.4028235e38]
    for row in (oracle.Row(), oracle.Row(top_k=5), oracle.Row(top_p=0.9), oracle.Row(min_p=0.5)):
        assert tokens(shared, row) == ({1} if temperature == 0 else {1, 3})
    assert tokens(shared, oracle.Row(top_k=1)) == {1}
    assert tokens([NAN] * 5000 + [1]) == {5000}


@pytest.mark.parametrize("temperature", [1e-5, 1e-4, 1e300])
def test_extreme_temperatures(temperature: float) -> None:
    for row in (oracle.Row(), oracle.Row(top_k=3), oracle.Row(top_p=0.99)):
        seen = set(draws([0.0, 5.0, -INF, 4.9], 12, replace(row, temperature=temperature)))
        assert seen == ({0, 1, 3} if temperature > 1 else {1})
