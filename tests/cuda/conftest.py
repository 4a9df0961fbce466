"""Tests of the CUDA backend: on a GPU, or on the CPU where the core is built for the emulator."""

from __future__ import annotations

import pytest

from motet import _core


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if hasattr(_core, "cuda_ops") and _core.cuda_devices():
        return
    skip = pytest.mark.skip(reason="no CUDA device (and no emulator, see .ci/emulate-cuda)")
    for item in items:
        if "tests/cuda/" in item.path.as_posix():
            item.add_marker(skip)
