from __future__ import annotations

import numpy as np
import pytest

from motet import _core
from tests.cuda.numbers import bf16, from_bf16, from_f16, relative_error

SIZES = (2, 31, 64, 96, 333, 2880)


@pytest.mark.parametrize("size", SIZES)
def test_rms_norm(size: int) -> None:
    random = np.random.default_rng(size)
    x = random.normal(size=(5, size)).astype(np.float32) * [[1], [100], [0.01], [3], [1]]
    weight = bf16(random.normal(size=size) + 1)
    rows = np.array([4, 0, 0, 3], np.int32)
    found = from_f16(_core.cuda_ops.rms_norm(x, weight, 1e-5, rows))
    x = x.astype(np.float64)
    scale = 1 / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-5)
    expected = (x * scale * from_bf16(weight))[rows]
    assert (found[:, size:] == 0).all()
    assert relative_error(found[:, :size], expected) < 5e-4
