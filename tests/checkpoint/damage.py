"""Ways to damage a copy of a good checkpoint, and what is asked of the error it ends in."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from motet.checkpoint import Checkpoint
from motet.config import load_config
from motet.errors import CheckpointError
from motet.weights import load_weights

Header = dict[str, Any]


def split(path: Path) -> tuple[Header, bytes]:
    """A safetensors file's header and its data."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def join(path: Path, header: bytes, data: bytes) -> None:
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


def edit_header(path: Path, edit: Callable[[Header], object]) -> None:
    header, data = split(path)
    edit(header)
    join(path, json.dumps(header).encode(), data)


def edit_json(path: Path, **changes: object) -> None:
    """Set keys of a JSON file; `...` removes one."""
    values = json.loads(path.read_text())
    values.update(changes)
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not ...}))


def edit_config(directory: Path, **changes: object) -> None:
    edit_json(directory / "config.json", **changes)


def refused(directory: Path) -> CheckpointError:
    """The error that loading ends in: complete, and within five seconds."""
    start = time.perf_counter()
    with pytest.raises(CheckpointError) as caught:
        load_weights(Checkpoint(directory), load_config(directory))
    assert time.perf_counter() - start < 5
    error = caught.value
    assert error.file is not None
    assert error.expected is not None
    assert error.found is not None
    for part in (error.file, error.tensor or "", error.expected, error.found):
        assert part in str(error)
    assert len(str(error)) < 2000
    assert str(error).isprintable()  # nothing that a terminal would obey
    return error
