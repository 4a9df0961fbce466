from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from motet import _core
from tests.cuda.mxfp4 import dequantise
from tests.cuda.numbers import bf16, from_bf16, from_f16, relative_error

Array = npt.NDArray[Any]
LIMIT = 2.5
TOKENS = (1, 2, 7, 8, 9, 17, 33, 70)


@dataclasses.dataclass
class Experts:
    """Weights and biases as the model has them, and weights packed."""

    gate_up: Array  # [experts, 2 * intermediate, hidden]
    gate_up_bias: Array
    down: Array  # [experts, hidden, intermediate]
    down_bias: Array
    packed_gate_up: Array
    packed_down: Array

    @property
    def size(self) -> int:
        return int(self.down.shape[0])


def mxfp4_experts(experts: int, hidden: int, intermediate: int) -> Experts:
    random = np.random.default_rng(hidden + intermediate)

    def matrices(rows: int, columns: int) -> tuple[Array, Array]:
        blocks = random.integers(0, 256, (experts, rows, columns // 32, 16), np.uint8)
        scales = random.integers(120, 126, (experts, rows, columns // 32), np.uint8)
        packed = _core.cuda_ops.pack_mxfp4(blocks, scales)
        return dequantise(blocks, scales).astype(np.float64), packed

    gate_up, packed_gate_up = matrices(2 * intermediate, hidden)
    down, packed_down = matrices(hidden, intermediate)
    return Experts(
        gate_up,
        bf16(random.normal(size=(experts, 2 * intermediate))),
        down,
        bf16(random.normal(size=(experts, hidden))),
        packed_gate_up,
        packed_down,
    )


@dataclasses.dataclass
class Step:
    x: Array  # [T, hidden]
    normed: Array  # [1 or 2, T, stride] bit patterns
    experts: Array  # [T, k]
    weights: Array  # [T, k]
    slots: Array  # [T]

    def only(self, t: int) -> Step:
        one = slice(t, t + 1)
        return Step(
            self.x[one], self.normed[:, one], self.experts[one], self.weights[one], self.slots[one]
        )


def make_step(tokens: int, hidden: int, experts: int, k: int, split: bool) -> Step:
    random = np.random.default_rng(tokens)
    stride = (hidden + 63) // 64 * 64
    normed = np.zeros((2 if split else 1, tokens, stride), np.uint16)
    values = random.normal(size=(tokens, hidden)).astype(np.float32)
    if split:
        normed[0, :, :hidden] = bf16(values)
        normed[1, :, :hidden] = bf16(values - from_bf16(bf16(values)))
    else:
        normed[0, :, :hidden] = values.astype(np.float16).view(np.uint16)
    # Popular experts have many tokens, others few or none.
    scores = random.normal(size=(tokens, experts)) + random.normal(size=experts)
    weights = random.random(size=(tokens, k)).astype(np.float32)
    slots = np.arange(tokens, dtype=np.int32)
    slots[3::5] = -1
    x = random.normal(size=(tokens, hidden)).astype(np.float32)
    chosen = np.argsort(-scores, axis=1)[:, :k].astype(np.int32)
    return Step(x, normed, chosen, weights, slots)


def run(step: Step, w: Experts) -> Array:
    return np.asarray(
        _core.cuda_ops.moe(
            step.x,
            step.normed,
            step.experts,
            step.weights,
            step.slots,
            w.packed_gate_up,
            w.gate_up_bias,
            w.packed_down,
            w.down_bias,
            LIMIT,
        )
    )


def reference(step: Step, w: Experts, round_activations: bool) -> Array:
    """In float64; activations rounded to f16 as rows of that format are, or not."""
    hidden = step.x.shape[1]
    if len(step.normed) == 2:
        rows = from_bf16(step.normed[0]) + from_bf16(step.normed[1])
    else:
        rows = from_f16(step.normed[0])
    out = step.x.astype(np.float64)
    for t in np.flatnonzero(step.slots >= 0):
        for e, weight in zip(step.experts[t], step.weights[t], strict=True):
            sums = w.gate_up[e] @ rows[t, :hidden] + from_bf16(w.gate_up_bias[e])
            gate, up = np.minimum(sums[::2], LIMIT), np.clip(sums[1::2], -LIMIT, LIMIT)
            y = (up + 1) * gate / (1 + np.exp(-1.702 * gate))
            if round_activations:
                y = y.astype(np.float16).astype(np.float64)
            out[t] += weight * (w.down[e] @ y + from_bf16(w.down_bias[e]))
    return out


@pytest.fixture(scope="module")
def experts() -> Experts:
    return mxfp4_experts(9, 96, 160)


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("tokens", TOKENS)
def test_mxfp4(experts: Experts, tokens: int, k: int) -> None:
    step = make_step(tokens, 96, experts.size, k, split=False)
    found = run(step, experts)
    there = step.slots >= 0
    assert (found[~there] == step.x[~there]).all()
    added = found.astype(np.float64) - step.x
    exact = reference(step, experts, round_activations=False) - step.x
    rounded = reference(step, experts, round_activations=True) - step.x
    assert relative_error(added[there], exact[there]) < 1e-3
    assert relative_error(added[there], rounded[there]) < 1e-4


@pytest.mark.parametrize("tokens", TOKENS)
def test_a_token_alone_has_the_same_bits(experts: Experts, tokens: int) -> None:
    step = make_step(tokens, 96, experts.size, 4, split=False)
    together = run(step, experts)
    for t in {0, tokens // 2, tokens - 1}:
        assert (run(step.only(t), experts)[0] == together[t]).all()
