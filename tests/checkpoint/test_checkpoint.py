"""Reading safetensors: the right bytes, mapped read-only; hostile headers do no harm."""

from __future__ import annotations

import errno
import json
import mmap
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motet.checkpoint import Checkpoint, read_header
from motet.config import load_config
from motet.errors import CheckpointError, OutOfMemoryError
from motet.weights import load_weights
from tests.checkpoint.damage import join, split
from tests.conftest import MakeCheckpoint
from tests.reference.checkpoint_writer import CheckpointSpec, make_tensors

SPECS = [
    CheckpointSpec(),
    CheckpointSpec(num_shards=2),
    CheckpointSpec(num_shards=5, newer_config=True, experts_mxfp4=False),
]


@pytest.mark.parametrize("spec", SPECS)
def test_every_tensor_bit_for_bit(make_checkpoint: MakeCheckpoint, spec: CheckpointSpec) -> None:
    directory = make_checkpoint(spec)
    weights = load_weights(Checkpoint(directory), load_config(directory))
    written = {name: array for name, _, array in make_tensors(spec)}
    assert weights.keys() == written.keys()
    for name, array in weights.items():
        assert array.dtype == written[name].dtype
        assert array.shape == written[name].shape
        assert np.array_equal(array, written[name])
        assert not array.flags.writeable
        assert array.flags.aligned
        assert array.flags.c_contiguous


def test_agrees_with_the_safetensors_package(tiny_checkpoint: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    with safetensors.safe_open(tiny_checkpoint / "model.safetensors", "np") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    tensors = Checkpoint(tiny_checkpoint).tensors
    assert {name: list(info.shape) for name, info in tensors.items()} == shapes


def test_bf16_at_odd_bytes_is_copied(single: Path) -> None:
    path = single / "model.safetensors"
    before = load_weights(Checkpoint(single), load_config(single))
    header, data = split(path)
    raw = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.unlink()  # the arrays above still map the old file
    join(path, raw + b" " * (1 - len(raw) % 2), data)
    after = load_weights(Checkpoint(single), load_config(single))
    for name, array in after.items():
        assert array.flags.aligned
        assert not array.flags.writeable
        assert np.array_equal(array, before[name])


def test_no_descriptor_is_left_open_by_errors(single: Path) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("no /proc to count descriptors with")
    os.truncate(single / "model.safetensors", 1000)
    before = len(list(descriptors.iterdir()))
    for _ in range(10):
        with pytest.raises(CheckpointError):
            Checkpoint(single)
    assert len(list(descriptors.iterdir())) == before


def test_file_replaced_between_header_and_map(single: Path) -> None:
    checkpoint = Checkpoint(single)
    os.truncate(single / "model.safetensors", 1000)
    with pytest.raises(CheckpointError, match="file changed"):
        checkpoint.array("lm_head.weight")


def test_empty_tensors_and_metadata(tmp_path: Path) -> None:
    header = {"a": {"dtype": "BF16", "shape": [0, 7], "data_offsets": [0, 0]}, "__metadata__": {}}
    join(tmp_path / "model.safetensors", json.dumps(header).encode(), b"")
    assert Checkpoint(tmp_path).array("a").shape == (0, 7)


GOOD = {
    "a": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]},
    "b": {"dtype": "U8", "shape": [4], "data_offsets": [12, 16]},
}


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(
            st.tuples(st.integers(0, 1000), st.binary(min_size=1, max_size=3)), max_size=4
        ).map(lambda edits: _edited(json.dumps(GOOD).encode(), edits)),
        st.recursive(
            st.none() | st.integers() | st.floats() | st.booleans() | st.sampled_from(["U8", "a"]),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(
                    st.sampled_from(["a", "b", "dtype", "shape", "data_offsets"]), inner
                )
            ),
            max_leaves=12,
        ).map(lambda value: json.dumps({"a": value}).encode()),
    )
)
def test_hostile_headers(tmp_path_factory: pytest.TempPathFactory, header: bytes) -> None:
    """Whatever the header says: tensors inside the file, or a CheckpointError."""
    path = tmp_path_factory.getbasetemp() / "hostile.safetensors"
    join(path, header, bytes(16))
    try:
        tensors = read_header(path)
    except CheckpointError:
        return
    size = path.stat().st_size
    assert all(8 <= info.begin <= info.end <= size for info in tensors.values())


def test_a_file_that_there_is_no_room_to_map(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under `ulimit -v`: the error names the file and its size."""

    def refuse(*args: object, **options: object) -> object:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    checkpoint = Checkpoint(tiny_checkpoint)
    monkeypatch.setattr(mmap, "mmap", refuse)
    with pytest.raises(OutOfMemoryError, match=r"model\.safetensors: .* \d+ bytes"):
        checkpoint.array("lm_head.weight")


def _edited(data: bytes, edits: list[tuple[int, bytes]]) -> bytes:
    for position, patch in edits:
        start = position % len(data)
        data = data[:start] + patch + data[start + len(patch) :]
    return data
