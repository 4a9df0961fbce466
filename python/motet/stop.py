"""Stop strings, matched in text that arrives in pieces."""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Finds the first of `stops` in the text pushed so far and lets no part of a match out early.

    Of the stop strings that end first, the one that starts first wins.
    """

    def __init__(self, stops: Sequence[str], *, include: bool = False) -> None:
        self._stops = tuple(stops)
        self._include = include
        self._held = ""
        self.matched: str | None = None

    def push(self, text: str) -> str:
        """The text that is now certain to be visible; "" for good once `matched` is set."""
        if self.matched is not None:
            return ""
        held = self._held + text
        if hit := self._first_match(held):
            start, self.matched = hit
            self._held = ""
            return held[: start + len(self.matched)] if self._include else held[:start]
        keep = self._unfinished(held)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def flush(self) -> str:
        """The text still held: at the end of the stream it can't become a stop string any more."""
        held, self._held = self._held, ""
        return held

    def _first_match(self, text: str) -> tuple[int, str] | None:
        """(start, stop string) of the match that ends first, as one character at a time would."""
        hits = ((at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0)
        first = min(hits, default=None)
        return None if first is None else first[1:]

    def _unfinished(self, text: str) -> int:
        """The length of the longest end of `text` that begins a stop string."""
        longest = max(map(len, self._stops), default=1) - 1
        return next(
            (
                n
                for n in range(min(longest, len(text)), 0, -1)
                if any(stop.startswith(text[-n:]) for stop in self._stops)
            ),
            0,
        )
