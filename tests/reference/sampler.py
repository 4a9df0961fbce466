"""The sampler in numpy: the steps of csrc/ops/sample.h one by one, with sorts, in float64.

Edited logits are float32, as in the core, because their ties decide the order of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Logits = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Row:
    """The arguments of `_core.Sampling`, by the same names."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    bias_ids: Sequence[int] = ()
    bias_values: Sequence[float] = ()
    min_tokens: int = 0
    stop_ids: Sequence[int] = ()


@dataclass(frozen=True)
class Kept:
    """What a draw chooses from, and how near the cuts came to falling elsewhere."""

    ids: Ids  # ascending
    probabilities: Floats
    margin: float = field(default=1.0)  # relative distance of min_p's and top_p's cut to a token


def philox(counter: Sequence[int], key: Sequence[int]) -> list[int]:
    """Philox4x32-10 (Salmon et al., SC 2011) on Python integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        low = 0xFFFFFFFF
        c = [(b >> 32) ^ c[1] ^ k[0], b & low, (a >> 32) ^ c[3] ^ k[1], a & low]
        k = [(k[0] + 0x9E3779B9) & low, (k[1] + 0xBB67AE85) & low]
    return c


def uniform(seed: int, position: int) -> float:
    low = 0xFFFFFFFF
    words = philox((position & low, position >> 32, 0, 0), (seed & low, seed >> 32))
    return float(((words[1] << 32 | words[0]) >> 11) * 2.0**-53)


def edit(logits: Logits, row: Row, history: Sequence[int], n_prompt: int) -> Logits:
    """Penalties, bias and min_tokens; `logits` [vocab] stays as it is."""
    x = logits.astype(np.float32).copy()
    output = list(history[n_prompt:])
    if row.repetition_penalty != 1.0:
        penalty = np.float32(row.repetition_penalty)
        for token in set(history):
            x[token] = x[token] / penalty if x[token] > 0 else x[token] * penalty
    for token in set(output):
        frequency = np.float32(row.frequency_penalty) * np.float32(output.count(token))
        x[token] -= frequency + np.float32(row.presence_penalty)
    for token, bias in zip(row.bias_ids, row.bias_values, strict=True):
        x[token] += np.float32(bias)
    if len(output) < row.min_tokens:
        x[list(row.stop_ids)] = -np.inf
    return x


def ranked(x: Logits) -> Ids:
    """Token ids by logit, then by lower id."""
    return np.lexsort((np.arange(x.size), -x.astype(np.float64)))


def softmax(x: Floats) -> Floats:
    """Over the last axis; +inf shares everything equally."""
    if np.isposinf(x).any():
        x = np.where(np.isposinf(x), 0.0, -np.inf)
    weights = np.exp(x - x.max())
    return np.asarray(weights / weights.sum())


def keep(x: Logits, row: Row) -> Kept:
    """Temperature and the three cuts, over logits that hold at least one above -inf."""
    x = np.where(np.isnan(x), np.float32(-np.inf), x)
    order = ranked(x)
    order = order[x[order] > -np.inf]
    probabilities = softmax(x[order].astype(np.float64) / row.temperature)
    margins = [1.0]
    if row.min_p > 0:
        ratios = probabilities / probabilities[0]
        margins.append(float(np.abs(ratios / row.min_p - 1).min()))
        order = order[ratios >= row.min_p]
    if 0 < row.top_k < order.size:
        order = order[: row.top_k]
    probabilities = softmax(x[order].astype(np.float64) / row.temperature)
    if row.top_p < 1:
        reached = np.cumsum(probabilities)
        margins.append(float(np.abs(reached / row.top_p - 1).min()))
        order = order[: int(np.searchsorted(reached, row.top_p)) + 1]
    ids = np.sort(order)
    return Kept(ids, softmax(x[ids].astype(np.float64) / row.temperature), min(margins))


def candidates(kept: Kept, u: float, tolerance: float = 1e-5) -> set[int]:
    """The tokens an inverse CDF may return for a uniform number known to `tolerance`."""
    upper = np.cumsum(kept.probabilities)
    lower = np.concatenate(([0.0], upper[:-1]))
    near = (lower <= u + tolerance) & (u - tolerance <= upper)
    return {int(token) for token in kept.ids[near]}


def log_softmax(logits: Logits) -> Floats:
    """Of one row [vocab]; NaN counts as -inf."""
    x = np.where(np.isnan(logits), -np.inf, logits).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(softmax(x)))
