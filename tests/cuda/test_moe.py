from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from motet import _core
from tests.cuda.dense_formats import core_format, row_values, rows_for, weight_values
from tests.cuda.mxfp4 import dequantise
from tests.cuda.numbers import bf16, from_bf16, relative_error

Array = npt.NDArray[Any]
LIMIT = 2.5
TOKENS = (1, 2, 7, 8, 9, 17, 32, 33, 70, 128, 129)


@dataclasses.dataclass
class Experts:
    """Weights and biases as the model has them, and weights packed."""

    format: str
    gate_up: Array  # [experts, 2 * intermediate, hidden]
    gate_up_bias: Array
    down: Array  # [experts, hidden, intermediate]
    down_bias: Array
    packed_gate_up: Array
    packed_down: Array

    @property
    def size(self) -> int:
        return int(self.down.shape[0])


def biases(random: np.random.Generator, experts: int, rows: int) -> Array:
    return bf16(random.normal(size=(experts, rows)))


def mxfp4_experts(experts: int, hidden: int, intermediate: int) -> Experts:
    random = np.random.default_rng(hidden + intermediate)

    def matrices(rows: int, columns: int) -> tuple[Array, Array]:
        blocks = random.integers(0, 256, (experts, rows, columns // 32, 16), np.uint8)
        scales = random.integers(120, 126, (experts, rows, columns // 32), np.uint8)
        packed = _core.cuda_ops.pack_mxfp4(blocks, scales)
        return dequantise(blocks, scales).astype(np.float64), packed

    gate_up, packed_gate_up = matrices(2 * intermediate, hidden)
    down, packed_down = matrices(hidden, intermediate)
    b1, b2 = biases(random, experts, 2 * intermediate), biases(random, experts, hidden)
    return Experts("mxfp4", gate_up, b1, down, b2, packed_gate_up, packed_down)


def dense_experts(weights: str, experts: int, hidden: int, intermediate: int) -> Experts:
    """Of a checkpoint whose experts are bf16."""
    random = np.random.default_rng(hidden + intermediate)

    def matrices(rows: int, columns: int) -> tuple[Array, Array]:
        bits = bf16(random.normal(size=(experts, rows, columns)) / 8)
        packed = [_core.cuda_ops.pack(w, core_format(weights)) for w in bits]
        return weight_values(bits, weights), np.stack(packed)

    gate_up, packed_gate_up = matrices(2 * intermediate, hidden)
    down, packed_down = matrices(hidden, intermediate)
    b1, b2 = biases(random, experts, 2 * intermediate), biases(random, experts, hidden)
    return Experts(weights, gate_up, b1, down, b2, packed_gate_up, packed_down)


@dataclasses.dataclass
class Step:
    x: Array  # [T, hidden]
    normed: Array  # [T, stride] bit patterns
    experts: Array  # [T, k]
    weights: Array  # [T, k]
    slots: Array  # [T]

    def only(self, t: int) -> Step:
        one = slice(t, t + 1)
        return Step(
            self.x[one], self.normed[one], self.experts[one], self.weights[one], self.slots[one]
        )


def make_step(tokens: int, w: Experts, k: int, popularity: float = 1) -> Step:
    random = np.random.default_rng(tokens)
    hidden = w.down.shape[1]
    normed = rows_for(random.normal(size=(tokens, hidden)).astype(np.float32))
    # Popular experts have many tokens, others few or none.
    scores = random.normal(size=(tokens, w.size)) + popularity * random.normal(size=w.size)
    weights = random.random(size=(tokens, k)).astype(np.float32)
    slots = np.arange(tokens, dtype=np.int32)
    slots[3::5] = -1
    x = random.normal(size=(tokens, hidden)).astype(np.float32)
    chosen = np.argsort(-scores, axis=1)[:, :k].astype(np.int32)
    # Nothing of a token that is not there may be used.
    normed[slots < 0] = 0x7FFF
    weights[slots < 0] = np.nan
    chosen[slots < 0] = -(2**20)
    return Step(x, normed, chosen, weights, slots)


def run_and_norm(
    step: Step, w: Experts, norm: Any = (), eps: float = 0, kernel: str = "AUTO"
) -> tuple[Array, Array]:
    x, normed = _core.cuda_ops.moe(
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
        core_format(w.format),
        np.asarray(norm, np.uint16),
        eps,
        getattr(_core.cuda_ops.MoeKernel, kernel),
    )
    return x, normed


def run(step: Step, w: Experts, kernel: str = "AUTO") -> Array:
    return run_and_norm(step, w, kernel=kernel)[0]


def reference(step: Step, w: Experts, round_activations: bool = False) -> Array:
    """In float64; activations rounded to half precision as rows are, or not."""
    hidden = step.x.shape[1]
    rows = row_values(step.normed, hidden)
    out = step.x.astype(np.float64)
    for t in np.flatnonzero(step.slots >= 0):
        for e, weight in zip(step.experts[t], step.weights[t], strict=True):
            sums = w.gate_up[e] @ rows[t] + from_bf16(w.gate_up_bias[e])
            gate, up = np.minimum(sums[::2], LIMIT), np.clip(sums[1::2], -LIMIT, LIMIT)
            y = (up + 1) * gate / (1 + np.exp(-1.702 * gate))
            if round_activations:
                y = y.astype(np.float16).astype(np.float64)
            out[t] += weight * (w.down[e] @ y + from_bf16(w.down_bias[e]))
    return out


def check(
    step: Step, w: Experts, exact_error: float, rounded_error: float, kernel: str = "AUTO"
) -> None:
    found = run(step, w, kernel)
    there = step.slots >= 0
    assert (found[~there] == step.x[~there]).all()
    added = (found.astype(np.float64) - step.x)[there]
    assert relative_error(added, (reference(step, w) - step.x)[there]) < exact_error
    rounded = reference(step, w, round_activations=True)
    assert relative_error(added, (rounded - step.x)[there]) < rounded_error


@pytest.fixture(scope="module")
def experts() -> Experts:
    return mxfp4_experts(9, 96, 160)


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("tokens", TOKENS)
def test_mxfp4(experts: Experts, tokens: int, k: int) -> None:
    check(make_step(tokens, experts, k), experts, 1e-3, 1e-4)


@pytest.mark.parametrize("tokens", TOKENS)
def test_a_token_alone_has_the_same_bits(experts: Experts, tokens: int) -> None:
    step = make_step(tokens, experts, 4)
    together = run(step, experts)
    for t in {0, tokens // 2, tokens - 1}:
        assert (run(step.only(t), experts)[0] == together[t]).all()


@pytest.mark.parametrize("weights", ["bf16", "int8"])
@pytest.mark.parametrize(("hidden", "intermediate"), [(33, 75), (64, 64), (150, 31), (200, 136)])
@pytest.mark.parametrize("tokens", [1, 9, 33, 70])
def test_dense(weights: str, hidden: int, intermediate: int, tokens: int) -> None:
    w = dense_experts(weights, 5, hidden, intermediate)
    step = make_step(tokens, w, 3)
    check(step, w, 1e-3, 1e-4)
    assert (run(step.only(tokens - 1), w)[0] == run(step, w)[tokens - 1]).all()


@pytest.mark.parametrize("tokens", [2, 40])
@pytest.mark.parametrize(("hidden", "intermediate"), [(32, 3200), (3328, 32), (416, 544)])
def test_long_segments(hidden: int, intermediate: int, tokens: int) -> None:
    # More columns than a lane keeps in registers, and segments of unlike lengths.
    w = mxfp4_experts(2, hidden, intermediate)
    step = make_step(tokens, w, 1)
    check(step, w, 1e-3, 2e-4)
    assert (run(step.only(tokens - 1), w)[0] == run(step, w)[tokens - 1]).all()


@pytest.mark.parametrize(("hidden", "weights"), [(3072, "int8"), (3078, "bf16"), (77, "bf16")])
def test_the_next_norm_is_that_of_x(hidden: int, weights: str) -> None:
    w = dense_experts(weights, 2, hidden, 16)
    step = make_step(5, w, 2)
    norm, eps = bf16(np.random.default_rng(5).normal(size=hidden) + 1), 1e-5
    x, normed = run_and_norm(step, w, norm, eps)
    assert (x == run(step, w)).all()
    assert (normed == _core.cuda_ops.rms_norm(x, norm, eps)).all()


@pytest.mark.parametrize("weights", ["mxfp4", "bf16"])
@pytest.mark.parametrize("tokens", [33, 60, 100, 150, 290])
def test_kernels_of_many_tokens_agree(tokens: int, weights: str) -> None:
    # Experts with a few tokens and with more than a block has, rows that do not fill one.
    w = mxfp4_experts(4, 544, 160) if weights == "mxfp4" else dense_experts("bf16", 4, 544, 160)
    step = make_step(tokens, w, 2, popularity=2)
    if not _core.cuda_ops.has_warpgroups():
        pytest.skip("no products of warpgroups")
    wide = run(step, w, "WARPGROUP_MMA")
    assert (wide == run(step, w, "MMA")).all()
    assert (run(step.only(tokens - 1), w)[0] == wide[tokens - 1]).all()


def test_kernels_agree_where_blocks_share_a_multiprocessor() -> None:
    """More blocks than there is room for at once, and the published width: a race may need both."""
    if not _core.cuda_ops.has_warpgroups():
        pytest.skip("no products of warpgroups")
    emulated = _core.cuda_ops.emulated
    w = mxfp4_experts(2, 288, 416) if emulated else mxfp4_experts(4, 2880, 2880)
    step = make_step(70 if emulated else 600, w, 2)
    one = run(step, w, "MMA")
    assert np.isfinite(one).all()
    for _ in range(1 if emulated else 5):
        assert (run(step, w, "WARPGROUP_MMA") == one).all()


@pytest.mark.parametrize("kernel", ["AUTO", "MMA"])
@pytest.mark.parametrize("tokens", [32, 65, 128, 150])
def test_popular_experts(tokens: int, kernel: str) -> None:
    # Most tokens go to the same experts: several tiles of tokens each.
    w = mxfp4_experts(6, 32, 64)
    step = make_step(tokens, w, 2, popularity=10)
    counts = np.bincount(step.experts[step.slots >= 0].ravel())
    assert counts.max() > 0.7 * tokens
    check(step, w, 1e-3, 1e-4, kernel)


@pytest.mark.parametrize("tokens", [1, 20, 60])
@pytest.mark.parametrize(("hidden", "intermediate"), [(32, 704), (448, 32), (480, 288)])
def test_blocks_with_rows_of_several_experts(hidden: int, intermediate: int, tokens: int) -> None:
    # Not as many rows of tiles as blocks, or more; and odd numbers of them.
    w = mxfp4_experts(7, hidden, intermediate)
    step = make_step(tokens, w, 3)
    check(step, w, 1e-3, 2e-4)
    assert (run(step.only(tokens - 1), w)[0] == run(step, w)[tokens - 1]).all()


def test_no_token_is_there() -> None:
    w = mxfp4_experts(3, 32, 32)
    step = make_step(2, w, 2)
    step.slots[:] = -1
    step.experts[:] = -(2**20)
    assert (run(step, w) == step.x).all()


def test_one_expert_of_each_token() -> None:
    w = mxfp4_experts(1, 64, 32)
    check(make_step(5, w, 1), w, 1e-3, 1e-4)


def test_products_have_exact_weights() -> None:
    """A product with a power of two is exact, whatever the scale, and has nothing of others."""
    scales = np.arange(0, 240, dtype=np.uint8).reshape(1, 240, 1)
    codes = np.arange(16, dtype=np.uint8)
    blocks = np.broadcast_to(codes | codes[::-1] << 4, (1, 240, 1, 16))
    weights = dequantise(blocks, scales)[0]
    # Gate 16 and up 0 for activation `column`, that is 16, since its sigmoid rounds to 1.
    for tokens in (1, 33):
        for column in (0, 5, 31):
            bias = np.zeros((1, 64), np.uint16)
            bias[0, 2 * column] = bf16(16)
            found, _ = _core.cuda_ops.moe(
                np.zeros((tokens, 240), np.float32),
                np.zeros((tokens, 256), np.uint16),
                np.zeros((tokens, 1), np.int32),
                np.ones((tokens, 1), np.float32),
                np.zeros(tokens, np.int32),
                _core.cuda_ops.pack_mxfp4(
                    np.zeros((1, 64, 8, 16), np.uint8), np.zeros((1, 64, 8), np.uint8)
                ),
                bias,
                _core.cuda_ops.pack_mxfp4(blocks, scales),
                np.zeros((1, 240), np.uint16),
                16.0,
                core_format("mxfp4"),
            )
            assert (found == 16 * weights[:, column]).all()
