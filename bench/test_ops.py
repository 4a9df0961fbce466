"""Single kernels on one thread, at gpt-oss-20b's widths: `pytest bench`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bench.conftest import Measure
from motet import _core

ISAS = _core.isas()
HIDDEN = 2880
HEADS, HEAD_DIM, PAGE = 8, 64, 32  # query heads of one KV head; keys of a page of the cache
VOCAB = 201088
Array = npt.NDArray[Any]


def bf16(rng: np.random.Generator, *shape: int) -> Array:
    """Random normal values as bf16 bits, rounded towards zero."""
    bits = rng.standard_normal(shape, dtype=np.float32).view(np.uint32)
    return (bits >> 16).astype(np.uint16)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("tokens", "rows"), [(1, 24576), (8, 8192), (64, 2880)])
def test_matmul_bf16(
    measure: Measure, rng: np.random.Generator, isa: str, tokens: int, rows: int
) -> None:
    """For one token 142 MB of weights, more than any cache holds, as lm_head has."""
    weight = bf16(rng, rows, HIDDEN)
    x = rng.standard_normal((tokens, HIDDEN), dtype=np.float32)
    measure(
        lambda: _core.ops.matmul_bf16(isa, x, weight),
        bytes=weight.nbytes + x.nbytes + 4 * tokens * rows,
        flops=2 * tokens * rows * HIDDEN,
    )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("tokens", "rows"), [(1, 24576), (8, 8192), (64, 2880)])
def test_matmul_fixed_bf16(
    measure: Measure, rng: np.random.Generator, isa: str, tokens: int, rows: int
) -> None:
    weight = bf16(rng, rows, HIDDEN)
    exponents = (weight.reshape(rows, -1, 32) & 0x7FFF).max(-1) >> 7
    scales = (exponents - 13).astype(np.uint8)  # a norm far below what asks for halving
    x = rng.standard_normal((tokens, HIDDEN), dtype=np.float32)
    measure(
        lambda: _core.ops.matmul_fixed_bf16(isa, x, weight, scales),
        bytes=weight.nbytes + scales.nbytes + x.nbytes + 4 * tokens * rows,
        flops=2 * tokens * rows * HIDDEN,
    )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("tokens", "rows"), [(1, 46080), (8, 11520), (64, 2880)])
def test_matmul_mxfp4(
    measure: Measure, rng: np.random.Generator, isa: str, tokens: int, rows: int
) -> None:
    """For one token eight experts of 5760 rows, 70 MB."""
    blocks = rng.integers(0, 256, (rows, HIDDEN // 32, 16), dtype=np.uint8)
    scales = rng.integers(117, 130, (rows, HIDDEN // 32), dtype=np.uint8)
    x = rng.standard_normal((tokens, HIDDEN), dtype=np.float32)
    measure(
        lambda: _core.ops.matmul_fixed_mxfp4(isa, x, blocks, scales),
        bytes=blocks.nbytes + scales.nbytes + x.nbytes + 4 * tokens * rows,
        flops=2 * tokens * rows * HIDDEN,
    )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("tokens", "rows"), [(1, 24576), (8, 8192), (64, 2880)])
def test_matmul_int8(
    measure: Measure, rng: np.random.Generator, isa: str, tokens: int, rows: int
) -> None:
    """Dense weights as int8 mode packs them, a scale of 16 bits for 32."""
    weight = _core.ops.Int8Weights(bf16(rng, rows, HIDDEN))
    x = rng.standard_normal((tokens, HIDDEN), dtype=np.float32)
    measure(
        lambda: _core.ops.matmul_int8(isa, x, weight),
        bytes=rows * HIDDEN * 34 // 32 + x.nbytes + 4 * tokens * rows,
        flops=2 * tokens * rows * HIDDEN,
    )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("tokens", "rows"), [(1, 46080), (8, 11520), (64, 2880)])
def test_matmul_int8_mxfp4(
    measure: Measure, rng: np.random.Generator, isa: str, tokens: int, rows: int
) -> None:
    blocks = rng.integers(0, 256, (rows, HIDDEN // 32, 16), dtype=np.uint8)
    scales = rng.integers(117, 130, (rows, HIDDEN // 32), dtype=np.uint8)
    x = rng.standard_normal((tokens, HIDDEN), dtype=np.float32)
    measure(
        lambda: _core.ops.matmul_int8_mxfp4(isa, x, blocks, scales),
        bytes=blocks.nbytes + scales.nbytes + x.nbytes + 4 * tokens * rows,
        flops=2 * tokens * rows * HIDDEN,
    )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    ("cache", "keys"), [("f16", 128), ("f16", 8192), ("f16", 131072), ("f32", 8192)]
)
def test_attention(
    measure: Measure, rng: np.random.Generator, isa: str, cache: str, keys: int
) -> None:
    """One token, one KV head: the sliding window, and a full layer at two context lengths."""
    n_pages = keys // PAGE
    key_pages, value_pages = (
        rng.standard_normal(shape, np.float32)
        for shape in ((n_pages, HEAD_DIM, PAGE), (n_pages, PAGE, HEAD_DIM))
    )
    attention = _core.ops.attention_f32
    if cache == "f16":
        key_pages, value_pages = (
            a.astype(np.float16).view(np.uint16) for a in (key_pages, value_pages)
        )
        attention = _core.ops.attention_f16
    pages = rng.permutation(n_pages).astype(np.int32)
    q, sinks = rng.standard_normal((HEADS, HEAD_DIM), dtype=np.float32), bf16(rng, HEADS)
    measure(
        lambda: attention(
            isa, q, key_pages, value_pages, pages, sinks, 0, keys - 1, HEAD_DIM**-0.5
        ),
        bytes=key_pages.nbytes + value_pages.nbytes,
        flops=4 * HEADS * HEAD_DIM * keys,
    )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("keys", [128, 8192, 131072])
def test_attention_int8(measure: Measure, rng: np.random.Generator, isa: str, keys: int) -> None:
    k, v = (rng.standard_normal((keys, HEAD_DIM), np.float32) for _ in range(2))
    key_pages, value_pages = _core.ops.append_int8(k, v)
    pages = rng.permutation(keys // PAGE).astype(np.int32)
    q, sinks = rng.standard_normal((HEADS, HEAD_DIM), dtype=np.float32), bf16(rng, HEADS)
    measure(
        lambda: _core.ops.attention_int8(
            isa, q, key_pages, value_pages, pages, sinks, 0, keys - 1, HEAD_DIM**-0.5
        ),
        bytes=key_pages.nbytes + value_pages.nbytes,
        flops=4 * HEADS * HEAD_DIM * keys,
    )


@pytest.mark.parametrize("isa", ISAS)
def test_rms_norm(measure: Measure, rng: np.random.Generator, isa: str) -> None:
    """One token: in cache, and mostly the cost of the call from Python."""
    x = rng.standard_normal(HIDDEN, dtype=np.float32)
    weight = bf16(rng, HIDDEN)
    measure(
        lambda: _core.ops.rms_norm(isa, x, weight, 1e-5),
        bytes=2 * x.nbytes + weight.nbytes,
        flops=4 * x.size,
    )


SAMPLING: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "greedy+logprobs": {"temperature": 0.0, "logprobs": 20},
    "temperature": {"temperature": 0.8},
    "top_p": {"temperature": 0.8, "top_p": 0.95},
    "top_k": {"top_k": 50},
    "min_p": {"min_p": 0.05},
    "penalties": {"temperature": 0.0, "presence_penalty": 0.5, "repetition_penalty": 1.1},
}


@pytest.mark.parametrize("peaked", [False, True], ids=["flat", "peaked"])
@pytest.mark.parametrize("name", SAMPLING)
def test_sample(measure: Measure, rng: np.random.Generator, name: str, peaked: bool) -> None:
    """A row of logits, which is read once at least; `penalties` over a history of 1000 tokens."""
    logits = rng.normal(0, 2.5, VOCAB).astype(np.float32)
    if peaked:  # as a sure model's: a few tokens hold nearly everything
        logits[rng.integers(0, VOCAB, 50)] += rng.uniform(10, 18, 50).astype(np.float32)
    history = rng.integers(0, VOCAB, 1000).astype(np.int32)
    row = _core.Sampling(**SAMPLING[name])
    measure(lambda: _core.sample(logits, row, history, 0, 7), bytes=logits.nbytes, flops=0)
