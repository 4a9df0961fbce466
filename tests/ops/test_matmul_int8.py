"""Products of 8-bit integers of every instruction set against float64, over odd sizes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from motet import _core
from tests.ops.test_matmul import TOKENS, assert_close, random_bf16, random_mxfp4
from tests.reference.model import bf16_values, decode_mxfp4, int8_values, int8_weights

ISAS = _core.isas()
FORMATS = ["bf16", "mxfp4"]
Array = npt.NDArray[np.float32]


class Matrix:
    """Random weights as a checkpoint has them, and in float64 what int8 mode makes of them."""

    def __init__(self, rng: np.random.Generator, weights: str, rows: int, cols: int) -> None:
        self.weights = weights
        if weights == "mxfp4":
            self.blocks, self.scales = random_mxfp4(rng, rows, cols)
            self.value = decode_mxfp4(self.blocks, self.scales).reshape(rows, cols)
        else:
            bits = random_bf16(rng, rows, cols)
            self.packed = _core.ops.Int8Weights(bits)
            self.value = int8_weights(bf16_values(bits))

    def product(self, isa: str, x: Array, bias: npt.NDArray[np.uint16] | None = None) -> Array:
        if self.weights == "mxfp4":
            return _core.ops.matmul_int8_mxfp4(isa, x, self.blocks, self.scales, bias)
        return _core.ops.matmul_int8(isa, x, self.packed, bias)


def near_tie(x: Array) -> npt.NDArray[np.bool_]:
    """Where float32 arithmetic may round to the other of two integers."""
    blocks = np.pad(x, [(0, 0), (0, -x.shape[1] % 32)]).reshape(len(x), -1, 32)
    steps = blocks / (np.abs(blocks).max(-1, keepdims=True) / 127)
    return (np.abs(np.abs(steps) % 1 - 0.5) < 1e-4).reshape(len(x), -1)[:, : x.shape[1]]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("tokens", [*TOKENS, 7, 300])
@pytest.mark.parametrize(
    ("weights", "rows", "cols"),
    [("mxfp4", *shape) for shape in [(1, 32), (4, 64), (7, 480), (5, 544), (17, 96), (35, 2880)]]
    + [("bf16", *shape) for shape in [(1, 1), (3, 7), (16, 33), (5, 120), (49, 80), (35, 2880)]],
)
def test_matches_float64(isa: str, tokens: int, weights: str, rows: int, cols: int) -> None:
    """Against x and dense weights as an independent implementation takes them to 8 bits."""
    rng = np.random.default_rng([tokens, rows, cols])
    x = rng.standard_normal((tokens, cols), dtype=np.float32)
    powers = rng.integers(-20, 20, (tokens, -(-cols // 32))).repeat(32, axis=1)[:, :cols]
    x *= 2.0 ** powers.astype(np.float32)
    x[near_tie(x)] = 0
    matrix, bias = Matrix(rng, weights, rows, cols), random_bf16(rng, rows)
    out = matrix.product(isa, x, bias)
    assert_close(out, int8_values(x), matrix.value, bf16_values(bias))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("tokens", [1, 6, 9])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_products_do_not_overflow(isa: str, tokens: int, sign: int) -> None:
    x = np.full((tokens, 128), sign * 127, np.float32)
    x[:, 64:] *= -1
    blocks = np.full((9, 4, 16), 0x77, np.uint8)  # 6
    blocks[:, 2:] = 0xFF  # -6
    out = _core.ops.matmul_int8_mxfp4(isa, x, blocks, np.full((9, 4), 127, np.uint8))
    assert np.array_equal(out, np.full((tokens, 9), sign * 128 * 127 * 6, np.float32))
    bits = np.full((17, 128), 0x42FE, np.uint16)  # 127
    bits[:, 64:] |= 0x8000
    out = _core.ops.matmul_int8(isa, x, _core.ops.Int8Weights(bits))
    assert np.array_equal(out, np.full((tokens, 17), sign * 128 * 127 * 127, np.float32))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("weights", FORMATS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_passed_on(isa: str, weights: str, bad: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 96), dtype=np.float32)
    matrix = Matrix(rng, weights, 5, 96)
    sound = matrix.product(isa, x)
    x[1, 40] = bad
    out = matrix.product(isa, x)
    assert np.isnan(out[1]).all()
    assert np.array_equal(out[[0, 2]], sound[[0, 2]])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("weights", FORMATS)
def test_zeros_and_extremes(isa: str, weights: str) -> None:
    rng = np.random.default_rng(0)
    matrix = Matrix(rng, weights, 5, 64)
    x = np.zeros((3, 64), np.float32)
    x[1] = 1e-40  # subnormal: as good as nothing
    x[2] = rng.standard_normal(64) * 1e30
    out = matrix.product(isa, x)
    assert np.array_equal(out[:2], np.zeros((2, 5)))
    expected = int8_values(x[2]) @ matrix.value.T
    np.testing.assert_allclose(out[2], expected, rtol=1e-5)


@pytest.mark.parametrize("isa", ISAS)
def test_zero_and_tiny_weights(isa: str) -> None:
    bits = np.zeros((3, 64), np.uint16)
    bits[1] = 0x0001  # subnormal: as good as nothing
    bits[2, ::2] = 0x1000  # 2^-95
    out = _core.ops.matmul_int8(isa, np.full((1, 64), 2.0**60), _core.ops.Int8Weights(bits))[0]
    assert out[0] == out[1] == 0
    assert out[2] == pytest.approx(32 * 2.0**-35, rel=2**-7)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("weights", FORMATS)
@pytest.mark.parametrize("tokens", [2, 3, 4, 7, 8, 9, 65, 129, 260])
def test_a_token_has_the_same_bits_alone_and_in_a_batch(
    isa: str, weights: str, tokens: int
) -> None:
    rng = np.random.default_rng(tokens)
    x = rng.standard_normal((tokens, 992), dtype=np.float32)
    matrix = Matrix(rng, weights, 85, 992)
    together = matrix.product(isa, x)
    for t in range(tokens):
        assert np.array_equal(together[t], matrix.product(isa, x[t : t + 1])[0])


@pytest.mark.parametrize("weights", FORMATS)
@pytest.mark.parametrize("cols", [160, 2880])
@pytest.mark.parametrize("tokens", [7, 40])
def test_instruction_sets_agree_bit_for_bit(weights: str, cols: int, tokens: int) -> None:
    """A block's sum is an exact integer, and blocks are added in order everywhere.

    Plain C++ has no fused multiply-add, which tells where scales are not powers of two.
    """
    rng = np.random.default_rng(6)
    x = rng.standard_normal((tokens, cols), dtype=np.float32)
    matrix = Matrix(rng, weights, 19, cols)
    isas = [isa for isa in ISAS if weights == "mxfp4" or isa != "portable"]
    outs = [matrix.product(isa, x) for isa in isas]
    for out in outs[1:]:
        assert np.array_equal(outs[0], out)
