"""Reading the golden files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.golden.cases import GoldenCase

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Golden:
    """One file's content; `of` picks the kept positions and columns out of full logits."""

    positions: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    plain: npt.NDArray[np.float32]
    rounded: npt.NDArray[np.float32]

    def of(self, logits: Floats) -> Floats:
        return logits[np.ix_(self.positions, self.columns)]


def load_golden(case: GoldenCase, directory: Path) -> Golden:
    """The case's file, checked to be of the weights in `directory` and the case's tokens."""
    with np.load(case.path) as file:
        assert file["fingerprint"] == fingerprint(directory), "run tests.golden.make_golden"
        assert file["token_ids"].tolist() == case.token_ids()
        return Golden(file["positions"], file["columns"], file["plain"], file["rounded"])


def fingerprint(directory: Path) -> str:
    """Hash of the weights: do golden logits still belong to what the checkpoint writer writes?"""
    digest = hashlib.sha256()
    for path in sorted(directory.glob("*.safetensors")):
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
    return digest.hexdigest()
