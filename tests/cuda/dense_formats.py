"""Formats of the weights that a checkpoint has in bf16, and rows that they are multiplied by."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from motet import _core
from tests.cuda.numbers import Bits, Floats, from_bf16, from_f16
from tests.reference.model import int8_weights

FORMATS = ("bf16", "int8")
STEP_COLUMNS = 64


def core_format(name: str) -> Any:
    return getattr(_core.cuda_ops.WeightFormat, name.upper())


def rows_for(x: npt.NDArray[np.float32]) -> Bits:
    """[T, stride], see csrc/cuda/rows.h."""
    padded = np.pad(x, ((0, 0), (0, -x.shape[1] % STEP_COLUMNS)))
    return padded.astype(np.float16).view(np.uint16)


def row_values(rows: Bits, cols: int) -> Floats:
    """What rows stand for: [T, cols]."""
    return from_f16(rows)[:, :cols]


def weight_values(bits: Bits, weights: str) -> Floats:
    return int8_weights(from_bf16(bits)) if weights == "int8" else from_bf16(bits)
