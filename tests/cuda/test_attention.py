from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from motet import _core
from tests.cuda.int8_pages import page_bytes, quantised
from tests.cuda.numbers import Bits, Floats, bf16, from_bf16, from_f16, relative_error

PAGE = 32
NEVER = 10**6  # of tokens: more than a step has


@dataclass
class Step:
    """Tokens of some sequences and a cache whose other slots are NaN, or integers that have one for
    a scale."""

    heads: int
    kv_heads: int
    head_dim: int
    window: int
    sequences: list[tuple[int, int]]  # position of the first token, tokens
    padding: int = 0  # tokens that are not there
    spread: float = 1.0  # of scores
    cache: str = "f16"  # or "int8"
    size: float = 1.0  # of values

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.head_dim + self.window)
        ends = [first + count for first, count in self.sequences]
        per_sequence = -(-max(ends) // PAGE) + 1
        pages = len(ends) * per_sequence + 3
        shape = (pages, self.kv_heads, PAGE, self.head_dim)
        self.keys = np.full(shape, np.nan, np.float16)
        self.values = np.full(shape, np.nan, np.float16)
        self.integers = random.integers(-128, 128, (2, *shape)).astype(np.int8)
        self.scales = np.full((2, *shape[:-1]), np.nan, np.float32)
        self.table = np.full((len(ends) + 2, per_sequence), -1, np.int32)
        unused = iter(random.permutation(pages).tolist())
        slots = random.permutation(len(self.table))[: len(ends)].tolist()
        self.k: list[Floats] = []
        self.v: list[Floats] = []
        positions: list[int] = []
        rows: list[int] = []
        for slot, (first, count), end in zip(slots, self.sequences, ends, strict=True):
            k = random.normal(size=(self.kv_heads, end, self.head_dim)) * self.spread
            v = (random.normal(size=(self.kv_heads, end, self.head_dim)) + 1) * self.size
            if self.cache == "int8":
                # Tokens of different sizes, for scales that matter.
                sizes = random.uniform(0.3, 1, (2, self.kv_heads, end, 1))
                kv = (np.stack([k, v]) * sizes).astype(np.float32)
                integers, scales = quantised(kv)
                k, v = integers * scales.astype(np.float64)[..., None]
            else:
                k, v = k.astype(np.float16), v.astype(np.float16)
            held = max(first - self.window + 1, 0) // PAGE if self.window else 0
            for page in range(held, -(-end // PAGE)):
                self.table[slot, page] = next(unused)
                tokens = slice(page * PAGE, min(end, (page + 1) * PAGE))
                there = self.table[slot, page], slice(None), slice(tokens.stop - tokens.start)
                if self.cache == "int8":
                    self.integers[:, *there] = integers[:, :, tokens]
                    self.scales[:, *there] = scales[:, :, tokens]
                else:
                    self.keys[there] = k[:, tokens]
                    self.values[there] = v[:, tokens]
            self.k.append(k.astype(np.float64))
            self.v.append(v.astype(np.float64))
            positions += range(first, end)
            rows += [slot] * count
        self.tokens = len(rows)
        self.positions = np.array(positions + [0] * self.padding, np.int32)
        self.slots = np.array(rows + [-1] * self.padding, np.int32)
        q = random.normal(size=(len(self.slots), self.heads, self.head_dim))
        self.q = q.astype(np.float16)
        self.q[self.tokens :] = np.nan
        self.sinks = bf16(random.normal(size=self.heads))

    def expected(self) -> Floats:
        group = self.heads // self.kv_heads
        out = []
        token = 0
        for (first, count), k, v in zip(self.sequences, self.k, self.v, strict=True):
            for position in range(first, first + count):
                begin = max(position - self.window + 1, 0) if self.window else 0
                q = self.q[token].astype(np.float64).reshape(self.kv_heads, group, self.head_dim)
                scores = np.einsum("hgd,hjd->hgj", q, k[:, begin : position + 1])
                scores = scores.reshape(self.heads, -1) / np.sqrt(self.head_dim)
                scores = np.concatenate([scores, from_bf16(self.sinks)[:, None]], axis=1)
                p = np.exp(scores - scores.max(axis=1, keepdims=True))
                p = (p / p.sum(axis=1, keepdims=True))[:, :-1].reshape(self.kv_heads, group, -1)
                out.append(np.einsum("hgj,hjd->hgd", p, v[:, begin : position + 1]).ravel())
                token += 1
        return np.array(out)

    def run(self, min_run: int, **options: int) -> Bits:
        types = _core.cuda_ops.CacheType
        keys, values = self.keys.view(np.uint8), self.values.view(np.uint8)
        if self.cache == "int8":
            keys, values = (
                page_bytes(self.integers[i], self.scales[i], values=i == 1) for i in (0, 1)
            )
        found: Bits = _core.cuda_ops.attend(
            self.q.view(np.uint16),
            keys,
            values,
            types.INT8 if self.cache == "int8" else types.F16,
            self.kv_heads,
            self.table,
            self.positions,
            self.slots,
            self.sinks,
            self.window,
            min_run,
            **options,
        )
        return found

    def check(self, bits: Bits) -> None:
        size = self.heads * self.head_dim
        found = from_f16(bits)[: self.tokens]
        assert (found[:, size:] == 0).all()
        expected = self.expected()
        # The output is rounded to half precision; of integers, values and their scales are too.
        bound = 4e-4 if self.cache == "int8" else 3e-4
        assert relative_error(found[:, :size], expected) < bound
        for row, correct in zip(found[:, :size], expected, strict=True):
            assert relative_error(row, correct) < 2.5 * bound


def check_both(step: Step) -> None:
    tokens, runs = step.run(NEVER), step.run(1)
    step.check(tokens)
    assert (runs[: step.tokens] == tokens[: step.tokens]).all()


caches = pytest.mark.parametrize("cache", ["f16", "int8"])


@caches
@pytest.mark.parametrize("head_dim", [16, 32, 64, 80, 112, 128])
def test_head_dims(head_dim: int, cache: str) -> None:
    check_both(Step(4, 2, head_dim, 0, [(133, 3)], cache=cache))


@caches
@pytest.mark.parametrize(("heads", "kv_heads"), [(8, 1), (3, 3), (10, 2), (16, 1), (18, 2)])
def test_groups(heads: int, kv_heads: int, cache: str) -> None:
    check_both(Step(heads, kv_heads, 16, 0, [(0, 1), (126, 5)], cache=cache))


# Chunks have 128 keys. Windows shorter and longer than the context, and equal to it.
@caches
@pytest.mark.parametrize("window", [0, 1, 5, 31, 32, 128, 130, 300])
def test_windows(window: int, cache: str) -> None:
    check_both(Step(8, 2, 16, window, [(0, 2), (127, 2), (299, 2), (500, 1)], cache=cache))


@caches
@pytest.mark.parametrize("window", [0, 128])
def test_long_run(window: int, cache: str) -> None:
    """Blocks of many tokens, whose rows begin and end in different chunks."""
    step = Step(8, 1, 16, window, [(110, 37)], cache=cache)
    check_both(step)
    whole = step.run(1)
    for max_run in (1, 7):
        assert (step.run(1, max_run=max_run) == whole).all()


@caches
def test_mixed_step_with_padding(cache: str) -> None:
    """Some sequences are runs, others single tokens, and some tokens are not there."""
    sequences = [(200, 1), (30, 20), (7, 2), (0, 17), (64, 1)]
    step = Step(4, 2, 32, 128, sequences, padding=3, cache=cache)
    found = step.run(16)
    step.check(found)
    assert (step.run(NEVER)[: step.tokens] == found[: step.tokens]).all()


def test_padding_tokens_are_zeros() -> None:
    step = Step(4, 2, 16, 0, [(40, 2)], padding=2)
    found = step.run(NEVER, listed=False)
    step.check(found)
    assert (found[step.tokens :] == 0).all()


@caches
def test_a_token_alone(cache: str) -> None:
    """Its bits do not depend on what else is in the step, nor on the scratch."""
    step = Step(4, 2, 16, 0, [(260, 1), (33, 5), (0, 1), (128, 1)], cache=cache)
    whole = step.run(NEVER)
    for scratch_tokens in (1, 3):
        found = step.run(NEVER, scratch_tokens=scratch_tokens, chunks_per_block=1)
        assert (found == whole).all()
    q, positions, slots = step.q, step.positions, step.slots
    for i in range(step.tokens):
        step.q, step.positions, step.slots = q[[i]], positions[[i]], slots[[i]]
        assert (step.run(NEVER)[0] == whole[i]).all()


@caches
@pytest.mark.parametrize("head_dim", [16, 80, 128])
@pytest.mark.parametrize("context", [128 * 4 + 3, 128 * 33])
def test_chunks_of_blocks(context: int, head_dim: int, cache: str) -> None:
    """Blocks that take some chunks, of some tokens all: the same bits, whoever merges."""
    step = Step(4, 2, head_dim, 0, [(context - 1, 1), (150, 1), (259, 2)], padding=1, cache=cache)
    whole = step.run(NEVER, listed=False, chunks_per_block=33)
    step.check(whole)
    for chunks in (1, 2, 3):
        found = step.run(NEVER, listed=False, chunks_per_block=chunks)
        assert (found == whole).all()


def test_chunks_per_block() -> None:
    best = _core.cuda_ops.chunks_per_block
    # All of a window; a block a chunk, then more; all again where there are many tokens.
    assert [best(1, 8, chunks) for chunks in (1, 2, 16, 1024)] == [1, 2, 1, 16]
    assert [best(tokens, 8, 16) for tokens in (8, 12, 16, 128)] == [2, 3, 16, 16]
    assert best(128, 8, 1024) == 32


def test_many_chunks() -> None:
    """More than merging takes at a time, and scores far apart."""
    step = Step(2, 1, 16, 0, [(128 * 133 + 5, 1)], spread=4)
    check_both(step)


@pytest.mark.parametrize("size", [2e-4, 1e4])
def test_integers_of_small_and_large_values(size: float) -> None:
    """Scales far from one, as far as half precision reaches."""
    check_both(Step(4, 2, 32, 0, [(133, 3)], cache="int8", size=size))


def test_columns_are_padded() -> None:
    step = Step(3, 3, 16, 0, [(4, 3)])
    found = step.run(1)
    assert found.shape[1] == 64
    step.check(found)


def test_sink_takes_all() -> None:
    step = Step(2, 1, 16, 0, [(50, 2)])
    step.sinks = bf16([100, 100])
    assert (from_f16(step.run(1)) == 0).all()
    step.sinks = bf16([-np.inf, -100])
    check_both(step)


def test_values_that_all_keys_share() -> None:
    """Weights add up to one: what is the same in all values comes out as it is."""
    step = Step(2, 1, 16, 0, [(300, 1)])
    step.sinks = bf16([-np.inf, -np.inf])
    step.values[np.isfinite(step.values)] = 0.7001953125
    assert (from_f16(step.run(NEVER))[:, :32] == 0.7001953125).all()


@pytest.mark.parametrize(
    ("context", "window", "chunks"),
    [(1, 0, 1), (128, 0, 1), (129, 0, 2), (100, 128, 1), (9999, 128, 2), (999, 130, 3)],
)
def test_chunks(context: int, window: int, chunks: int) -> None:
    assert _core.cuda_ops.attention_chunks(context, window) == chunks


def test_split_tokens() -> None:
    slots = np.array([2] * 7 + [0, 1, -1, 3, 3, 3, 3, 3], np.int32)
    positions = np.array([*range(5, 12), 9, 10, 0, 4, 5, 6, 8, 9], np.int32)
    tokens, runs = _core.cuda_ops.split_tokens(positions, slots, 3, 4)
    assert tokens == [7, 8, 13, 14]
    assert runs == [(0, 4), (4, 3), (10, 3)]
