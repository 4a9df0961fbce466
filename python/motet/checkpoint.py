"""A checkpoint's safetensors files: headers checked in full, tensors memory-mapped read-only.

The format: 8 bytes little-endian header length n; n bytes of JSON {name: {dtype, shape,
data_offsets: [begin, end]}}, offsets counted from byte 8 + n; then the tensors' bytes, one after
the other without gaps. The safetensors package's numpy reader knows no BF16, and a file is hostile
until every number in it has been checked: hence our own reader.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import numpy as np
import numpy.typing as npt

from motet._files import contents, open_regular, read_exactly, read_json_object
from motet._json import parse_json_object
from motet.errors import CheckpointError, OutOfMemoryError

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

_HUGE_PAGE_BYTES = 2 << 20
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 4 << 20  # published ones have 40 kB; parsing this much takes a second
_MAX_RANK = 8
_MAX_NAME = 256
_DTYPE_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("BF16", "F16", "U16", "I16"), 2),
    **dict.fromkeys(("F32", "U32", "I32"), 4),
    **dict.fromkeys(("F64", "U64", "I64"), 8),
}
_STORAGE = {"U8": np.uint8, "BF16": np.uint16}  # numpy knows no bf16: its bits, untouched


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor lies: `begin` and `end` are absolute byte positions in `file`."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Checkpoint:
    """The tensors of a directory with model.safetensors, or with an index and its shards.

    `source` is the file that lists them. Opening reads headers only. Raises CheckpointError for
    every damage that headers and file sizes show.
    """

    def __init__(self, directory: Path) -> None:
        self.tensors: dict[str, TensorInfo] = {}
        self._maps: dict[Path, mmap.mmap] = {}
        single, index = directory / SINGLE_FILE, directory / INDEX_FILE
        if os.path.lexists(single):
            self.source = single
            self.tensors = read_header(single)
        elif os.path.lexists(index):
            self.source = index
            self.tensors = _read_shards(directory, index)
        else:
            raise CheckpointError(
                "no weights",
                file=str(directory),
                expected=f"{SINGLE_FILE} or {INDEX_FILE}",
                found=contents(directory),
            )

    def array(self, name: str) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
        """Read-only array of a tensor: uint8 of a U8 one, uint16 (bit patterns) of a BF16 one.

        A view of the mapped file, except where BF16 data begin at an odd byte: those are copied, as
        reading them in place would be undefined behaviour in the core.
        """
        info = self.tensors[name]
        dtype = np.dtype(_STORAGE[info.dtype])
        count = math.prod(info.shape)
        if count == 0:
            return np.empty(info.shape, dtype)
        flat = np.frombuffer(self._map(info.file), dtype, count, info.begin)
        if not flat.flags.aligned:
            flat = flat.copy()
            flat.flags.writeable = False
        return flat.reshape(info.shape)

    def release_pages(self) -> None:
        """Take what was read of the files out of the process's memory; it can be read again."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for mapping in self._maps.values():
                mapping.madvise(mmap.MADV_DONTNEED)

    def _map(self, path: Path) -> mmap.mmap:
        if path not in self._maps:
            with open_regular(path) as (descriptor, size):
                end = max(info.end for info in self.tensors.values() if info.file == path)
                if size < end:  # replaced since its header was read
                    raise CheckpointError(
                        "file changed", file=str(path), expected=f"{end} bytes", found=str(size)
                    )
                try:
                    mapping = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
                except OSError as error:  # no address space left, or a file system without maps
                    raise OutOfMemoryError(
                        f"{path}: the system refused to map {size} bytes: {error.strerror}"
                    ) from error
                self._maps[path] = mapping
            if hasattr(mmap, "MADV_HUGEPAGE") and size >= _HUGE_PAGE_BYTES:
                # Linux then reads the file into huge pages, if its file system knows them, and a
                # core looks up a fraction of the translations: 15 to 20 % faster decoding.
                with contextlib.suppress(OSError):  # a kernel without huge pages
                    mapping.madvise(mmap.MADV_HUGEPAGE)
        return self._maps[path]


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Return the tensors of one safetensors file, every number in its header checked."""
    with open_regular(path) as (descriptor, size):
        if size < _LENGTH_BYTES:
            raise CheckpointError(
                "truncated", file=str(path), expected="at least 8 bytes", found=str(size)
            )
        length = int.from_bytes(read_exactly(descriptor, 0, _LENGTH_BYTES, path), "little")
        limit = min(_MAX_HEADER_BYTES, size - _LENGTH_BYTES)
        if length > limit:
            raise CheckpointError(
                "header length out of range",
                file=str(path),
                expected=f"<= {limit} bytes (the file has {size})",
                found=str(length),
            )
        header = parse_json_object(read_exactly(descriptor, _LENGTH_BYTES, length, path), path)
    header.pop("__metadata__", None)
    start = _LENGTH_BYTES + length
    tensors = {name: _tensor_info(path, name, entry, start) for name, entry in header.items()}
    _check_layout(path, tensors, start, size)
    return tensors


def _tensor_info(path: Path, name: str, entry: object, start: int) -> TensorInfo:
    def error(message: str, expected: str, found: object) -> CheckpointError:
        return CheckpointError(
            message, file=str(path), tensor=name, expected=expected, found=str(found)[:200]
        )

    if len(name) > _MAX_NAME or not name.isprintable():
        raise error("invalid name", f"at most {_MAX_NAME} printable characters", ascii(name))
    if not isinstance(entry, dict):
        raise error("invalid entry", "an object with dtype, shape, data_offsets", entry)
    dtype = entry.get("dtype")
    if not isinstance(dtype, str) or dtype not in _DTYPE_BYTES:
        raise error("unknown dtype", "one of " + " ".join(sorted(_DTYPE_BYTES)), dtype)
    shape = _sizes(entry.get("shape"))
    if shape is None or len(shape) > _MAX_RANK:
        expected = f"at most {_MAX_RANK} integers in 0..2**63-1"
        raise error("invalid shape", expected, entry.get("shape"))
    offsets = _sizes(entry.get("data_offsets"))
    if offsets is None or len(offsets) != 2:
        expected = "two integers in 0..2**63-1"
        raise error("invalid data_offsets", expected, entry.get("data_offsets"))
    begin, end = offsets
    if begin > end:
        raise error("data_offsets reversed", "begin <= end", offsets)
    needed = math.prod(shape) * _DTYPE_BYTES[dtype]  # Python integers: no overflow
    if end - begin != needed:
        detail = f"{needed} bytes for {dtype} of shape {shape}"
        raise error("data_offsets do not fit the shape", detail, f"{end - begin} bytes")
    return TensorInfo(path, dtype, shape, start + begin, start + end)


def _sizes(value: object) -> tuple[int, ...] | None:
    """The list as a tuple if it holds only non-negative 64-bit integers, otherwise None."""
    if not isinstance(value, list):
        return None
    # type() rather than isinstance: bool is an int in Python, not in JSON.
    return tuple(value) if all(type(n) is int and 0 <= n < 1 << 63 for n in value) else None


def _check_layout(path: Path, tensors: dict[str, TensorInfo], start: int, size: int) -> None:
    """Tensors must follow each other without gap or overlap from the header to the file's end."""
    position = start
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if info.begin != position:
            message = "tensors overlap" if info.begin < position else "gap between tensors"
            raise CheckpointError(
                message,
                file=str(path),
                tensor=name,
                expected=f"data_offsets from {position - start}",
                found=str(info.begin - start),
            )
        if info.end > size:
            raise CheckpointError(
                "data_offsets past the end: the file is truncated or its header wrong",
                file=str(path),
                tensor=name,
                expected=f"a file of at least {info.end} bytes",
                found=f"{size} bytes",
            )
        position = info.end
    if position != size:
        raise CheckpointError(
            "bytes after the last tensor",
            file=str(path),
            expected=f"a file of {position} bytes",
            found=f"{size} bytes",
        )


def _read_shards(directory: Path, index: Path) -> dict[str, TensorInfo]:
    weight_map = read_json_object(index, _MAX_HEADER_BYTES).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(
            "invalid index",
            file=str(index),
            tensor="weight_map",
            expected="an object of tensor names and file names",
            found=type(weight_map).__name__,
        )
    headers: dict[str, dict[str, TensorInfo]] = {}
    tensors: dict[str, TensorInfo] = {}
    for name, shard in weight_map.items():
        if not _is_file_name(shard):
            raise CheckpointError(
                "invalid shard name",
                file=str(index),
                tensor=name,
                expected="the name of a file beside the index",
                found=str(shard)[:200],
            )
        if shard not in headers:
            headers[shard] = _read_shard(directory / shard, index, name)
        if name not in headers[shard]:
            raise CheckpointError(
                "tensor missing from its shard",
                file=str(directory / shard),
                tensor=name,
                expected=f"the tensor here, as {INDEX_FILE} says",
                found=f"{len(headers[shard])} other tensors",
            )
        tensors[name] = headers[shard][name]
    return tensors


def _is_file_name(value: object) -> TypeGuard[str]:
    if not isinstance(value, str) or not 0 < len(value) < 256:
        return False
    return value.isprintable() and Path(value).name == value


def _read_shard(path: Path, index: Path, name: str) -> dict[str, TensorInfo]:
    if not os.path.lexists(path):
        raise CheckpointError(
            f"{index.name} names a missing file",
            file=str(path),
            tensor=name,
            expected="a file with this tensor",
            found="no such file",
        )
    return read_header(path)
