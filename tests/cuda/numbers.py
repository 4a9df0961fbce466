"""Small floats of 16 bits as numpy bit patterns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.uint16]
Floats = npt.NDArray[np.float64]


def bf16(x: npt.ArrayLike) -> Bits:
    """To bf16, to nearest, ties to even."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(bits: Bits) -> Floats:
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def from_f16(bits: Bits) -> Floats:
    return bits.view(np.float16).astype(np.float64)


def relative_error(found: npt.ArrayLike, expected: npt.ArrayLike) -> float:
    """||found - expected|| / ||expected||; NaN where anything is."""
    expected = np.asarray(expected, np.float64)
    return float(np.linalg.norm(np.asarray(found) - expected) / np.linalg.norm(expected))
