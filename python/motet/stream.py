"""The iterators that streaming calls give, for threads and for asyncio."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from motet.errors import MotetError
from motet.generation import Generation
from motet.results import ChatCompletion, Completion, Delta

if TYPE_CHECKING:
    from motet import _core

OnEnd = Callable[[Completion], None]


class _Reading:
    """What both kinds of stream do but wait: events become deltas."""

    def __init__(self, generation: Generation, on_end: OnEnd | None = None) -> None:
        """`on_end` is called with the result before the last "end" is given out."""
        self._generation = generation
        self._on_end = on_end
        self._pending: deque[Delta] = deque()
        self._cancelled = False
        self._closed = False
        self._has_reader = False  # at this moment

    @property
    def ended(self) -> bool:
        """Whether nothing more is computed; deltas may still be there to read."""
        return self._cancelled or self._generation.ended

    def cancel(self) -> None:
        """Stops the computation, from any thread; the next delta is "end" with what has come."""
        self._cancelled = True
        self._generation.release()
        self._generation.mailbox.end()

    def _check_reader(self) -> None:
        """Raises if another one reads: of two that wait for an event, one would wait for ever."""
        if self._has_reader:
            raise MotetError("the stream is being read: expected one reader at a time")

    def _next(self) -> Delta | None:
        """The next delta of what has come; None: there is none, or not yet."""
        generation = self._generation
        if self._closed:
            self._discard()
        while not self._pending and not generation.ended:
            if self._cancelled:
                self._end()
            elif generation.mailbox.queue.empty():
                generation.check_wait()  # whoever got None waits now
                return None
            else:
                self._take(generation.mailbox.queue.get_nowait())
        return self._pending.popleft() if self._pending else None

    def _take(self, event: _core.Event | None) -> None:
        if not self._cancelled:
            self._pending.extend(self._generation.take(event))
            self._tell()

    def _end(self) -> None:
        """Gives the request up; the end is the only delta left."""
        if not self._generation.ended:
            self._pending.extend(self._generation.end("cancelled"))
            self._tell()

    def _discard(self) -> None:
        self._end()
        self._pending.clear()

    def _close(self) -> None:
        self._closed = True
        self.cancel()
        if not self._has_reader:  # otherwise the reader does it, whom this woke
            self._discard()

    def _tell(self) -> None:
        if self._on_end is not None and self._generation.ended:
            on_end, self._on_end = self._on_end, None
            on_end(self._generation.result)


class Stream(_Reading, Iterator[Delta]):
    """Deltas as they are computed, the last of kind "end" with the result.

    With n > 1 those of all samples mix, `index` tells whose one is, and each sample has its "end".
    The model computes a little ahead of the reader, then waits for it. Leaving `with`, `close()` or
    dropping the stream stops the computation and frees its cache. For one reader at a time.
    """

    def __next__(self) -> Delta:
        self._check_reader()
        try:
            self._has_reader = True
            while (delta := self._next()) is None and not self._generation.ended:
                self._take(self._generation.mailbox.get())
        except BaseException:  # an interrupt
            self._discard()
            raise
        finally:
            self._has_reader = False
        if delta is None:
            raise StopIteration
        return delta

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stops the computation and ends the iteration at once, also for a reader that waits.

        Does nothing after the end.
        """
        self._close()

    def result(self) -> ChatCompletion | Completion:
        """Reads to the end and gives the whole result; after `close()`, what had come by then."""
        for _ in self:
            pass
        return self._generation.result

    @property
    def text_stream(self) -> Iterator[str]:
        """Only the visible text, of sample 0, piece by piece."""
        return (delta.text for delta in self if delta.kind == "text" and delta.index == 0)


class AsyncStream(_Reading, AsyncIterator[Delta]):
    """As `Stream`, for asyncio. Cancelling the task that waits for a delta stops the computation.

    It may be read in any event loop, by one task at a time.
    """

    async def __anext__(self) -> Delta:
        self._check_reader()
        try:
            self._has_reader = True
            await self._generation.mailbox.pause()
            while (delta := self._next()) is None and not self._generation.ended:
                self._take(await self._generation.mailbox.aget())
        except BaseException:  # the task was cancelled
            self._discard()
            raise
        finally:
            self._has_reader = False
        if delta is None:
            raise StopAsyncIteration
        return delta

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    async def aclose(self) -> None:
        """Stops the computation and ends the iteration at once, also for a reader that waits.

        Does nothing after the end.
        """
        self._close()

    async def result(self) -> ChatCompletion | Completion:
        """Reads to the end and gives the whole result; after `aclose()`, what had come by then."""
        async for _ in self:
            pass
        return self._generation.result

    @property
    def text_stream(self) -> AsyncIterator[str]:
        """Only the visible text, of sample 0, piece by piece."""
        return self._texts()

    async def _texts(self) -> AsyncIterator[str]:
        async for delta in self:
            if delta.kind == "text" and delta.index == 0:
                yield delta.text
