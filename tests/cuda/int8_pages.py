"""Pages of 8-bit integers as csrc/cuda/kernels/int8_page.cuh has them, and what the CPU puts in."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int8]
Bytes = npt.NDArray[np.uint8]
PAGE = 32


def quantised(rows: npt.NDArray[np.float32]) -> tuple[Integers, npt.NDArray[np.float32]]:
    """Integers and scales of rows [..., dim], see csrc/ops/kv_page.h."""
    rows = np.clip(np.nan_to_num(rows, nan=0, posinf=np.inf, neginf=-np.inf), -65504, 65504)
    scales = np.abs(rows).max(-1) / np.float32(127)
    scales[scales < np.finfo(np.float32).tiny] = 0
    safe = np.where(scales > 0, scales, np.float32(1))[..., None]
    integers = np.where(scales[..., None] > 0, np.rint(rows / safe), 0)
    return integers.astype(np.int8), scales


# Integers [..., PAGE, dim], split by where they are in words.
def _of_keys(integers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    # token = 8 word + g, column = 16 block + 8 half + 2 t + b
    word, g, block, half, t, b = range(-6, 0)
    split = integers.reshape(*integers.shape[:-2], 4, 8, -1, 2, 4, 2)
    lead = range(split.ndim - 6)
    return split.transpose(*lead, *(split.ndim + i for i in (block, g, t, word, half, b)))


def _of_values(integers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    # token = 16 k + 8 half + 2 t + b, column = 16 block + 8 h + g; word = 2 h + k
    k, half, t, b, block, h, g = range(-7, 0)
    split = integers.reshape(*integers.shape[:-2], 2, 2, 4, 2, -1, 2, 8)
    lead = range(split.ndim - 7)
    return split.transpose(*lead, *(split.ndim + i for i in (block, g, t, h, k, half, b)))


def page_bytes(integers: Integers, scales: npt.NDArray[np.float32], *, values: bool) -> Bytes:
    """Of integers [..., PAGE, dim] and scales [..., PAGE]."""
    words = (_of_values if values else _of_keys)(integers.view(np.uint8) ^ 128)
    flat = np.ascontiguousarray(words).reshape(*scales.shape[:-1], -1)
    return np.concatenate([flat, np.ascontiguousarray(scales).view(np.uint8)], axis=-1)
