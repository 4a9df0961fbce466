"""What the engine counts, for programs and for Prometheus."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from motet.errors import InvalidRequestError

# What may fall again: requests and pages of the moment. All others only grow.
_GAUGES = ("requests_running", "requests_waiting", "full_pages", "sliding_pages")
# The label that tells a group's members apart.
_LABELS = {"requests_finished": "finish"}
# Prometheus' habits: names by what is counted, seconds as the unit.
_NAMES = {"requests_finished": "requests"}


class Metrics(Mapping[str, Any]):
    """Counts and times since the model was loaded, at one moment.

    A mapping: a name's value is a number, a group of numbers by label, or a histogram as a dict of
    "buckets" [(upper bound, how many up to it)], "sum" and "count". Times are in seconds.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Metrics({self._values!r})"

    def prometheus(self, labels: Mapping[str, str] | None = None) -> str:
        """All of it in Prometheus' text format; `labels`, such as the model's name, on each line.

        Serve it as "text/plain; version=0.0.4".
        """
        base = {_label(key): str(text) for key, text in (labels or {}).items()}
        lines: list[str] = []
        for key, value in self._values.items():
            name = f"motet_{_NAMES.get(key, key)}"
            if isinstance(value, Mapping) and "buckets" in value:
                lines += [f"# TYPE {name} histogram", *_histogram(name, value, base)]
                continue
            kind = "gauge" if key.startswith(_GAUGES) else "counter"
            name += "_total" if kind == "counter" else ""
            lines.append(f"# TYPE {name} {kind}")
            if isinstance(value, Mapping):
                label = _LABELS.get(key, "kind")
                lines += [_line(name, {**base, label: str(k)}, v) for k, v in value.items()]
            else:
                lines.append(_line(name, base, value))
        return "\n".join(lines) + "\n"


def _label(name: str) -> str:
    if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name):
        raise InvalidRequestError(
            f"labels: expected names of letters, digits and _, found {name!r}", param="labels"
        )
    return name


def _histogram(name: str, value: Mapping[str, Any], base: Mapping[str, str]) -> Iterator[str]:
    bounds = [bound for bound, _ in value["buckets"] if bound != math.inf]
    counts = [count for bound, count in value["buckets"] if bound != math.inf]
    for bound, count in zip([*bounds, math.inf], [*counts, value["count"]], strict=True):
        yield _line(f"{name}_bucket", {**base, "le": _number(bound)}, count)
    yield _line(f"{name}_sum", base, value["sum"])
    yield _line(f"{name}_count", base, value["count"])


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{inside}}} {_number(value)}" if inside else f"{name} {_number(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return "+Inf" if value == math.inf else str(value)
