"""How far logits lie from a reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def relative_l2(
    found: npt.NDArray[np.floating[Any]], reference: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.float64]:
    """|found - reference| / |reference| of each position: [n, vocab] twice -> [n]."""
    found, reference = found.astype(np.float64), reference.astype(np.float64)
    distance = np.linalg.norm(found - reference, axis=-1) / np.linalg.norm(reference, axis=-1)
    return np.asarray(distance, np.float64)


def median_relative_l2(
    found: npt.NDArray[np.floating[Any]], reference: npt.NDArray[np.floating[Any]]
) -> float:
    """The median over positions: random weights route near ties, and some positions flip."""
    return float(np.median(relative_l2(found, reference)))
