"""The iterator that `LLM.stream` and `LLM.chat_stream` give."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from motet.generation import Generation
from motet.results import ChatCompletion, Completion, Delta


class Stream(Iterator[Delta]):
    """Deltas as they are computed, the last of kind "end" with the result.

    Tokens are computed while somebody reads. Leaving `with`, `close()` or dropping the stream stops
    the computation and frees its cache.
    """

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._pending: deque[Delta] = deque()

    def __next__(self) -> Delta:
        if not self._pending:
            self._pending.extend(self._generation.advance())
        if not self._pending:
            raise StopIteration
        return self._pending.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if generation := getattr(self, "_generation", None):  # absent if __init__ was interrupted
            generation.cancel()

    def cancel(self) -> None:
        """Stops the computation, from any thread; the next delta is "end" with what has come."""
        self._generation.cancel()

    def close(self) -> None:
        """Stops the computation and ends the iteration at once. Does nothing after the end."""
        self._generation.cancel()
        self._generation.end("cancelled")
        self._pending.clear()

    def result(self) -> ChatCompletion | Completion:
        """Reads to the end and gives the whole result; after `close()`, what had come by then."""
        for _ in self:
            pass
        result = self._generation.result
        assert result is not None  # the iteration above ended
        return result

    @property
    def text_stream(self) -> Iterator[str]:
        """Only the visible text, piece by piece."""
        return (delta.text for delta in self if delta.kind == "text")
