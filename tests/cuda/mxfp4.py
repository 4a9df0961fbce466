"""MXFP4 weights in numpy, as checkpoints store them: csrc/base/mxfp4.h."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
E2M1 = np.concatenate([E2M1, -E2M1])


def dequantise(blocks: Bytes, scales: Bytes) -> npt.NDArray[np.float32]:
    """blocks [..., rows, columns/32, 16] and scales [..., rows, columns/32] as weights."""
    codes = np.stack([blocks & 15, blocks >> 4], axis=-1).reshape(*blocks.shape[:-1], 32)
    with np.errstate(over="ignore"):
        weights = np.ldexp(E2M1[codes], scales.astype(np.int32)[..., None] - 127)
    return weights.astype(np.float32).reshape(*blocks.shape[:-2], -1)
