from __future__ import annotations

import numpy as np
import pytest

from motet import _core
from tests.cuda.numbers import bf16, from_bf16


@pytest.mark.parametrize("hidden", [1, 90, 2880])
def test_embed(hidden: int) -> None:
    table = bf16(np.random.default_rng(hidden).normal(size=(11, hidden)))
    ids = np.array([3, 10, 0, 3], np.int32)
    assert (_core.cuda_ops.embed(ids, table) == from_bf16(table)[ids]).all()


@pytest.mark.parametrize("half", [8, 20, 32])
def test_rotary(half: int) -> None:
    positions = np.array([0, 1, 7, 4096, 131071, 5, 100003, 64, 2, 3, 11, 31], np.int32)
    frequencies = 150000.0 ** -(np.arange(half) / half)
    cos, sin = _core.cuda_ops.rotary(positions, frequencies, 1.25)
    angles = positions[:, None] * frequencies
    assert np.abs(cos - 1.25 * np.cos(angles)).max() < 1e-7
    assert np.abs(sin - 1.25 * np.sin(angles)).max() < 1e-7


@pytest.mark.parametrize("page_bytes", [16, 4096 + 48])
def test_copy_pages(page_bytes: int) -> None:
    pages = np.random.default_rng(1).integers(0, 256, (3, 6, page_bytes), np.uint8)
    copies = np.array([[2, 0], [4, 2], [0, 5]], np.int32)  # each reads what another wrote or will
    expected = pages.copy()
    for source, target in copies:
        expected[:, target] = expected[:, source]
    assert (_core.cuda_ops.copy_pages(pages, copies) == expected).all()
