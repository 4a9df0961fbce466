"""Matrix products of every instruction set against float64, over odd sizes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from motet import _core
from tests.reference.checkpoint_writer import bf16_bits
from tests.reference.model import bf16_values, decode_mxfp4

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
@pytest.mark.parametrize("multiply", ["matmul_mxfp4", "matmul_fixed_mxfp4"])
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
    for t in range(tokens):
        one = x[t : t + 1]
        assert np.array_equal(dense[t], _core.ops.matmul_bf16(isa, one, weight)[0])
        alone = _core.ops.matmul_mxfp4(isa, one[:, :1024], blocks, scales)[0]
        assert np.array_equal(experts[t], alone)


def test_instruction_sets_agree_bit_for_bit_on_bf16_inputs() -> None:
    """Products of bf16 numbers are exact in float32: fusing them with the sum changes nothing."""
    rng = np.random.default_rng(5)
    x = bf16_values(random_bf16(rng, 7, 1003))
    weight = random_bf16(rng, 10, 1003)
    outs = [_core.ops.matmul_bf16(isa, x, weight) for isa in ISAS]
    for out in outs[1:]:
        assert np.array_equal(outs[0], out)
