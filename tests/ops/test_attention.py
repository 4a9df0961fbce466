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


@pytest.mark.parametrize("isa", ISAS)
def test_every_number_of_half_precision_is_read_exactly(isa: str) -> None:
    """One key at a time that gets all the weight: the output is its value."""
    dim = 256
    value_pages = np.arange(1 << 16, dtype=np.uint16).reshape(-1, PAGE, dim)
    key_pages = np.zeros((len(value_pages), dim, PAGE), dtype=np.uint16)
    pages = np.arange(len(value_pages), dtype=np.int32)
    q, sink = np.zeros((1, dim), dtype=np.float32), bf16_bits(np.array([-1e30], np.float32))
    for i in range(len(pages) * PAGE):
        out = _core.ops.attention_f16(isa, q, key_pages, value_pages, pages, sink, i, i, 1.0)
        values = value_pages[i // PAGE, i % PAGE].view(np.float16).astype(np.float32)
        np.testing.assert_array_equal(out[0], values)


def quantised(rows: Array) -> tuple[Array, Array]:
    """Integers and scales of rows [n, dim], as ops/kv_page.h has it."""
    scales = np.abs(rows).max(1) / np.float32(127)
    safe = np.where(scales > 0, scales, 1)[:, None]
    return np.rint(rows / safe).astype(np.int8), scales


def int8_pages(integers: Array, scales: Array) -> Array:
    """Pages [pages, ...] of int8 and float32 [pages, 32] as the bytes of a KV head."""
    flat = np.ascontiguousarray(integers).reshape(len(integers), -1).view(np.uint8)
    tail = np.ascontiguousarray(scales, dtype=np.float32).view(np.uint8)
    return np.concatenate([flat, tail], axis=1)


@pytest.mark.parametrize("isa", ISAS)
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
def test_int8_matches_float64(isa: str, heads: int, dim: int, first: int, last: int) -> None:
    rng = np.random.default_rng([heads, dim, first, last])
    q = rng.standard_normal((heads, dim)).astype(np.float32) * 2
    # Tokens of very different sizes, for scales that matter.
    keys, values = (
        rng.standard_normal((last + 1, dim), np.float32) * rng.uniform(0.1, 3, (last + 1, 1))
        for _ in range(2)
    )
    (k, k_scales), (v, v_scales) = (quantised(a.astype(np.float32)) for a in (keys, values))
    sinks = bf16_bits(rng.standard_normal(heads).astype(np.float32) * 3)
    key_pages, value_pages, pages = paged(rng, k, v, fill=-128)
    scale_pages = np.full((2, len(key_pages), PAGE), 1e30, dtype=np.float32)
    for i in range(last + 1):
        scale_pages[:, pages[i // PAGE], i % PAGE] = k_scales[i], v_scales[i]
    out = _core.ops.attention_int8(
        isa,
        q,
        int8_pages(key_pages.astype(np.int8), scale_pages[0]),
        int8_pages(value_pages.astype(np.int8), scale_pages[1]),
        pages,
        sinks,
        first,
        last,
        dim**-0.5,
    )
    expected = reference(
        q, k * k_scales[:, None], v * v_scales[:, None], bf16_values(sinks), first, last
    )
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("tokens", "dim"), [(1, 64), (33, 8), (70, 40)])
def test_appending_to_an_int8_cache(tokens: int, dim: int) -> None:
    rng = np.random.default_rng([tokens, dim])
    k, v = (rng.standard_normal((tokens, dim), np.float32) for _ in range(2))
    k[0, :4] = 127, 0.5, 1.5, -2.5  # ties
    v[-1] = 0
    keys, values = _core.ops.append_int8(k, v)
    for rows, page_bytes, shape in ((k, keys, (-1, dim, PAGE)), (v, values, (-1, PAGE, dim))):
        integers = page_bytes[:, : dim * PAGE].view(np.int8).reshape(shape)
        if shape[2] == PAGE:
            integers = integers.transpose(0, 2, 1)
        scales = page_bytes[:, dim * PAGE :].view(np.float32).reshape(-1)
        expected, expected_scales = quantised(rows)
        np.testing.assert_array_equal(scales[:tokens], expected_scales)
        np.testing.assert_array_equal(integers.reshape(-1, dim)[:tokens], expected)
        assert not scales[tokens:].any()


def test_what_is_not_finite_stays_in_its_token_of_an_int8_cache() -> None:
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((40, 16), np.float32)
    bad = rows.copy()
    bad[7] = np.nan
    bad[8, 3], bad[9, 3], bad[10, 3] = np.inf, -np.inf, np.nan
    bad[11] = 1e-45  # too small for a scale
    good_pages, bad_pages = (_core.ops.append_int8(a, a)[1] for a in (rows, bad))
    integers, scales = (
        [page[:, :512].view(np.int8).reshape(-1, 16) for page in (good_pages, bad_pages)],
        [page[:, 512:].view(np.float32).reshape(-1) for page in (good_pages, bad_pages)],
    )
    others = [i for i in range(40) if not 7 <= i <= 11]
    np.testing.assert_array_equal(integers[0][others], integers[1][others])
    np.testing.assert_array_equal(scales[0][others], scales[1][others])
    assert np.isfinite(scales[1]).all()
    assert integers[1][8, 3] == 127
    assert integers[1][9, 3] == -127
    assert integers[1][10, 3] == 0
    assert not integers[1][7].any()
    assert not integers[1][11].any()
