"""A conversation that is kept from turn to turn."""

from __future__ import annotations

import datetime
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, cast

from motet.errors import InvalidRequestError
from motet.harmony.messages import Message
from motet.options import SamplingOptions
from motet.requests import STREAM_WINDOW, Requests
from motet.results import ChatCompletion, Completion
from motet.stream import AsyncStream, OnEnd, Stream

if TYPE_CHECKING:
    from motet.options import ChatOptions

ChatMessage = Mapping[str, Any] | Message
AnyStream = TypeVar("AnyStream", Stream, AsyncStream)
_SAMPLING = SamplingOptions.__annotations__.keys()
Turn = str | ChatMessage | Sequence[ChatMessage]


class Session:
    """A conversation with a model: each turn sees all earlier ones. Made by `LLM.session`.

    Nothing is pinned: what turns and forks share lies in the prefix cache as long as there is room,
    so that only what is new is computed. A turn is a user's text, a message, or several, such as
    the results of tools. It counts once it has ended well: one that fails, is cancelled, times out
    or is not read to its end leaves the conversation as it was. One turn at a time: another
    raises InvalidRequestError (code "session_busy") while an answer is being given; `fork()` first.
    """

    def __init__(
        self, requests: Requests, messages: Sequence[ChatMessage], options: Mapping[str, Any]
    ) -> None:
        self._requests = requests
        self._messages = list(messages)
        # A date that changed at midnight would make all of the prompt new.
        self._options = {"date": datetime.date.today().isoformat(), **options}
        self._lock = threading.Lock()
        self._turn: weakref.ref[Stream | AsyncStream] | None = None

    @property
    def messages(self) -> list[ChatMessage]:
        """A copy of the conversation so far, as `LLM.chat` takes it."""
        return list(self._messages)

    def send(self, message: Turn, **options: Unpack[ChatOptions]) -> ChatCompletion:
        """The answer; `options` as in `LLM.chat`, for this turn, before the session's own."""
        with self.stream(message, **options) as stream:
            return cast(ChatCompletion, stream.result())

    def stream(self, message: Turn, **options: Unpack[ChatOptions]) -> Stream:
        """As `send`, delta by delta."""
        return self._start(Stream, message, options)

    async def asend(self, message: Turn, **options: Unpack[ChatOptions]) -> ChatCompletion:
        """As `send`, for asyncio."""
        async with self.astream(message, **options) as stream:
            return cast(ChatCompletion, await stream.result())

    def astream(self, message: Turn, **options: Unpack[ChatOptions]) -> AsyncStream:
        """As `stream`, for asyncio."""
        return self._start(AsyncStream, message, options)

    def fork(self) -> Self:
        """Another session that goes on from the turns ended so far."""
        return type(self)(self._requests, self._messages, self._options)

    def _start(self, kind: type[AnyStream], message: Turn, options: Any) -> AnyStream:
        with self._lock:
            turn = None if self._turn is None else self._turn()
            if turn is not None and not turn.ended:
                raise InvalidRequestError(
                    "session: expected no answer in progress, found one: read it to its end,"
                    " close it, or fork() the session",
                    param="session",
                    code="session_busy",
                )
            conversation = [*self._messages, *_as_messages(message)]
            generation = self._requests.chat(
                conversation, self._merged(options), window=STREAM_WINDOW
            )
            stream = kind(generation, self._keep(conversation))
            self._turn = weakref.ref(stream)
        return stream

    def _merged(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """A turn's options and the session's; `params` are all sampling parameters at once."""
        own = self._options
        if options.get("params") is not None:
            own = {key: value for key, value in own.items() if key not in _SAMPLING}
        return {**own, **options}

    def _keep(self, conversation: list[ChatMessage]) -> OnEnd:
        def keep(result: Completion) -> None:
            if result.finish_reason not in ("cancelled", "error"):
                answer = cast(ChatCompletion, result).messages
                self._messages = [*conversation, *answer]

        return keep


def _as_messages(message: Turn) -> list[ChatMessage]:
    if isinstance(message, str):
        return [{"role": "user", "content": message}]
    if isinstance(message, Mapping | Message):
        return [message]
    if isinstance(message, Sequence):
        return list(cast("Sequence[ChatMessage]", message))
    raise InvalidRequestError(
        f"message: expected text, a message or several, found {type(message).__name__}",
        param="message",
    )
