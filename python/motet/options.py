"""The keywords of calls: names, types and meanings, in one place for all calls that take them."""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Self, TypedDict

from motet.errors import InvalidRequestError
from motet.harmony.messages import Message

if TYPE_CHECKING:
    from motet.harmony.builtin import BuiltinTool
    from motet.harmony.messages import Effort
    from motet.harmony.tools import Tool, ToolChoice
    from motet.sampling import LogitsProcessor, SamplingParams

Prompt = str | Sequence[int]  # text, in which special tokens are not parsed, or token ids
Messages = str | Sequence[Mapping[str, Any] | Message]


class SamplingOptions(TypedDict, total=False):
    """The fields of SamplingParams, which explains them."""

    max_tokens: int | None
    min_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int | None
    stop: str | Sequence[str]
    stop_token_ids: Sequence[int]
    include_stop_str_in_output: bool
    ignore_eos: bool
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float
    logit_bias: Mapping[int, float] | None
    logprobs: int | None
    prompt_logprobs: int | None
    logits_processor: LogitsProcessor | None
    n: int


class GenerateOptions(SamplingOptions, total=False):
    """What `generate` and its kin take beside `params`.

    timeout: seconds after which a request ends with what has come, its finish_reason "cancelled"
        and its stop_reason "timeout".
    cache_salt: requests share the cached prefixes of prompts only with the same salt. Give each
        tenant its own, and none can find out by timing what others asked.
    prediction: text or ids that the answer is likely to repeat in part, such as the file to be
        edited. Used only by a model loaded with `speculation`; it never changes the answer.
    """

    timeout: float | None
    cache_salt: str | None
    prediction: Prompt | None


class RenderOptions(TypedDict, total=False):
    """What shapes a chat's prompt.

    tools: OpenAI dicts or Python functions. tool_choice: may force a call.
    builtin_tools: "browser" and "python", as the model knows them.
    reasoning_effort: "low", "medium" (the default) or "high".
    date: what the system message tells; default: today.
    response_format: OpenAI's dict, a JSON Schema or a pydantic class; shown to the model, which is
        not forced to follow it.
    """

    tools: Sequence[Tool]
    tool_choice: ToolChoice
    builtin_tools: Sequence[BuiltinTool]
    reasoning_effort: Effort
    date: str | None
    response_format: Mapping[str, Any] | type | None


class ChatOptions(GenerateOptions, RenderOptions, total=False):
    """What `chat` and its kin take. params: sampling parameters; those given by name go before."""

    params: SamplingParams | None


@dataclass(frozen=True, slots=True)
class Call:
    """The keywords of one call, sorted by who needs them and checked but for `sampling`."""

    render: dict[str, Any]
    params: SamplingParams | None
    sampling: dict[str, Any]
    timeout: float  # seconds, infinite for none
    cache_salt: int
    prediction: Prompt | None

    @classmethod
    def of(
        cls,
        options: Mapping[str, Any],
        params: SamplingParams | None = None,
        *,
        render: frozenset[str] = frozenset(),
    ) -> Self:
        """Raises InvalidRequestError. `render`: the names that shape the prompt. Unknown names end
        in `sampling`, which refuses them."""
        rest = dict(options)
        return cls(
            render={key: rest.pop(key) for key in render & rest.keys()},
            params=rest.pop("params", None) if params is None else params,
            timeout=_seconds("timeout", rest.pop("timeout", None)),
            cache_salt=_salt(rest.pop("cache_salt", None)),
            prediction=rest.pop("prediction", None),
            sampling=rest,
        )


RENDER_OPTIONS = frozenset(RenderOptions.__annotations__)
_FOREVER_S = 1e9  # the engine's clock could not tell it from never
_SALT_KEY = secrets.token_bytes(32)


def _seconds(param: str, value: Any) -> float:
    if value is None:
        return math.inf
    is_number = isinstance(value, Real) and not isinstance(value, bool)  # numpy's included
    if not is_number or not value > 0:
        raise InvalidRequestError(
            f"{param}: expected a positive number of seconds, found {value!r}", param=param
        )
    return float(value) if value < _FOREVER_S else math.inf


def _salt(value: Any) -> int:
    """64 bits, 0 for none. Keyed, so that nobody can choose a salt that meets another one's."""
    if value is None:
        return 0
    if not isinstance(value, str):
        raise InvalidRequestError(
            f"cache_salt: expected text, found {type(value).__name__}", param="cache_salt"
        )
    digest = hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8, key=_SALT_KEY)
    return int.from_bytes(digest.digest(), "little") or 1
