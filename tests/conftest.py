"""Checkpoints for all tests: random weights, written once a session for each spec asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.reference.checkpoint_writer import CheckpointSpec, write_checkpoint

MakeCheckpoint = Callable[[CheckpointSpec], Path]


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> MakeCheckpoint:
    """Return the directory of a checkpoint of a spec; read-only, as tests share it."""
    written: dict[CheckpointSpec, Path] = {}

    def make(spec: CheckpointSpec) -> Path:
        if spec not in written:
            written[spec] = write_checkpoint(tmp_path_factory.mktemp("checkpoint"), spec)
        return written[spec]

    return make


@pytest.fixture(scope="session")
def tiny_checkpoint(make_checkpoint: MakeCheckpoint) -> Path:
    """Two layers, eight experts, 320 tokens of vocabulary, byte-level tokenizer."""
    return make_checkpoint(CheckpointSpec())
