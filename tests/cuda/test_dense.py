"""The products outside of experts: q, k and v with RoPE and the cache, the output's projection,
logits; of bf16 weights, and of int8 ones as they are once packed."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from motet import _core
from tests.cuda.dense_formats import FORMATS, core_format, row_values, rows_for, weight_values
from tests.cuda.numbers import Bits, Floats, bf16, from_bf16, from_f16, relative_error

PAGE_TOKENS = 32
TOKENS = (1, 2, 7, 8, 9, 17, 33, 70)
F16_ULP = 2.0**-11


def shapes(num_tokens: int, weights: str) -> list[Any]:
    """Every shape of kernel that takes so many tokens and such weights."""
    if not hasattr(_core, "cuda_ops"):
        return []
    shape = _core.cuda_ops.DenseShape
    many = [shape.ROWS_32_TOKENS_32, shape.ROWS_64_TOKENS_64, shape.ROWS_128_TOKENS_128]
    if weights == "bf16" and _core.cuda_ops.has_warpgroups():
        many.append(shape.WIDE_ROWS_128_TOKENS_64)
    return [shape.ROWS_16_TOKENS_8, *many] if num_tokens <= 8 else many


class Product(NamedTuple):
    weights: str
    rows: Bits
    weight: Bits
    expected: Floats

    def logits(self, tokens: slice = slice(None), shape: Any = None) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = _core.cuda_ops.dense_lm_head(
            self.rows[tokens], self.weight, core_format(self.weights), *optional(shape)
        )
        return found


def optional(shape: Any) -> list[Any]:
    return [] if shape is None else [shape]


def product(weights: str, num_tokens: int, rows: int, cols: int) -> Product:
    random = np.random.default_rng([num_tokens, rows, cols])
    x = random.normal(size=(num_tokens, cols)).astype(np.float32)
    # Blocks of very different size: a scale that goes to another one is seen.
    powers = random.integers(-12, 12, (rows, -(-cols // 32))).repeat(32, axis=1)[:, :cols]
    weight = bf16(random.normal(size=(rows, cols)) * 2.0**powers)
    in_rows = rows_for(x)
    expected = row_values(in_rows, cols) @ weight_values(weight, weights).T
    return Product(weights, in_rows, weight, expected)


def assert_close(found: npt.NDArray[np.float32], p: Product, besides: Any = 0.0) -> None:
    """Each output is off by no more than sums of floats are that tensor cores cut off."""
    sizes = abs(row_values(p.rows, p.weight.shape[1])) @ abs(weight_values(p.weight, p.weights)).T
    assert (abs(found - p.expected - besides) <= 4e-6 * sizes + 1e-6 * abs(besides)).all()


# Rows and columns that fill no tile; fewer steps of columns than segments, and more.
@pytest.mark.parametrize("weights", FORMATS)
@pytest.mark.parametrize(
    ("num_tokens", "rows", "cols"),
    [
        *((n, 40, 200) for n in TOKENS),
        (1, 1, 1),
        (9, 1, 1),
        (5, 300, 70),
        (130, 300, 70),
        (3, 16, 1100),
        (35, 70, 1100),
    ],
)
def test_lm_head(weights: str, num_tokens: int, rows: int, cols: int) -> None:
    p = product(weights, num_tokens, rows, cols)
    found = p.logits()
    assert_close(found, p)
    for shape in shapes(num_tokens, weights):
        np.testing.assert_array_equal(p.logits(shape=shape), found, str(shape))


def test_shapes_agree_where_blocks_share_a_multiprocessor() -> None:
    """More blocks than there is room for at once, and the published width: a race may need both."""
    emulated = _core.cuda_ops.emulated
    rows, cols, num_tokens = (272, 704, 70) if emulated else (5120, 2880, 1030)
    random = np.random.default_rng(3)
    weight = bf16(random.normal(size=(rows, cols)))
    in_rows = rows_for(random.normal(size=(num_tokens, cols)).astype(np.float32))
    p = Product("bf16", in_rows, weight, np.empty(0))
    first = p.logits()
    assert np.isfinite(first).all()
    for shape in shapes(num_tokens, "bf16"):
        for _ in range(1 if emulated else 5):
            np.testing.assert_array_equal(p.logits(shape=shape), first, str(shape))


@pytest.mark.parametrize("num_tokens", [2, 33])
def test_rows_of_every_size(num_tokens: int) -> None:
    """From the smallest numbers to the largest that bf16 has, and those that are none."""
    random = np.random.default_rng(0)
    x = random.uniform(0.25, 1, size=(num_tokens, 70)).astype(np.float32)
    weight = np.zeros((256, 70), np.uint16)
    weight[:255] = np.arange(255)[:, None] << 7 | random.integers(0, 0x80, (255, 70))
    weight[0::2] |= 0x8000
    weight[253:255, 4:] = 0  # four of these numbers' sum may be a float
    p = Product("bf16", rows_for(x), weight, row_values(rows_for(x), 70) @ from_bf16(weight).T)
    largest = float(np.finfo(np.float32).max)
    for shape in shapes(num_tokens, "bf16"):
        found = p.logits(shape=shape).astype(np.float64)
        too_large = abs(p.expected) > largest
        expected = np.where(too_large, np.copysign(np.inf, p.expected), p.expected)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=2.0**-149)
        assert not found[:, 255].any()


@pytest.mark.parametrize("num_tokens", [1, 33])
def test_weights_that_are_no_numbers_stay_that(num_tokens: int) -> None:
    weight = bf16(np.ones((20, 100)))
    weight[3, 70], weight[4, 0], weight[17, 99] = bf16(np.inf), bf16(-np.inf), 0x7FC0
    weight[5, 1], weight[5, 2] = bf16(np.inf), bf16(-np.inf)
    rows = rows_for(np.ones((num_tokens, 100), np.float32))
    p = Product("bf16", rows, weight, np.empty(0))
    expected = np.full(20, 100.0)
    expected[[3, 4, 5, 17]] = [np.inf, -np.inf, np.nan, np.nan]
    for shape in shapes(num_tokens, "bf16"):
        np.testing.assert_array_equal(p.logits(shape=shape), np.tile(expected, (num_tokens, 1)))


@pytest.mark.parametrize("weights", FORMATS)
@pytest.mark.parametrize(("rows", "cols"), [(40, 200), (24, 1100)])
def test_token_has_same_logits_alone(weights: str, rows: int, cols: int) -> None:
    p = product(weights, 70, rows, cols)
    together = p.logits()
    for i in (0, 1, 31, 63, 64, 69):
        np.testing.assert_array_equal(p.logits(slice(i, i + 1))[0], together[i])


@pytest.mark.parametrize("weights", FORMATS)
@pytest.mark.parametrize("num_tokens", TOKENS)
def test_out_proj(weights: str, num_tokens: int) -> None:
    p = product(weights, num_tokens, 88, 130)
    random = np.random.default_rng(num_tokens)
    x = random.normal(size=(num_tokens, 88)).astype(np.float32)
    bias = bf16(random.normal(size=88))

    def run(tokens: slice = slice(None), shape: Any = None) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = _core.cuda_ops.dense_out_proj(
            x[tokens], p.rows[tokens], p.weight, bias, core_format(weights), *optional(shape)
        )
        return found

    found = run()
    assert_close(found, p, x + from_bf16(bias))
    for shape in shapes(num_tokens, weights):
        np.testing.assert_array_equal(run(shape=shape), found, str(shape))
    np.testing.assert_array_equal(run(slice(num_tokens - 1, None))[0], found[-1])


class QkvCase:
    """Tokens of some sequences, whose pages are anywhere in the cache."""

    def __init__(
        self,
        num_tokens: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        hidden: int,
        format: str = "bf16",
    ) -> None:
        random = np.random.default_rng([num_tokens, head_dim])
        self.head_dim, self.num_tokens, self.format = head_dim, num_tokens, format
        x = random.normal(size=(num_tokens, hidden)).astype(np.float32)
        self.rows, self.x = rows_for(x), row_values(rows_for(x), hidden)
        sizes = [n * head_dim for n in (heads, kv_heads, kv_heads)]
        self.weights = [bf16(random.normal(size=(n, hidden)) / hidden**0.5) for n in sizes]
        self.biases = [bf16(random.normal(size=n)) for n in sizes]
        angles = random.uniform(0, 100, size=(num_tokens, head_dim // 2))
        self.cos = (1.3 * np.cos(angles)).astype(np.float32)
        self.sin = (1.3 * np.sin(angles)).astype(np.float32)
        sequences, self.pages = 3, 16
        self.page_table = random.permutation(self.pages)[: 5 * sequences].reshape(3, 5)
        places = random.permutation(sequences * 5 * PAGE_TOKENS)[:num_tokens]
        self.slots, self.positions = places // (5 * PAGE_TOKENS), places % (5 * PAGE_TOKENS)
        self.slots[2::5] = -1  # padding

    def run(
        self, tokens: slice = slice(None), shape: Any = None, append: bool = True
    ) -> tuple[Bits, Bits, Bits, Any]:
        """q, keys, values, and keys and values that are not appended."""
        found: tuple[Bits, Bits, Bits, Any] = _core.cuda_ops.dense_qkv(
            self.rows[tokens],
            self.weights,
            self.biases,
            self.head_dim,
            self.cos[tokens],
            self.sin[tokens],
            self.positions[tokens],
            self.slots[tokens],
            self.page_table,
            self.pages,
            core_format(self.format),
            append,
            *optional(shape),
        )
        return found

    def expected(self) -> list[Floats]:
        """q, k and v of each token."""
        q, k, v = (
            (self.x @ weight_values(w, self.format).T + from_bf16(b)).reshape(
                self.num_tokens, -1, self.head_dim
            )
            for w, b in zip(self.weights, self.biases, strict=True)
        )
        cos, sin = self.cos[:, None].astype(np.float64), self.sin[:, None].astype(np.float64)

        def rope(x: Floats) -> Floats:
            a, b = np.split(x, 2, axis=-1)
            return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

        return [rope(q), rope(k), v]

    def cached(self, cache: Bits, i: int) -> Bits:
        """What a cache has for token i: [kv_heads, head_dim]."""
        page = self.page_table[self.slots[i], self.positions[i] // PAGE_TOKENS]
        return cache[page, :, self.positions[i] % PAGE_TOKENS]


# Half precision of a number that is off by the error of a sum of floats.
def assert_f16_close(found: Bits, expected: Floats) -> None:
    np.testing.assert_allclose(from_f16(found), expected, rtol=1.1 * F16_ULP, atol=1e-5)


@pytest.mark.parametrize("weights", FORMATS)
@pytest.mark.parametrize(
    ("num_tokens", "heads", "kv_heads", "head_dim", "hidden"),
    [
        *((n, 3, 1, 32, 100) for n in TOKENS),
        (3, 2, 2, 16, 600),
        (20, 4, 2, 48, 70),
        (6, 3, 1, 128, 64),
    ],
)
def test_qkv(
    weights: str, num_tokens: int, heads: int, kv_heads: int, head_dim: int, hidden: int
) -> None:
    case = QkvCase(num_tokens, heads, kv_heads, head_dim, hidden, weights)
    q, keys, values, _ = case.run()
    expected_q, expected_k, expected_v = case.expected()
    there = [i for i in range(num_tokens) if case.slots[i] >= 0]
    assert_f16_close(q[there], expected_q[there])
    for cache, expected in ((keys, expected_k), (values, expected_v)):
        assert_f16_close(
            np.stack([case.cached(cache, i) for i in there]), np.asarray(expected)[there]
        )
        for i in there:
            case.cached(cache, i)[:] = 0xFFFF
        assert (cache == 0xFFFF).all()  # nothing else was written
    for shape in shapes(num_tokens, weights):
        for same, found in zip(case.run(shape=shape), case.run(), strict=True):
            np.testing.assert_array_equal(same, found, str(shape))


@pytest.mark.parametrize("weights", FORMATS)
@pytest.mark.parametrize("num_tokens", [1, 9, 70])
def test_keys_and_values_that_another_kernel_appends(weights: str, num_tokens: int) -> None:
    """What is left for it is what the cache would have, before rounding."""
    case = QkvCase(num_tokens, 4, 2, 48, 70, weights)
    q, keys, values, _ = case.run()
    same_q, no_keys, no_values, kv = case.run(append=False)
    np.testing.assert_array_equal(same_q, q)
    assert (no_keys == 0xFFFF).all()
    assert (no_values == 0xFFFF).all()
    for i, (cache, expected) in enumerate(zip((keys, values), case.expected()[1:], strict=True)):
        assert relative_error(kv[:, i], expected) < 1e-5
        for token in range(num_tokens):
            if case.slots[token] >= 0:
                rounded = kv[token, i].astype(np.float16).view(np.uint16)
                np.testing.assert_array_equal(rounded, case.cached(cache, token))
    for shape in shapes(num_tokens, weights):
        for same, found in zip(case.run(append=False, shape=shape)[3], kv, strict=True):
            np.testing.assert_array_equal(same, found, str(shape))


@pytest.mark.parametrize("weights", FORMATS)
def test_token_has_same_qkv_alone(weights: str) -> None:
    case = QkvCase(70, 2, 1, 16, 200, weights)
    q, keys, values, _ = case.run()
    for i in (0, 1, 33, 64, 69):
        alone_q, alone_keys, alone_values, _ = case.run(slice(i, i + 1))
        np.testing.assert_array_equal(alone_q[0], q[i])
        np.testing.assert_array_equal(case.cached(alone_keys, i), case.cached(keys, i))
        np.testing.assert_array_equal(case.cached(alone_values, i), case.cached(values, i))


def test_qkv_saturates() -> None:
    case = QkvCase(4, 1, 1, 16, 64)
    case.biases[0][1] = bf16(np.inf)  # into NaN by RoPE, in row 9 too
    case.biases[1][:] = bf16(1e6)
    case.biases[2][3:6] = bf16([1e6, -1e6, np.nan])
    case.cos[:], case.sin[:] = 1, 0
    q, keys, values, _ = case.run()
    largest = 65504
    assert np.isfinite(from_f16(case.cached(keys, 0))).all()
    assert (from_f16(case.cached(keys, 0)) == largest).all()
    v = from_f16(case.cached(values, 0))[0]
    assert (v[3], v[4]) == (largest, -largest)
    assert np.isnan(v[5])
    assert np.isfinite(np.delete(v, 5)).all()
    assert from_f16(q)[0, 0, 1] == largest
    assert np.isnan(from_f16(q)[0, 0, 9])
