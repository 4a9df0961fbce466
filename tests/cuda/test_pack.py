"""The layouts of csrc/cuda/kernels/pack.h, and what int8 makes of bf16 weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from motet import _core
from tests.cuda.dense_formats import FORMATS, STEP_COLUMNS, core_format
from tests.cuda.numbers import Bits, Floats, bf16, from_bf16, from_f16
from tests.reference.model import int8_weights

TILE_ROWS, BLOCK = 16, 32
SHAPES = [(16, 64), (1, 1), (17, 65), (40, 200), (33, 95)]


def rope_order(rows: int, head_dim: int) -> list[int]:
    """The rows of a matrix as they come in tiles."""
    return [
        head + i
        for head in range(0, rows, head_dim)
        for first in range(0, head_dim // 2, 8)
        for half in (0, head_dim // 2)
        for i in range(half + first, half + first + 8)
    ]


def unpack_f16(packed: npt.NDArray[np.uint8], rows: int, cols: int) -> tuple[Floats, Floats]:
    """Numbers [rows, cols] and units [rows, 1], padding included."""
    tiles, steps = -(-rows // TILE_ROWS), -(-cols // STEP_COLUMNS)
    tile_rows = packed.reshape(tiles, steps * TILE_ROWS * STEP_COLUMNS * 2 + 128)
    units = 2.0 ** (tile_rows[:, -128:][:, :TILE_ROWS].reshape(-1, 1) - 128.0)
    # row = 8 r + g and column = 32 c + 8 t + 4 h + 2 j + b, of the tile
    tile, step, c, h, g, t, j, r, b = range(9)
    bits = np.ascontiguousarray(tile_rows[:, :-128]).view(np.uint16)
    values = from_f16(bits).reshape(tiles, steps, 2, 2, 8, 4, 2, 2, 2)
    matrix = values.transpose(tile, r, g, step, c, t, h, j, b)
    return matrix.reshape(tiles * TILE_ROWS, steps * STEP_COLUMNS), units


def unpack_int8(
    packed: npt.NDArray[np.uint8], rows: int, cols: int
) -> tuple[npt.NDArray[np.int32], Floats]:
    """Integers [rows, cols] and scales [rows, cols / 32], padding included."""
    tiles, steps = -(-rows // TILE_ROWS), -(-cols // STEP_COLUMNS)
    halves = packed.reshape(tiles, steps, 2, 544)
    # row = 8 r + g and column = 32 c + 8 t + 4 h + b, of the tile
    tile, step, c, g, t, h, r, b = range(8)
    codes = halves[..., :512].reshape(tiles, steps, 2, 8, 4, 2, 2, 4)
    matrix = codes.transpose(tile, r, g, step, c, t, h, b).astype(np.int32) - 128
    tile, step, c, g, r = range(5)
    bits = np.ascontiguousarray(halves[..., 512:]).view(np.uint16).reshape(tiles, steps, 2, 8, 2)
    scales = from_bf16(bits.transpose(tile, r, g, step, c))
    return (
        matrix.reshape(tiles * TILE_ROWS, steps * STEP_COLUMNS),
        scales.reshape(tiles * TILE_ROWS, 2 * steps),
    )


def int8_values(weight: Bits, head_dim: int = 0) -> Floats:
    """What the packed weights stand for, padding included."""
    packed = _core.cuda_ops.pack(weight, core_format("int8"), head_dim)
    integers, scales = unpack_int8(packed, *weight.shape)
    assert abs(integers).max() <= 127
    return integers * scales.repeat(BLOCK, axis=1)


def f16_values(weight: Bits) -> Floats:
    """What the packed weights stand for, padding included."""
    numbers, units = unpack_f16(_core.cuda_ops.pack(weight, core_format("bf16")), *weight.shape)
    largest = abs(numbers).max(axis=1, keepdims=True)
    assert ((largest >= 2.0**15) | (units == 2.0**-128)).all()
    return numbers * units


@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_bf16(rows: int, cols: int) -> None:
    random = np.random.default_rng([rows, cols])
    powers = random.integers(-100, 120, (rows, 1)) + random.integers(-20, 1, (rows, cols))
    weight = bf16(random.normal(size=(rows, cols)) * 2.0**powers)
    found = f16_values(weight)
    np.testing.assert_array_equal(found[:rows, :cols], from_bf16(weight))
    assert not found[rows:].any()
    assert not found[:, cols:].any()


def test_bf16_of_every_exponent() -> None:
    """Numbers of 2^-32 of the row's largest and more are exact, whatever that is."""
    weight = np.zeros((256, 40), np.uint16)
    exponents = np.arange(255)
    for column, mantissa in enumerate((0x7F, 0x00, 0x55)):
        weight[:255, column] = exponents << 7 | mantissa
    for below in range(1, 33):
        weight[:255, below + 2] = 0x8000 | np.maximum(exponents - below, 0) << 7 | 0x7F - below
    found = f16_values(weight)
    np.testing.assert_array_equal(found[:256, :40], from_bf16(weight))
    assert found[:255, 0].all()
    assert not found[255].any()


def test_bf16_far_below_the_largest() -> None:
    """Rounded to even multiples of 2^-39 of the power of two below that, or exact."""
    random = np.random.default_rng(0)
    largest = 2.0 ** random.integers(-60, 100, (50, 1))
    values = random.normal(size=(50, 64)) * largest * 2.0 ** random.integers(-50, -30, (50, 64))
    values[:, :1] = largest * 1.75
    weight = bf16(values)
    step = largest * 2.0**-39
    found = f16_values(weight)[:50]
    np.testing.assert_array_equal(found, np.rint(from_bf16(weight) / step) * step)
    assert (found != from_bf16(weight)).any()


@pytest.mark.parametrize("weights", FORMATS)
@pytest.mark.parametrize("head_dim", [16, 48, 64, 128])
def test_order_for_rope(head_dim: int, weights: str) -> None:
    rows, cols = 3 * head_dim, 70
    order = rope_order(rows, head_dim)
    assert sorted(order) == list(range(rows))
    weight = bf16(np.random.default_rng(head_dim).normal(size=(rows, cols)))
    plain = _core.cuda_ops.pack(weight[order], core_format(weights))
    rope = _core.cuda_ops.pack(weight, core_format(weights), head_dim)
    np.testing.assert_array_equal(rope, plain)


@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_int8(rows: int, cols: int) -> None:
    """Each block's integers and scale are those that the CPU's int8 mode has."""
    random = np.random.default_rng([rows, cols])
    weight = bf16(random.normal(size=(rows, cols)) * 2.0 ** random.integers(-30, 30, (rows, 1)))
    found = int8_values(weight)
    np.testing.assert_array_equal(found[:rows, :cols], int8_weights(from_bf16(weight)))
    assert not found[rows:].any()
    assert not found[:, cols:].any()


def test_int8_of_numbers_that_round_to_even_and_at_the_ends_of_the_range() -> None:
    weight = np.zeros((20, 32), np.uint16)
    weight[:17, :31] = bf16(np.resize(np.arange(-127, 127.5, 0.5), (17, 31)))
    weight[:17, 31] = bf16(127)  # the scale is 1
    weight[17] = bf16(np.linspace(-3e38, 3.3e38, 32))
    weight[18] = bf16(np.linspace(-(2.0**-99), 2.0**-99, 32))
    weight[19] = bf16(np.linspace(-(2.0**-101), 2.0**-101, 32))  # as good as zeros
    found = int8_values(weight)[:20, :32]
    np.testing.assert_array_equal(found[:19], int8_weights(from_bf16(weight[:19])))
    np.testing.assert_array_equal(found[:17], np.rint(from_bf16(weight[:17])))
    assert found[18].any()
    assert not found[19].any()
