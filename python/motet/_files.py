"""Opening and reading a checkpoint's files without trusting them: bounded, never blocking."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from motet._json import JsonObject, parse_json_object
from motet.errors import CheckpointError


@contextmanager
def open_regular(path: Path) -> Iterator[tuple[int, int]]:
    """Yield (descriptor, size in bytes) of a regular file; anything else is a CheckpointError.

    A FIFO or device named like a checkpoint file must not block, hence O_NONBLOCK and the check
    after opening.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise CheckpointError(
            "can't open", file=str(path), expected="a readable file", found=_describe(error, path)
        ) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(
                "can't read", file=str(path), expected="a regular file", found=_kind(status.st_mode)
            )
        yield descriptor, status.st_size
    finally:
        os.close(descriptor)


def read_exactly(descriptor: int, offset: int, count: int, path: Path) -> bytes:
    """Return `count` bytes at `offset`; fewer, or a failing disk, is a CheckpointError."""
    try:
        os.lseek(descriptor, offset, os.SEEK_SET)
        parts: list[bytes] = []
        missing = count
        while missing and (part := os.read(descriptor, missing)):
            parts.append(part)
            missing -= len(part)
    except OSError as error:
        raise CheckpointError(
            "can't read", file=str(path), expected=f"{count} bytes", found=_describe(error, path)
        ) from error
    if missing:
        raise CheckpointError(
            "file too short", file=str(path), expected=f"{count} bytes", found=f"{count - missing}"
        )
    return b"".join(parts)


def read_json_object(path: Path, max_bytes: int) -> JsonObject:
    """Return the JSON object that a file of at most `max_bytes` holds."""
    with open_regular(path) as (descriptor, size):
        if size > max_bytes:
            raise CheckpointError(
                "file too large", file=str(path), expected=f"<= {max_bytes} bytes", found=str(size)
            )
        return parse_json_object(read_exactly(descriptor, 0, size, path), path)


def contents(directory: Path) -> str:
    """What a directory holds, in a few words for an error message."""
    try:
        names = sorted(entry.name for entry in directory.iterdir())
    except OSError as error:
        return error.strerror or str(error)
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return shown or "an empty directory"


def _describe(error: OSError, path: Path) -> str:
    if error.errno == errno.ELOOP:
        return "a symbolic link loop"
    if error.errno == errno.ENOENT:
        return "a dangling symbolic link" if path.is_symlink() else "no such file"
    return error.strerror or str(error)


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
    )
    return next((name for test, name in kinds if test(mode)), "a device")
