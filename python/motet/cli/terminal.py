"""An answer as it comes: text on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from typing import TextIO

from motet.results import Completion, Delta
from motet.stream import Stream

_DIM, _RESET = "\x1b[2m", "\x1b[0m"


def use_color(stream: TextIO) -> bool:
    """Whether to send colours: a terminal that was not told otherwise (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Printer:
    """Prints deltas; the answer alone goes to stdout."""

    def __init__(self) -> None:
        self._color = use_color(sys.stderr)
        self._reasoning_open = False
        self._at_line_start = True

    def show(self, delta: Delta) -> None:
        if delta.kind == "reasoning":
            if not self._reasoning_open and self._color:
                sys.stderr.write(_DIM)
            self._reasoning_open = True
            sys.stderr.write(delta.text)
            sys.stderr.flush()
        elif delta.kind == "text":
            self.end_reasoning()
            self._answer(delta.text)
        elif delta.tool_call is not None:
            self.end_reasoning()
            call = {"name": delta.tool_call.name, "arguments": delta.tool_call.arguments}
            self._answer(json_line(call) + "\n")

    def end(self) -> None:
        """Closes the last line."""
        self.end_reasoning()
        if not self._at_line_start:
            self._answer("\n")

    def end_reasoning(self) -> None:
        if self._reasoning_open:
            sys.stderr.write(f"{_RESET}\n" if self._color else "\n")
            sys.stderr.flush()
            self._reasoning_open = False

    def _answer(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
        self._at_line_start = text.endswith("\n")


def print_stream(stream: Stream) -> Completion:
    """Prints a whole answer; an interrupt leaves the terminal in order and passes through."""
    printer = Printer()
    try:
        with stream:
            for delta in stream:
                printer.show(delta)
    finally:
        printer.end()
    return stream.result()


def json_line(value: object) -> str:
    """JSON for stdout; what its encoding lacks is escaped, where text would get a "?"."""
    line = json.dumps(value, ensure_ascii=False)
    try:
        line.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return json.dumps(value)
    return line


def stats_line(result: Completion) -> str:
    """Counts and speeds of an answer."""
    usage, timings = result.usage, result.timings
    return (
        f"{usage.prompt_tokens} prompt tokens at {timings.prefill_tps:.1f} tok/s, "
        f"{usage.completion_tokens} generated ({usage.reasoning_tokens} reasoning) "
        f"at {timings.decode_tps:.1f} tok/s, first token after {timings.ttft_s:.3f} s, "
        f"finish: {result.finish_reason}"
    )


def size(n_bytes: int) -> str:
    """Bytes for a reader."""
    unit, name = (2**30, "GiB") if n_bytes >= 2**30 else (2**20, "MiB")
    return f"{n_bytes / unit:.2f} {name}"


def count(n: int) -> str:
    """A number of parameters for a reader."""
    unit, name = (10**9, "B") if n >= 10**9 else (10**6, "M")
    return f"{n / unit:.2f} {name}"
