"""What a call gives back: plain, frozen records, and the errors that reading them can raise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from motet.errors import MotetError

if TYPE_CHECKING:
    from motet import harmony

Finish = Literal["stop", "length", "tool_calls", "cancelled", "error"]


class InvalidToolArguments(MotetError, ValueError):
    """The model wrote arguments that are not JSON."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token with its natural-log probability before temperature; `top` holds the likeliest."""

    token_id: int
    token: str
    bytes: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts; `reasoning_tokens` are part of `completion_tokens`."""

    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cached_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds, by a monotonic clock, and the rates that follow from them.

    `queue_s` from the call to the first step that served it, `prefill_s` from there to the first
    token, `ttft_s` from the call to the first token (0 if there is none), `decode_s` from the first
    to the last token.
    `prefill_tps` counts the prompt's tokens that were computed, not those from the cache.
    """

    queue_s: float
    prefill_s: float
    ttft_s: float
    decode_s: float
    prefill_tps: float
    decode_tps: float


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function or a builtin tool; `arguments` is the text as the model wrote it."""

    id: str
    name: str
    arguments: str

    def json(self) -> Any:
        """The parsed arguments; raises InvalidToolArguments."""
        try:
            return json.loads(self.arguments)
        except (ValueError, RecursionError) as error:
            raise InvalidToolArguments(
                f"arguments of {self.name}: expected JSON, found {self.arguments!r}: {error}"
            ) from error


@dataclass(frozen=True, slots=True)
class Completion:
    """The result of `LLM.generate`.

    `token_ids` are all tokens generated, the one that stopped it included. `text` has neither
    special tokens nor, unless asked for, the stop string. `stop_reason` is the stop string or the
    id out of `stop_token_ids` that ended it, None for the model's own end, "timeout" for an answer
    that was cancelled by its timeout. `alternatives` are the other samples where n > 1 were asked
    for; each counts the prompt, which is computed once, in its own usage.
    """

    text: str
    token_ids: list[int]
    finish_reason: Finish
    stop_reason: str | int | None
    usage: Usage
    timings: Timings
    index: int = 0
    logprobs: list[TokenLogprob] | None = None
    prompt_logprobs: list[TokenLogprob | None] | None = None
    alternatives: tuple[Completion, ...] = ()

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class ChatCompletion(Completion):
    """The result of `LLM.chat`.

    `text` is what the user is to read: the final channel, and what the model says before it calls a
    tool. `reasoning` is the analysis channel. `messages` are all that the model wrote, to be
    appended to the conversation to go on with it.
    """

    reasoning: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    messages: list[harmony.Message] = field(default_factory=list)
    id: str = ""
    created: int = 0
    model: str = ""

    # A dataclass with slots makes a new class, so each one states its own.
    def __str__(self) -> str:
        return self.text

    def to_openai(self) -> dict[str, Any]:
        """The body of OpenAI's `/v1/chat/completions`, with `message.reasoning` beside it."""
        samples = (self, *self.alternatives)
        n_new = sum(sample.usage.completion_tokens for sample in samples)
        n_reasoning = sum(sample.usage.reasoning_tokens for sample in samples)
        usage = {
            "prompt_tokens": self.usage.prompt_tokens,
            "completion_tokens": n_new,
            "total_tokens": self.usage.prompt_tokens + n_new,
            "prompt_tokens_details": {"cached_tokens": self.usage.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": n_reasoning},
        }
        return {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [_openai_choice(sample) for sample in samples],
            "usage": usage,
        }


def _openai_choice(sample: Completion) -> dict[str, Any]:
    assert isinstance(sample, ChatCompletion)
    message: dict[str, Any] = {"role": "assistant", "content": sample.text or None}
    if sample.reasoning:
        message["reasoning"] = sample.reasoning
    if sample.tool_calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in sample.tool_calls
        ]
    elif not sample.text:
        message["content"] = ""
    return {
        "index": sample.index,
        "message": message,
        "logprobs": None
        if sample.logprobs is None
        else {"content": [_openai_logprob(entry) for entry in sample.logprobs]},
        # OpenAI's enumeration has no word for a cancelled answer.
        "finish_reason": "stop" if sample.finish_reason == "cancelled" else sample.finish_reason,
    }


def _openai_logprob(entry: TokenLogprob) -> dict[str, Any]:
    def one(item: TokenLogprob) -> dict[str, Any]:
        return {"token": item.token, "logprob": item.logprob, "bytes": list(item.bytes)}

    return {**one(entry), "top_logprobs": [one(item) for item in entry.top]}


@dataclass(frozen=True, slots=True)
class Delta:
    """One step of a stream. `token_ids` of all deltas, the "end" included, make up the result's.

    `index` is the sample's where n > 1 were asked for. `result`, on "end" only, is that sample's.
    """

    kind: Literal["reasoning", "text", "tool_call", "end"]
    text: str = ""
    token_ids: tuple[int, ...] = ()
    index: int = 0
    tool_call: ToolCall | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None
    result: ChatCompletion | Completion | None = None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What was loaded: `bytes` of weights as stored, and the `isa` of the kernels that run them.

    `memory` is the plan, in bytes: "weights", which on the CPU are mapped and may be read again
    from disk, "kv_cache" and "workspace", which there includes what is made of the weights at load.
    The cache is filled as it is needed and then stays.
    """

    name: str
    n_params: int
    n_layers: int
    max_context: int
    device: str
    dtype: str
    bytes: int
    isa: str
    threads: int
    memory: Mapping[str, int]
