"""Attention with sinks over a paged cache, every instruction set against float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from motet import _core
from tests.reference.checkpoint_writer import bf16_bits
from tests.reference.model import bf16_values

ISAS = _core.isas()
PAGE = 32
Array = npt.NDArray[Any]


def paged(
    rng: np.random.Generator, keys: Array, values: Array, fill: float
) -> tuple[Array, Array, Array]:
    """Scatter [n, dim] keys and values over shuffled pages whose unused slots hold `fill`."""
    n, dim = keys.shape
    count = -(-n // PAGE)
    pages = rng.permutation(count + 3)[:count].astype(np.int32)
    key_pages = np.full((count + 3, dim, PAGE), fill, dtype=np.float32)
    value_pages = np.full((count + 3, PAGE, dim), fill, dtype=np.float32)
    for i in range(n):
        key_pages[pages[i // PAGE], :, i % PAGE] = keys[i]
        value_pages[pages[i // PAGE], i % PAGE] = values[i]
    return key_pages, value_pages, pages


def reference(q: Array, keys: Array, values: Array, sinks: Array, first: int, last: int) -> Array:
    q, keys, values = (a.astype(np.float64) for a in (q, keys, values))
    scores = q @ keys[first : last + 1].T / np.sqrt(q.shape[1])
    top = np.maximum(scores.max(1), sinks)
    weights = np.exp(scores - top[:, None])
    total = weights.sum(1) + np.exp(sinks - top)
    result: Array = weights @ values[first : last + 1] / total[:, None]
    return result


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("cache", ["f16", "f32"])
@pytest.mark.parametrize(
    ("heads", "dim", "first", "last"),
    [
        (8, 64, 0, 0),
        (1, 8, 0, 31),
        (3, 64, 0, 32),
        (8, 64, 5, 132),
        (17, 40, 31, 64),
        (8, 64, 0, 700),
    ],
)
def test_matches_float64(isa: str, cache: str, heads: int, dim: int, first: int, last: int) -> None:
    rng = np.random.default_rng([heads, dim, first, last])
    q = rng.standard_normal((heads, dim)).astype(np.float32) * 2
    # The end of the last page is not written yet and may hold anything.
    keys, values = (rng.standard_normal((last + 1, dim)).astype(np.float32) for _ in range(2))
    sink_bits = bf16_bits(rng.standard_normal(heads).astype(np.float32) * 3)
    scale = dim**-0.5
    if cache == "f16":
        keys, values = (a.astype(np.float16).astype(np.float32) for a in (keys, values))
    key_pages, value_pages, pages = paged(rng, keys, values, fill=6e4)
    if cache == "f16":
        out = _core.ops.attention_f16(
            isa,
            q,
            key_pages.astype(np.float16).view(np.uint16),
            value_pages.astype(np.float16).view(np.uint16),
            pages,
            sink_bits,
            first,
            last,
            scale,
        )
    else:
        out = _core.ops.attention_f32(
            isa, q, key_pages, value_pages, pages, sink_bits, first, last, scale
        )
    expected = reference(q, keys, values, bf16_values(sink_bits), first, last)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("isa", ISAS)
def test_large_logits_do_not_overflow(isa: str) -> None:
    rng = np.random.default_rng(1)
    q = rng.standard_normal((2, 64)).astype(np.float32) * 100
    keys, values = (rng.standard_normal((100, 64)).astype(np.float32) for _ in range(2))
    sinks = bf16_bits(np.array([-500, 500], dtype=np.float32))
    key_pages, value_pages, pages = paged(rng, keys, values, fill=0)
    out = _core.ops.attention_f32(isa, q, key_pages, value_pages, pages, sinks, 0, 99, 0.125)
    expected = reference(q, keys, values, bf16_values(sinks), 0, 99)
    np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-5)
