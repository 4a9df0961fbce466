"""What `LLM` offers to asyncio: the same calls and outputs, in any event loop, without threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack, cast

from motet.generation import acollect
from motet.requests import STREAM_WINDOW, Requests
from motet.results import ChatCompletion, Completion
from motet.stream import AsyncStream

if TYPE_CHECKING:
    from motet.options import ChatOptions, GenerateOptions, Messages, Prompt
    from motet.sampling import SamplingParams


class AsyncCalls:
    """Cancelling the task that waits, asyncio.timeout included, cancels the request."""

    _requests: Requests

    async def agenerate(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Completion:
        """As `generate` for one prompt."""
        return await acollect(self._requests.generate(prompt, params, options))

    def astream(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        **options: Unpack[GenerateOptions],
    ) -> AsyncStream:
        """As `stream`. The request is submitted at once, reading may begin later."""
        return AsyncStream(self._requests.generate(prompt, params, options, window=STREAM_WINDOW))

    async def achat(self, messages: Messages, **options: Unpack[ChatOptions]) -> ChatCompletion:
        """As `chat`."""
        return cast(ChatCompletion, await acollect(self._requests.chat(messages, options)))

    def achat_stream(self, messages: Messages, **options: Unpack[ChatOptions]) -> AsyncStream:
        """As `chat_stream`. The request is submitted at once, reading may begin later."""
        return AsyncStream(self._requests.chat(messages, options, window=STREAM_WINDOW))
