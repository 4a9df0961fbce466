"""Which directory a caller's `model` argument means, and what to call it."""

from __future__ import annotations

import os
from pathlib import Path

from motet.errors import ModelNotFoundError
from motet.resolve import resolve_model

BUNDLED = Path(__file__).parent / "bundled"


def locate(model: str | os.PathLike[str] | None) -> tuple[Path, str]:
    """(directory, name) of a directory, a repository's name or, for None, the bundled model.

    Raises ModelNotFoundError.
    """
    if model is not None:
        directory = resolve_model(model)
        return directory, display_name(model, directory)
    if not (BUNDLED / "config.json").is_file():
        raise ModelNotFoundError(f"this installation has no bundled model in {BUNDLED}")
    return BUNDLED, "motet-bundled"


def display_name(model: str | os.PathLike[str], directory: Path) -> str:
    """A repository's name as given; a directory by its last part."""
    given = os.fspath(model)
    is_directory = os.path.isdir(os.path.expanduser(given))
    return directory.resolve().name if is_directory else given
