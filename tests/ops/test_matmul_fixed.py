"""Fixed-point products of every instruction set against float64, over odd sizes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from motet import _core
from tests.ops.test_matmul import TOKENS, assert_close, random_bf16, random_mxfp4
from tests.reference.model import (
    bf16_values,
    decode_mxfp4,
    fixed_exponents,
    fixed_point,
)

ISAS = _core.isas()
FORMATS = ["bf16", "mxfp4"]
Array = npt.NDArray[np.float32]


def block_scales(weight: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """E8M0 of each 32 columns as integers."""
    values = bf16_values(np.pad(weight, [(0, 0), (0, -weight.shape[1] % 32)])).astype(np.float64)
    exponents = fixed_exponents(values.reshape(len(weight), -1, 32))[..., 0]
    return np.maximum(exponents + 127, 1).astype(np.uint8)


class Matrix:
    """Random weights of a format: what the kernel multiplies by, and its value in float64."""

    def __init__(self, rng: np.random.Generator, weights: str, rows: int, cols: int) -> None:
        self.multiply: Callable[..., Array]
        if weights == "mxfp4":
            self.tensors = random_mxfp4(rng, rows, cols)
            self.value = decode_mxfp4(*self.tensors).reshape(rows, cols).astype(np.float64)
            self.multiply = _core.ops.matmul_fixed_mxfp4
        else:
            bits = random_bf16(rng, rows, cols)
            self.tensors = (bits, block_scales(bits))
            self.value = fixed_point(bf16_values(bits))
            self.multiply = _core.ops.matmul_fixed_bf16

    def product(self, isa: str, x: Array, bias: npt.NDArray[np.uint16] | None = None) -> Array:
        return self.multiply(isa, x, *self.tensors, bias)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("tokens", [*TOKENS, 4, 7, 300])
@pytest.mark.parametrize(
    ("weights", "rows", "cols"),
    [("mxfp4", *shape) for shape in [(1, 32), (4, 64), (7, 480), (5, 544), (17, 96), (35, 2880)]]
    + [("bf16", *shape) for shape in [(1, 1), (3, 7), (16, 33), (5, 120), (49, 80), (35, 2880)]],
)
def test_matches_float64(isa: str, tokens: int, weights: str, rows: int, cols: int) -> None:
    """Against x, and bf16 weights, as an independent implementation takes them to fixed point."""
    rng = np.random.default_rng([tokens, rows, cols])
    x = rng.standard_normal((tokens, cols), dtype=np.float32)
    powers = rng.integers(-20, 20, (tokens, -(-cols // 32))).repeat(32, axis=1)[:, :cols]
    x *= 2.0 ** powers.astype(np.float32)
    matrix, bias = Matrix(rng, weights, rows, cols), random_bf16(rng, rows)
    out = matrix.product(isa, x, bias)
    assert_close(out, fixed_point(x), matrix.value, bf16_values(bias))


def test_bf16_weights_are_exact_down_to_a_64th_of_the_largest() -> None:
    """Normal numbers are halved once at most; a 16th of the largest is exact in any case."""
    rng = np.random.default_rng(0)
    bits = random_bf16(rng, 64, 256)
    values = bf16_values(bits).astype(np.float64)
    blocks = np.abs(values).reshape(64, 8, 32)
    near = (blocks >= blocks.max(-1, keepdims=True) / 64).reshape(64, 256)
    assert 0.9 < near.mean() < 1
    off = np.abs(fixed_point(values) - values)
    assert (off[near] == 0).all()
    assert (off.reshape(64, 8, 32) <= blocks.max(-1, keepdims=True) * 2.0**-14).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("tokens", [1, 3, 9])
def test_the_largest_products_do_not_overflow(isa: str, tokens: int) -> None:
    """Full integers times the largest weights, all of one sign in a row."""
    x = np.full((tokens, 128), np.nextafter(np.float32(2), np.float32(0)))
    sign = np.where(np.arange(9) % 2, -1.0, 1.0)
    blocks = np.full((9, 4, 16), 0x77, np.uint8)  # 6
    blocks[1::2] = 0xFF  # -6
    out = _core.ops.matmul_fixed_mxfp4(isa, x, blocks, np.full((9, 4), 127, np.uint8))
    assert np.array_equal(out, np.tile((128 * 6 * 2 * sign).astype(np.float32), (tokens, 1)))
    bits = np.full((9, 128), 0x3FFF, np.uint16)  # 255/128, all bits of the significand
    bits[1::2] |= 0x8000
    out = _core.ops.matmul_fixed_bf16(isa, x, bits, block_scales(bits))
    assert np.array_equal(
        out, np.tile((128 * 2 * 255 / 128 * sign).astype(np.float32), (tokens, 1))
    )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("stride", [1, 2, 4, 8])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 8, 15, 32])
def test_blocks_with_a_few_full_integers_do_not_overflow(isa: str, stride: int, count: int) -> None:
    """Wherever they lie, so that those a kernel adds up first are among them."""
    at = [stride * i % 32 + stride * i // 32 for i in range(count)]
    x = np.zeros((1, 128), np.float32)
    x[0, at] = np.nextafter(np.float32(2), np.float32(0))
    bits = np.zeros((3, 128), np.uint16)
    bits[0, at], bits[1, at] = 0x3FFF, 0xBFFF
    out = _core.ops.matmul_fixed_bf16(isa, x, bits, block_scales(bits))
    expected = fixed_point(x) @ fixed_point(bf16_values(bits)).T
    np.testing.assert_allclose(out, expected, rtol=1e-6)


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
    assert np.array_equal(out[0], np.zeros(5))
    assert np.abs(out[1]).max() < 1e-30
    expected = fixed_point(x[2]) @ matrix.value.T
    np.testing.assert_allclose(out[2], expected, rtol=1e-5)


@pytest.mark.parametrize("isa", ISAS)
def test_zero_and_tiny_bf16_weights(isa: str) -> None:
    bits = np.zeros((3, 64), np.uint16)
    bits[1] = 0x0001  # subnormal: as good as nothing
    bits[2] = 0x0080  # 2^-126, the smallest normal number
    out = _core.ops.matmul_fixed_bf16(isa, np.full((1, 64), 2.0**60), bits, block_scales(bits))[0]
    assert out[0] == 0
    assert abs(out[1]) <= 64 * 2.0**-66
    assert out[2] == 64 * 2.0**-66


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("weights", FORMATS)
@pytest.mark.parametrize("tokens", [2, 3, 4, 7, 8, 9, 65, 129, 260])
def test_a_token_has_the_same_bits_alone_and_in_a_batch(
    isa: str, weights: str, tokens: int
) -> None:
    """One token and several take different loops, which must add up in the same order."""
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
    """A block's sum is an exact integer, and blocks are added in order everywhere."""
    rng = np.random.default_rng(6)
    x = rng.standard_normal((tokens, cols), dtype=np.float32)
    matrix = Matrix(rng, weights, 19, cols)
    outs = [matrix.product(isa, x) for isa in ISAS]
    for out in outs[1:]:
        assert np.array_equal(outs[0], out)
