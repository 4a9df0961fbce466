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
    scales = random.integers(0, 255, (count, rows, columns // 32), np.uint8)
    packed = _core.cuda_ops.pack_mxfp4(blocks, scales)
    for i in range(count):
        found = _core.cuda_ops.unpack_mxfp4(packed[i], rows, columns)
        expected = dequantise(blocks[i], scales[i])
        assert (found.view(np.uint32) == expected.view(np.uint32)).all()


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
