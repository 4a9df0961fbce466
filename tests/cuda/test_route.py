from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from motet import _core
from tests.cuda.numbers import bf16, from_bf16, from_f16, relative_error

Array = npt.NDArray[Any]
TOKENS = (1, 2, 7, 17, 32, 33, 70, 130)


def inputs(tokens: int, hidden: int, experts: int) -> tuple[Array, Array, Array, Array, Array]:
    random = np.random.default_rng(hidden + experts)
    x = random.normal(size=(200, hidden)).astype(np.float32)[:tokens]
    norm = bf16(random.normal(size=hidden) + 1)
    router = bf16(random.normal(size=(experts, hidden)))
    bias = bf16(random.normal(size=experts))
    slots = np.arange(tokens, dtype=np.int32)
    slots[3::5] = -1
    return x, norm, router, bias, slots


def check_lists(found: dict[str, Array], experts: Array, slots: Array) -> None:
    """Pairs by expert, then by token; tiles that cover each expert's pairs in order."""
    tokens, k = experts.shape
    there = [(e, t, j) for t in range(tokens) if slots[t] >= 0 for j, e in enumerate(experts[t])]
    there.sort()
    assert found["pair_token"][: len(there)].tolist() == [t for _, t, _ in there]
    pair_of_choice = np.full((tokens, k), -1)
    for pair, (_, t, j) in enumerate(there):
        pair_of_choice[t, j] = pair
    assert (found["pair_of_choice"].reshape(tokens, k) == pair_of_choice).all()

    used = found["tiles"][:, 2] > 0
    assert (used[:-1] >= used[1:]).all()
    largest = 64 if tokens > 32 else 16
    expected = []
    for e in sorted({e for e, _, _ in there}):
        first = next(i for i, pair in enumerate(there) if pair[0] == e)
        count = sum(pair[0] == e for pair in there)
        expected += [(e, first + i, min(largest, count - i), 0) for i in range(0, count, largest)]
    tiles = found["tiles"].copy()
    assert tiles[0, 3] == len(expected)
    tiles[0, 3] = 0
    assert [tuple(tile) for tile in tiles[used].tolist()] == expected
    assert (tiles[~used] == 0).all()


SHAPES = [
    *((tokens, 2880, 32, 4) for tokens in (1, 16, 17, 34)),
    *((tokens, 352, 128, 4) for tokens in (8, 9, 32, 33)),
    *((tokens, *shape) for tokens in TOKENS for shape in ((96, 32, 4), (333, 5, 2), (64, 1, 1))),
    (140, 32, 20, 3),  # blocks have several groups of experts, the last ones fewer
    *((tokens, 3136, 34, 4) for tokens in (2, 17)),  # more columns than threads keep
    (9, 3333, 3, 2),
]


@pytest.mark.parametrize(("tokens", "hidden", "experts", "k"), SHAPES)
def test_route(tokens: int, hidden: int, experts: int, k: int) -> None:
    x, norm, router, bias, slots = inputs(tokens, hidden, experts)
    found = _core.cuda_ops.route(x, norm, router, bias, slots, k, 1e-5)

    x64 = x.astype(np.float64)
    normed = x64 / np.sqrt((x64**2).mean(axis=1, keepdims=True) + 1e-5) * from_bf16(norm)
    rows = from_f16(found["normed"])
    assert relative_error(rows[:, :hidden], normed) < 5e-4
    assert (rows[:, hidden:] == 0).all()

    logits = normed @ from_bf16(router).T + from_bf16(bias)
    assert relative_error(found["logits"], logits) < 1e-6
    chosen = np.argsort(-found["logits"], axis=1, kind="stable")[:, :k]
    assert (found["experts"] == chosen).all()
    top = np.take_along_axis(logits, chosen, axis=1)
    weights = np.exp(top - top.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    assert relative_error(found["weights"], weights) < 1e-5
    check_lists(found, chosen, slots)
    assert found["ticket"] == 0  # as the next run needs it


@pytest.mark.parametrize("hidden", [357, 2880])
@pytest.mark.parametrize("tokens", TOKENS)
def test_a_token_alone_has_the_same_bits(tokens: int, hidden: int) -> None:
    x, norm, router, bias, slots = inputs(tokens, hidden, 40)
    together = _core.cuda_ops.route(x, norm, router, bias, slots, 4, 1e-5)
    for t in {0, tokens // 2, tokens - 1}:
        alone = _core.cuda_ops.route(
            x[t : t + 1], norm, router, bias, np.zeros(1, np.int32), 4, 1e-5
        )
        for name in ("logits", "experts", "weights", "normed"):
            assert (alone[name][0] == together[name][t]).all(), name


@pytest.mark.parametrize("tokens", [3, 33])
def test_ties_go_to_the_lower_expert(tokens: int) -> None:
    x, norm, router, bias, slots = inputs(tokens, 64, 128)
    router[:] = 0
    bias[:] = 0
    bias[[40, 8, 7, 127]] = bf16(1)
    bias[100] = bf16(-0.0)
    found = _core.cuda_ops.route(x, norm, router, bias, slots, 4, 1e-5)
    assert (found["experts"] == [7, 8, 40, 127]).all()
    bias[8] = 0
    found = _core.cuda_ops.route(x, norm, router, bias, slots, 4, 1e-5)
    assert (found["experts"] == [7, 40, 127, 0]).all()
    check_lists(found, found["experts"], slots)
    bias[:] = 0  # where logits are -0, they are as 0
    bias[3] = bf16(-0.0)
    found = _core.cuda_ops.route(x, norm, router, bias, slots, 4, 1e-5)
    assert (found["experts"] == [0, 1, 2, 3]).all()


# What the order of logits makes of them: first, last, and last of all bit patterns.
@pytest.mark.parametrize("nan", [0x7FC00000, 0xFFC00000, 0xFFFFFFFF])
@pytest.mark.parametrize("tokens", [5, 34])
def test_a_token_of_nan_is_routed_somewhere(tokens: int, nan: int) -> None:
    x, norm, router, bias, slots = inputs(tokens, 64, 6)
    x[4] = np.uint32(nan).view(np.float32)
    found = _core.cuda_ops.route(x, norm, router, bias, slots, 4, 1e-5)
    assert len(set(found["experts"][4].tolist())) == 4
    assert ((found["experts"] >= 0) & (found["experts"] < 6)).all()
    check_lists(found, found["experts"], slots)


@pytest.mark.parametrize(("tokens", "experts", "k"), [(4096, 128, 4), (1000, 7, 3), (33, 1, 1)])
def test_groups_of_many_tokens(tokens: int, experts: int, k: int) -> None:
    random = np.random.default_rng(tokens)
    # Some experts are taken by most, some by none.
    scores = random.normal(size=(tokens, experts)) + 2 * random.normal(size=experts)
    chosen = np.argsort(-scores, axis=1)[:, :k].astype(np.int32)
    slots = np.where(random.random(tokens) < 0.1, -1, 1).astype(np.int32)
    check_lists(_core.cuda_ops.group_by_expert(chosen, slots, experts), chosen, slots)
