"""Matrix products of every instruction set against float64, over odd sizes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from motet import _core
from tests.reference.checkpoint_writer import bf16_bits
from tests.reference.model import bf16_values, decode_mxfp4, fixed_point

ISAS = _core.isas()
TOKENS = [1, 2, 3, 5, 64, 67, 130]
Float = npt.NDArray[np.float32]


def random_bf16(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.uint16]:
    return bf16_bits(rng.standard_normal(shape, dtype=np.float32))


def random_mxfp4(
    rng: np.random.Generator, rows: int, cols: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    blocks = rng.integers(0, 256, (rows, cols // 32, 16), dtype=np.uint8)
    return blocks, rng.integers(117, 130, (rows, cols // 32), dtype=np.uint8)


def assert_close(out: Float, x: Float, weight: npt.NDArray[np.float64], bias: Float) -> None:
    """Within a few float32 roundings of the sum of magnitudes, the most that any order can lose."""
    wide = x.astype(np.float64)
    expected = wide @ weight.T + bias
    magnitude = np.abs(wide) @ np.abs(weight).T + np.abs(bias)
    assert np.isfinite(out).all()
    assert (np.abs(out - expected) <= 4e-6 * magnitude + 1e-30).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (3, 7), (4, 8), (5, 33), (13, 515), (6, 2880)])
def test_bf16_matches_float64(isa: str, tokens: int, rows: int, cols: int) -> None:
    rng = np.random.default_rng([tokens, rows, cols])
    x = rng.standard_normal((tokens, cols), dtype=np.float32)
    weight, bias = random_bf16(rng, rows, cols), random_bf16(rng, rows)
    out = _core.ops.matmul_bf16(isa, x, weight, bias)
    assert_close(out, x, bf16_values(weight).astype(np.float64), bf16_values(bias))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize(("rows", "cols"), [(1, 32), (4, 64), (7, 480), (5, 544), (6, 2880)])
def test_mxfp4_matches_float64(isa: str, tokens: int, rows: int, cols: int) -> None:
    rng = np.random.default_rng([tokens, rows, cols])
    x = rng.standard_normal((tokens, cols), dtype=np.float32)
    (blocks, scales), bias = random_mxfp4(rng, rows, cols), random_bf16(rng, rows)
    out = _core.ops.matmul_mxfp4(isa, x, blocks, scales, bias)
    weight = decode_mxfp4(blocks, scales).reshape(rows, cols).astype(np.float64)
    assert_close(out, x, weight, bf16_values(bias))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize(
    ("rows", "cols"), [(1, 32), (4, 64), (7, 480), (5, 544), (17, 96), (6, 2880)]
)
def test_fixed_matches_float64(isa: str, tokens: int, rows: int, cols: int) -> None:
    """Against x as an independent implementation takes it to fixed point."""
    rng = np.random.default_rng([tokens, rows, cols])
    x = rng.standard_normal((tokens, cols), dtype=np.float32)
    x *= 2.0 ** rng.integers(-20, 20, (tokens, cols // 32)).repeat(32, axis=1).astype(np.float32)
    (blocks, scales), bias = random_mxfp4(rng, rows, cols), random_bf16(rng, rows)
    out = _core.ops.matmul_fixed(isa, x, blocks, scales, bias)
    weight = decode_mxfp4(blocks, scales).reshape(rows, cols).astype(np.float64)
    assert_close(out, fixed_point(x), weight, bf16_values(bias))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("tokens", [1, 3])
def test_fixed_takes_the_largest_products(isa: str, tokens: int) -> None:
    """Full integers times the largest codes, all of one sign: the block's sum does not overflow."""
    x = np.full((tokens, 128), np.nextafter(np.float32(2), np.float32(0)))
    blocks = np.full((9, 4, 16), 0x77, np.uint8)  # 6
    blocks[1::2] = 0xFF  # -6
    out = _core.ops.matmul_fixed(isa, x, blocks, np.full((9, 4), 127, np.uint8))
    expected = 128 * 6 * 2 * np.where(np.arange(9) % 2, -1, 1)
    assert np.array_equal(out, np.tile(expected.astype(np.float32), (tokens, 1)))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_fixed_passes_on_what_is_not_finite(isa: str, bad: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 96), dtype=np.float32)
    blocks, scales = random_mxfp4(rng, 5, 96)
    sound = _core.ops.matmul_fixed(isa, x, blocks, scales)
    x[1, 40] = bad
    out = _core.ops.matmul_fixed(isa, x, blocks, scales)
    assert np.isnan(out[1]).all()
    assert np.array_equal(out[[0, 2]], sound[[0, 2]])


@pytest.mark.parametrize("isa", ISAS)
def test_fixed_of_zeros_and_extremes(isa: str) -> None:
    rng = np.random.default_rng(0)
    blocks, scales = random_mxfp4(rng, 5, 64)
    x = np.zeros((3, 64), np.float32)
    x[1] = 1e-40  # subnormal: as good as nothing
    x[2] = rng.standard_normal(64) * 1e30
    out = _core.ops.matmul_fixed(isa, x, blocks, scales)
    weight = decode_mxfp4(blocks, scales).reshape(5, 64)
    assert np.array_equal(out[0], np.zeros(5))
    assert np.abs(out[1]).max() < 1e-30
    np.testing.assert_allclose(out[2], fixed_point(x[2]) @ weight.T, rtol=1e-5)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("multiply", ["matmul_mxfp4", "matmul_fixed"])
def test_mxfp4_decodes_every_code_and_scale_exactly(isa: str, multiply: str) -> None:
    """One-hot inputs read single weights; 2^-127 and its halves are subnormal.

    Scales 253 and 254 are left out: 6 * 2^126 is beyond float32.
    """
    codes = np.arange(16, dtype=np.uint8)
    row = codes[0::2] | codes[1::2] << 4
    blocks = np.tile(np.concatenate([row, row]), (253, 1, 1))  # [scales, 1, 16]: codes 0..15 twice
    scales = np.arange(253, dtype=np.uint8)[:, None]
    out = getattr(_core.ops, multiply)(isa, np.eye(32, dtype=np.float32), blocks, scales)
    e2m1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    values = np.array(e2m1 + [-v for v in e2m1], dtype=np.float64)
    expected = np.tile(values, 2)[:, None] * 2.0 ** (np.arange(253) - 127.0)[None, :]
    assert np.array_equal(out, expected.astype(np.float32))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("tokens", [2, 3, 4, 65, 129])
def test_a_token_has_the_same_bits_alone_and_in_a_batch(isa: str, tokens: int) -> None:
    """One token and several take different loops, which must add up in the same order."""
    rng = np.random.default_rng(tokens)
    x = rng.standard_normal((tokens, 1031), dtype=np.float32)
    weight = random_bf16(rng, 9, 1031)
    dense = _core.ops.matmul_bf16(isa, x, weight)
    blocks, scales = random_mxfp4(rng, 9, 1024)
    experts = _core.ops.matmul_mxfp4(isa, x[:, :1024], blocks, scales)
    fixed = _core.ops.matmul_fixed(isa, x[:, :1024], blocks, scales)
    for t in range(tokens):
        one = x[t : t + 1]
        assert np.array_equal(dense[t], _core.ops.matmul_bf16(isa, one, weight)[0])
        alone = _core.ops.matmul_mxfp4(isa, one[:, :1024], blocks, scales)[0]
        assert np.array_equal(experts[t], alone)
        alone = _core.ops.matmul_fixed(isa, one[:, :1024], blocks, scales)[0]
        assert np.array_equal(fixed[t], alone)


def test_instruction_sets_agree_bit_for_bit_on_bf16_inputs() -> None:
    """Products of bf16 numbers are exact in float32: fusing them with the sum changes nothing."""
    rng = np.random.default_rng(5)
    x = bf16_values(random_bf16(rng, 7, 1003))
    weight = random_bf16(rng, 10, 1003)
    outs = [_core.ops.matmul_bf16(isa, x, weight) for isa in ISAS]
    for out in outs[1:]:
        assert np.array_equal(outs[0], out)


def test_instruction_sets_agree_bit_for_bit_on_fixed_point() -> None:
    """A block's sum is an exact integer, and blocks are added in order everywhere."""
    rng = np.random.default_rng(6)
    x = rng.standard_normal((7, 2880), dtype=np.float32)
    blocks, scales = random_mxfp4(rng, 19, 2880)
    outs = [_core.ops.matmul_fixed(isa, x, blocks, scales) for isa in ISAS]
    for out in outs[1:]:
        assert np.array_equal(outs[0], out)
