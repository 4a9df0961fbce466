"""Copies of good checkpoints, to be damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import MakeCheckpoint
from tests.reference.checkpoint_writer import CheckpointSpec


@pytest.fixture
def single(tmp_path: Path, tiny_checkpoint: Path) -> Path:
    """A private copy with one weights file."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "single"))


@pytest.fixture
def sharded(tmp_path: Path, make_checkpoint: MakeCheckpoint) -> Path:
    """A private copy with an index and two shards."""
    source = make_checkpoint(CheckpointSpec(num_shards=2))
    return Path(shutil.copytree(source, tmp_path / "sharded"))
