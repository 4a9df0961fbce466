"""Appending to a cache of 8-bit integers: the CPU's integers and scales, bit for bit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from motet import _core
from tests.cuda.int8_pages import PAGE, page_bytes, quantised

Floats = npt.NDArray[np.float32]


def append(kv: Floats, positions: list[int], slots: list[int], table: list[list[int]]) -> list[str]:
    """Appends, and compares all pages with what they should hold; 0xFF where nothing was put."""
    pages, kv_heads, dim = max(map(max, table)) + 2, *kv.shape[2:]
    found = _core.cuda_ops.append_int8(
        kv, np.array(positions), np.array(slots), np.array(table), pages
    )
    integers, scales = quantised(kv)
    wrong = []
    for i, name in enumerate(("keys", "values")):
        # The byte 0xFF is the integer 127.
        expected = np.full((pages, kv_heads, PAGE, dim), 127, np.int8)
        expected_scales = np.full(expected.shape[:-1], np.nan, np.float32)
        expected_scales.view(np.uint32)[:] = 0xFFFFFFFF
        for token, (position, slot) in enumerate(zip(positions, slots, strict=True)):
            if slot >= 0:
                there = table[slot][position // PAGE], slice(None), position % PAGE
                expected[there] = integers[token, i]
                expected_scales[there] = scales[token, i]
        if not np.array_equal(found[i], page_bytes(expected, expected_scales, values=i == 1)):
            wrong.append(name)
    return wrong


@pytest.mark.parametrize(
    ("tokens", "kv_heads", "dim"), [(1, 8, 64), (5, 1, 16), (7, 3, 48), (40, 2, 128), (9, 5, 80)]
)
def test_append(tokens: int, kv_heads: int, dim: int) -> None:
    random = np.random.default_rng([tokens, dim])
    kv = random.normal(size=(tokens, 2, kv_heads, dim)).astype(np.float32)
    kv *= random.uniform(0.01, 30, (tokens, 2, kv_heads, 1)).astype(np.float32)
    kv[0, 0, 0, :5] = 127, 0.5, 1.5, -2.5, -0.5  # ties
    kv[-1, 1, 0] = 0
    places = random.permutation(3 * 4 * PAGE)[:tokens]
    slots, positions = places // (4 * PAGE), places % (4 * PAGE)
    slots[2::4] = -1  # padding
    table = random.permutation(14)[:12].reshape(3, 4)
    assert append(kv, positions.tolist(), slots.tolist(), table.tolist()) == []


def test_what_is_not_finite() -> None:
    random = np.random.default_rng(5)
    kv = random.normal(size=(8, 2, 2, 32)).astype(np.float32)
    kv[0] = np.nan
    kv[1, 0, 0, 3], kv[1, 1, 1, 3], kv[2, 1, 0, 4] = np.inf, -np.inf, np.nan
    kv[3] = 1e-45  # too small for a scale
    kv[4, 0, 0] = 1e30
    assert append(kv, list(range(28, 36)), [0] * 8, [[1, 0]]) == []


def test_the_cpu_has_the_same() -> None:
    """Its own op, whose pages have keys by columns and values by tokens."""
    random = np.random.default_rng(7)
    tokens, dim = 50, 64
    kv = random.normal(size=(tokens, 2, 1, dim)).astype(np.float32) * 3
    kv[9] *= 1e7
    kv[10, :, :, 5] = np.nan
    table = np.array([[1, 0]])
    found = _core.cuda_ops.append_int8(
        kv, np.arange(tokens), np.zeros(tokens, np.int32), table, len(table[0])
    )
    for i, pages in enumerate(_core.ops.append_int8(kv[:, 0, 0], kv[:, 1, 0])):
        integers = pages[:, : PAGE * dim].view(np.int8)
        scales = np.ascontiguousarray(pages[:, PAGE * dim :]).view(np.float32)
        integers = integers.reshape((-1, PAGE, dim) if i else (-1, dim, PAGE))
        expected = (integers if i else integers.transpose(0, 2, 1)).copy()
        expected.reshape(-1, dim)[tokens:] = 127  # the byte 0xFF
        scales.view(np.uint32).reshape(-1)[tokens:] = 0xFFFFFFFF
        expected_bytes = page_bytes(expected, scales, values=i == 1)
        np.testing.assert_array_equal(found[i][table[0], 0], expected_bytes)
