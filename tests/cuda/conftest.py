"""Tests of the CUDA backend: on a GPU, or on the CPU where the core is built for the emulator.

MOTET_TEST_CASES bounds the cases of each test function, for tools that make kernels a hundred times
slower.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from motet import _core


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    mine = [item for item in items if "tests/cuda/" in item.path.as_posix()]
    if not hasattr(_core, "cuda_ops") or not _core.cuda_devices():
        skip = pytest.mark.skip(reason="no CUDA device (and no emulator, see .ci/emulate-cuda)")
        for item in mine:
            item.add_marker(skip)
    if cases := int(os.environ.get("MOTET_TEST_CASES", 0)):
        seen: Counter[str] = Counter()
        dropped = []
        for item in mine:
            function = item.nodeid.split("[")[0]
            seen[function] += 1
            if seen[function] > cases:
                dropped.append(item)
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]
