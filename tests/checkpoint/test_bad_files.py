"""Every damage to a checkpoint ends, soon, in a CheckpointError that says where and what."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from motet.checkpoint import Checkpoint
from motet.config import load_config
from motet.weights import load_weights
from tests.checkpoint.damage import (
    Header,
    edit_config,
    edit_header,
    edit_json,
    join,
    refused,
    split,
)

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD = "model-00001-of-00001.safetensors"
EMBED = "model.embed_tokens.weight"
Q_PROJ = "model.layers.0.self_attn.q_proj.weight"
SINKS = "model.layers.1.self_attn.sinks"


def set_entry(tensor: str, **values: object) -> Callable[[Header], None]:
    return lambda header: header[tensor].update(values)


def swap_offsets(header: Header) -> None:
    header[EMBED]["data_offsets"].reverse()


def overlap(header: Header) -> None:
    """The second tensor's range starts inside the first, its length kept."""
    begin, end = header[Q_PROJ]["data_offsets"]
    header[Q_PROJ]["data_offsets"] = [begin - 64, end - 64]


def past_the_end(header: Header) -> None:
    """The last tensor has twice the rows that the file has bytes for."""
    begin, end = header["lm_head.weight"]["data_offsets"]
    header["lm_head.weight"].update(shape=[640, 64], data_offsets=[begin, 2 * end - begin])


HEADER_DAMAGE = [
    ("reversed", swap_offsets, EMBED, "begin <= end", "(40960, 0)"),
    ("overlap", overlap, Q_PROJ, "data_offsets from 41088", "41024"),
    ("past the end", past_the_end, "lm_head.weight", "a file of at least", "bytes"),
    (
        "wrong dtype",
        set_entry(SINKS, dtype="F16"),
        SINKS,
        "BF16 [4]",
        "F16 [4]",
    ),
    ("dtype for a terminal", set_entry(SINKS, dtype="\x1b[31m"), SINKS, "BF16", r"\x1b[31m"),
    ("unknown dtype", set_entry(SINKS, dtype="Q4_K"), SINKS, "BF16", "Q4_K"),
    ("no dtype", lambda h: h[SINKS].pop("dtype"), SINKS, "BF16", "None"),
    ("transposed", set_entry(Q_PROJ, shape=[64, 128]), Q_PROJ, "[128, 64]", "BF16 [64, 128]"),
    ("wrong shape", set_entry(Q_PROJ, shape=[128, 65]), Q_PROJ, "16640 bytes", "16384 bytes"),
    (
        "product overflows to the right length",
        set_entry(Q_PROJ, shape=[(1 << 62) + 64, 128]),
        Q_PROJ,
        f"{((1 << 62) + 64) * 256} bytes",
        "16384 bytes",
    ),
    ("dimension overflows", set_entry(Q_PROJ, shape=[1 << 64, 0]), Q_PROJ, "0..2**63-1", "[184"),
    ("negative", set_entry(Q_PROJ, shape=[-128, -64]), Q_PROJ, "0..2**63-1", "[-128, -64]"),
    ("boolean", set_entry(SINKS, shape=[4, True]), SINKS, "integers", "[4, True]"),
    ("float", set_entry(SINKS, data_offsets=[0.0, 8.0]), SINKS, "two integers", "[0.0, 8.0]"),
    ("one offset", set_entry(SINKS, data_offsets=[8]), SINKS, "two integers", "[8]"),
    ("many dimensions", set_entry(SINKS, shape=[1] * 9999), SINKS, "at most 8", "[1, 1"),
    ("no object", lambda h: h.update({SINKS: 7}), SINKS, "an object", "7"),
    ("entry dropped", lambda h: h.pop("lm_head.weight"), None, "bytes", "bytes"),
    ("gap", lambda h: h.pop(SINKS), "", "data_offsets from", ""),
]


@pytest.mark.parametrize(
    ("damage", "tensor", "expected", "found"),
    [pytest.param(*row[1:], id=row[0]) for row in HEADER_DAMAGE],
)
def test_header_damage(
    single: Path,
    damage: Callable[[Header], object],
    tensor: str | None,
    expected: str,
    found: str,
) -> None:
    edit_header(single / WEIGHTS, damage)
    error = refused(single)
    assert error.file == str(single / WEIGHTS)
    assert tensor == "" or error.tensor == tensor
    assert expected in str(error.expected)
    assert found in str(error.found)


def test_missing_tensor(single: Path) -> None:
    header, data = split(single / WEIGHTS)
    begin, _ = header.pop("lm_head.weight")["data_offsets"]
    join(single / WEIGHTS, json.dumps(header).encode(), data[:begin])
    error = refused(single)
    assert error.tensor == "lm_head.weight"
    assert error.expected == "BF16 [320, 64]"
    assert error.file == str(single / WEIGHTS)


def test_missing_tensor_in_an_index(sharded: Path) -> None:
    weight_map = json.loads((sharded / INDEX).read_text())["weight_map"]
    del weight_map[SINKS]
    edit_json(sharded / INDEX, weight_map=weight_map)
    error = refused(sharded)
    assert error.tensor == SINKS
    assert error.file == str(sharded / INDEX)


def test_unexpected_tensor(single: Path) -> None:
    header, data = split(single / WEIGHTS)

    def add(name: str) -> None:
        more = {name: {"dtype": "F32", "shape": [1], "data_offsets": [len(data), len(data) + 4]}}
        join(single / WEIGHTS, json.dumps(header | more).encode(), data + bytes(4))

    add("model.layers.0.self_attn.rotary_emb.inv_freq")
    load_weights(Checkpoint(single), load_config(single))
    add("model.layers.0.self_attn.q_proj.lora_A.weight")
    error = refused(single)
    assert error.tensor == "model.layers.0.self_attn.q_proj.lora_A.weight"
    assert error.found == "F32 [1]"


@pytest.mark.parametrize("name", ["x" * 1_000_000, "\x1b]0;x\x07", "a\nb", "\ud800"])
@pytest.mark.parametrize("where", ["header", "twice", "index"])
def test_tensor_names_that_nobody_could_read(
    single: Path, sharded: Path, name: str, where: str
) -> None:
    key = json.dumps(name)
    if where == "index":
        (sharded / INDEX).write_text(f'{{"weight_map": {{{key}: "{SHARD}"}}}}')
        refused(sharded)
        return
    header, data = split(single / WEIGHTS)
    entry = f'{key}: {{"dtype":"U8","shape":[0],"data_offsets":[{len(data)},{len(data)}]}}'
    entries = ", ".join([json.dumps(header)[1:-1], entry, *([entry] if where == "twice" else [])])
    join(single / WEIGHTS, f"{{{entries}}}".encode(), data)
    refused(single)


@pytest.mark.parametrize(("layers", "tensor"), [(3, "model.layers.2."), (1, "model.layers.1.")])
@pytest.mark.parametrize("layer_types", ["adapted", "absent"])
def test_config_with_another_number_of_layers(
    single: Path, layers: int, tensor: str, layer_types: str
) -> None:
    kinds = ["sliding_attention"] * layers if layer_types == "adapted" else ...
    edit_config(single, num_hidden_layers=layers, layer_types=kinds)
    assert str(refused(single).tensor).startswith(tensor)


def test_config_with_one_layer_more_than_layer_types(single: Path) -> None:
    edit_config(single, num_hidden_layers=3)
    error = refused(single)
    assert error.file == str(single / "config.json")
    assert error.tensor == "layer_types"
    assert (error.expected, error.found) == ("a list of 3, one a layer", "2")


@pytest.mark.parametrize("size", [0, 5, 8, 1000, -1])
def test_truncated(single: Path, size: int) -> None:
    path = single / WEIGHTS
    full = path.stat().st_size
    os.truncate(path, size if size >= 0 else full - 1)
    error = refused(single)
    assert error.file == str(path)
    if size < 0:
        assert error.tensor == "lm_head.weight"
        assert str(full) in str(error.expected)
        assert str(full - 1) in str(error.found)


def test_truncated_shard(sharded: Path) -> None:
    os.truncate(sharded / SHARD, (sharded / SHARD).stat().st_size // 2)
    error = refused(sharded)
    assert error.file == str(sharded / SHARD)
    assert error.tensor is not None


def test_bytes_after_the_last_tensor(single: Path) -> None:
    with (single / WEIGHTS).open("ab") as file:
        file.write(b"x")
    assert "bytes" in str(refused(single).expected)


@pytest.mark.parametrize("length", [1 << 32, (1 << 64) - 1, 1 << 24])
def test_header_length(single: Path, length: int) -> None:
    path = single / WEIGHTS
    path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])
    error = refused(single)
    assert error.found == str(length)
    assert str(path.stat().st_size) in str(error.expected)


def test_header_length_of_4_gib_in_a_file_that_large(single: Path) -> None:
    path = single / WEIGHTS
    path.write_bytes((1 << 32).to_bytes(8, "little"))
    os.truncate(path, 5 << 30)  # sparse: takes no room
    assert refused(single).found == str(1 << 32)


BROKEN_JSON = [
    ("duplicate", b'{"a":{},"a":{}}', "a", "one", "2"),
    ("duplicate within", b'{"a":{"shape":[],"shape":[1]}}', "shape", "one", "2"),
    ("nested", b'{"a":' * 9 + b"[" * 1_000_000, None, "JSON", "nesting too deep"),
    ("list", b"[]", None, "a JSON object", "list"),
    ("cut", b'{"a":', None, "a JSON object", "line 1"),
    ("latin-1", '{"ä":1}'.encode("latin-1"), None, "UTF-8", "decode"),
    ("digits", b'{"a":{"dtype":"U8","shape":[' + b"9" * 5000 + b"]}}", None, "JSON", "digits"),
    ("NaN", b'{"a":{"dtype":"U8","shape":[NaN],"data_offsets":[0,0]}}', "a", "integers", "nan"),
]


@pytest.mark.parametrize(
    ("raw", "tensor", "expected", "found"),
    [pytest.param(*row[1:], id=row[0]) for row in BROKEN_JSON],
)
@pytest.mark.parametrize("where", ["header", "index", "config"])
def test_broken_json(
    single: Path,
    sharded: Path,
    where: str,
    raw: bytes,
    tensor: str | None,
    expected: str,
    found: str,
) -> None:
    if where == "header":
        join(single / WEIGHTS, raw, b"")
        error = refused(single)
    elif where == "index":
        (sharded / INDEX).write_bytes(raw)
        error = refused(sharded)
    else:
        (single / "config.json").write_bytes(raw)
        error = refused(single)
    if tensor != "a" or where == "header":  # the outer object's entries mean tensors only there
        assert error.tensor == tensor
        assert expected in str(error.expected)
        assert found in str(error.found)


def test_index_names_a_missing_file(sharded: Path) -> None:
    (sharded / SHARD).unlink()
    error = refused(sharded)
    assert error.file == str(sharded / SHARD)
    assert error.tensor is not None
    assert error.found == "no such file"
    assert INDEX in str(error)


def test_index_maps_a_tensor_to_the_wrong_shard(sharded: Path) -> None:
    weight_map = json.loads((sharded / INDEX).read_text())["weight_map"]
    edit_json(sharded / INDEX, weight_map=weight_map | {EMBED: SHARD})
    error = refused(sharded)
    assert error.file == str(sharded / SHARD)
    assert error.tensor == EMBED


@pytest.mark.parametrize(
    "shard", ["../x", "/dev/zero", "", 7, None, "a\0b", ".", "x" * 5000, "\ud800"]
)
def test_index_names_no_file_beside_it(sharded: Path, shard: object) -> None:
    edit_json(sharded / INDEX, weight_map={EMBED: shard})
    error = refused(sharded)
    assert error.tensor == EMBED


@pytest.mark.parametrize("weight_map", [{}, [], None, "x"])
def test_index_without_a_map(sharded: Path, weight_map: object) -> None:
    edit_json(sharded / INDEX, weight_map=weight_map)
    assert refused(sharded).tensor == "weight_map"


def test_empty_directory(tmp_path: Path) -> None:
    error = refused(tmp_path)
    assert error.file == str(tmp_path)
    assert error.found == "an empty directory"


def test_no_such_directory(tmp_path: Path) -> None:
    assert "No such file" in str(refused(tmp_path / "nowhere").found)


def test_directory_without_weights(single: Path) -> None:
    (single / WEIGHTS).rename(single / "pytorch_model.bin")
    error = refused(single)
    assert "pytorch_model.bin" in str(error.found)
    assert WEIGHTS in str(error.expected)


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", WEIGHTS, INDEX, SHARD])
@pytest.mark.parametrize(
    ("make", "found"),
    [
        (_fifo, "FIFO"),
        (_loop, "symbolic link loop"),
        (_dangling, "dangling symbolic link"),
        (_device, "a device"),
        (Path.mkdir, "directory"),
    ],
)
def test_not_a_regular_file(
    single: Path, sharded: Path, name: str, make: Callable[[Path], None], found: str
) -> None:
    directory = sharded if name in (INDEX, SHARD) else single
    (directory / name).unlink()
    make(directory / name)
    error = refused(directory)
    assert error.file == str(directory / name)
    assert found in str(error.found).replace("Is a directory", "directory")


def test_unreadable(single: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = os.open

    def deny(path: Path, flags: int) -> int:
        if Path(path).name == WEIGHTS:  # permission bits don't stop root
            raise PermissionError(13, "Permission denied", str(path))
        return real_open(path, flags)

    monkeypatch.setattr(os, "open", deny)
    assert refused(single).found == "Permission denied"
