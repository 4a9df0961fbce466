from __future__ import annotations

import numpy as np
import pytest

from motet import _core
from tests.cuda.mxfp4 import dequantise

SHAPES = ((1, 16, 64), (2, 32, 128), (3, 5, 32), (1, 37, 160))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_weight_comes_back(shape: tuple[int, int, int]) -> None:
    count, rows, columns = shape
    random = np.random.default_rng(rows)
    blocks = random.integers(0, 256, (count, rows, columns // 32, 16), np.uint8)
    # Scales of a row that lie up to 2^24 apart, which is what f16 can hold.
    largest = random.integers(24, 255, (count, rows, 1))
    scales = (largest - random.integers(0, 25, (count, rows, columns // 32))).astype(np.uint8)
    # Blocks of zeros may have any scale.
    nothing = random.random(scales.shape) < 0.2
    blocks[nothing] &= 0x88
    scales[nothing] = random.integers(0, 255, np.count_nonzero(nothing))
    packed = _core.cuda_ops.pack_mxfp4(blocks, scales)
    for i in range(count):
        found = _core.cuda_ops.unpack_mxfp4(packed[i], rows, columns)
        expected = dequantise(blocks[i], scales[i])
        zeros = expected == 0
        assert (found[zeros] == 0).all()
        assert (found[~zeros].view(np.uint32) == expected[~zeros].view(np.uint32)).all()


def test_weights_far_below_the_largest_of_their_row() -> None:
    """They are rounded to what f16 can hold beside the row's largest scale."""
    random = np.random.default_rng(0)
    blocks = random.integers(0, 256, (1, 64, 6, 16), np.uint8)
    scales = random.integers(60, 180, (1, 64, 6), np.uint8)
    packed = _core.cuda_ops.pack_mxfp4(blocks, scales)
    found = _core.cuda_ops.unpack_mxfp4(packed[0], 64, 192).astype(np.float64)
    unit = np.ldexp(1.0, scales[0].max(axis=1).astype(int)[:, None] - 127 - 25)
    error = np.abs(found - dequantise(blocks[0], scales[0]))
    assert (error <= unit / 2).all()
    assert (error > unit / 4).any()


def test_every_code_and_scale() -> None:
    # Row s has scale s; the 32 columns of a block have each code twice, at even and odd columns.
    codes = np.arange(16, dtype=np.uint8)
    blocks = np.broadcast_to(codes | codes[::-1] << 4, (1, 255, 1, 16))
    scales = np.arange(255, dtype=np.uint8).reshape(1, 255, 1)
    packed = _core.cuda_ops.pack_mxfp4(blocks, scales)
    found = _core.cuda_ops.unpack_mxfp4(packed[0], 255, 32)
    expected = dequantise(blocks[0], scales[0])
    assert np.isinf(expected[254]).any()
    assert (found.view(np.uint32) == expected.view(np.uint32)).all()
