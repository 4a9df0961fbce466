"""Sampling defaults that a checkpoint's author recommends, from generation_config.json."""

from __future__ import annotations

from pathlib import Path

from motet._files import read_json_object
from motet._json import JsonReader

_MAX_BYTES = 1 << 20
_RANGES = {
    "temperature": (0.0, 100.0),
    "top_p": (1e-30, 1.0),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.01, 100.0),
}


def sampling_defaults(directory: Path) -> dict[str, float | int]:
    """What holds where a call gives neither `params` nor the argument itself.

    `do_sample: false` means temperature 0. Malformed values raise CheckpointError.
    """
    path = directory / "generation_config.json"
    if not path.exists():
        return {}
    reader = JsonReader(read_json_object(path, _MAX_BYTES), path)
    sample = reader.get("do_sample")
    if sample is not None and not isinstance(sample, bool):
        raise reader.error("do_sample", "true or false", sample)
    defaults: dict[str, float | int] = {
        key: reader.number(key, low=low, high=high)
        for key, (low, high) in _RANGES.items()
        if reader.get(key) is not None
    }
    if reader.get("top_k") is not None:
        defaults["top_k"] = reader.integer("top_k", low=0, high=1 << 24)
    return {"temperature": 0.0} if sample is False else defaults
