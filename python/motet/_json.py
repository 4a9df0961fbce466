"""Strict JSON objects, and checked access to their values."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from motet.errors import CheckpointError

JsonObject = dict[str, object]


def parse_json_object(data: bytes, path: Path) -> JsonObject:
    """Parse UTF-8 JSON into a dict; a duplicate key, which `json` would drop, is an error."""

    def unique(pairs: list[tuple[str, object]]) -> JsonObject:
        result = dict(pairs)
        if len(result) != len(pairs):
            counts = Counter(key for key, _ in pairs)
            twice, count = counts.most_common(1)[0]
            raise CheckpointError(
                "duplicate key", file=str(path), tensor=twice, expected="one", found=str(count)
            )
        return result

    expected = "a JSON object in UTF-8"
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=unique)
    except CheckpointError:
        raise
    except RecursionError as error:
        raise CheckpointError(
            "invalid JSON", file=str(path), expected=expected, found="nesting too deep"
        ) from error
    except ValueError as error:  # also undecodable UTF-8 and integers of more than 4300 digits
        raise CheckpointError(
            "invalid JSON", file=str(path), expected=expected, found=str(error)
        ) from error
    if not isinstance(value, dict):
        found = f"a JSON {type(value).__name__}"
        raise CheckpointError("invalid JSON", file=str(path), expected=expected, found=found)
    return value


class JsonReader:
    """Checked access to one JSON object; errors name the file and the key, after `prefix`."""

    def __init__(self, values: Mapping[str, object], path: Path, prefix: str = "") -> None:
        self.values = values
        self.path = path
        self.prefix = prefix

    def error(self, key: str, expected: str, found: object) -> CheckpointError:
        return CheckpointError(
            "invalid configuration",
            file=str(self.path),
            tensor=self.prefix + key,
            expected=expected,
            found=show(found),
        )

    def get(self, *spellings: str) -> object:
        """The value under any of the spellings; JSON's null counts as absent (None)."""
        present = [(key, self.values[key]) for key in spellings if self.values.get(key) is not None]
        for key, value in present[1:]:
            if value != present[0][1]:
                expected = f"{show(present[0][1])}, as {present[0][0]} says"
                raise self.error(key, expected, value)
        return present[0][1] if present else None

    def integer(self, *spellings: str, low: int = 1, high: int, default: int | None = None) -> int:
        value = self.get(*spellings)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.error(spellings[0], f"an integer in {low}..{high}", value)
        return value

    def number(self, key: str, *, low: float, high: float, default: float | None = None) -> float:
        value = self.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error(key, "a number", value)
        if not low <= value <= high:  # also false for NaN
            raise self.error(key, f"a number in {low}..{high}", value)
        return float(value)

    def only(self, key: str, supported: object, *, required: bool = False) -> None:
        """Refuse every value but one: this engine computes nothing else."""
        value = self.get(key)
        if value is None and not required:
            return
        # In Python 1 == True, in JSON it is not.
        if value != supported or isinstance(value, bool) != isinstance(supported, bool):
            raise self.error(key, show(supported), value)


def show(value: object) -> str:
    """JSON's words for a value, cut short: a hostile file must not fill the terminal."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
