"""What a request may ask of the sampler: names, defaults, validation. Drawing happens in the core.

The order in which the steps apply is documented in csrc/ops/sample.h.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from motet import _core
from motet.errors import InvalidRequestError

if TYPE_CHECKING:
    import numpy.typing as npt

LogitsProcessor = Callable[[Sequence[int], "npt.NDArray[np.float32]"], "npt.ArrayLike | None"]

MAX_STOP_STRINGS = 64
MAX_LOGPROBS = 20
MAX_SAMPLES = 128
_MAX_INT = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How tokens are drawn and when to stop. Names and defaults are vLLM's and OpenAI's.

    Raises InvalidRequestError, whose `param` is the field's name, for a value of the wrong type or
    outside its range, and TypeError for an unknown name. Values are stored as plain Python numbers
    and tuples, whatever they were given as.

    max_tokens: at most this many new tokens; None: to the end of the context. 0 only scores the
        prompt (`prompt_logprobs`).
    min_tokens: no end-of-sequence token, stop token or stop string counts before this many.
    temperature: 0 (in effect: below 1e-5) is greedy, ties to the lower token id.
    top_p, top_k, min_p: keep the most likely tokens holding `top_p` of the probability, at most
        `top_k` of them (0: off), each at least `min_p` times as likely as the likeliest.
    seed: the same seed and prompt give the same tokens, alone or in a batch.
    stop: these strings end the visible text. stop_token_ids: these tokens end the request.
    include_stop_str_in_output: whether the stop string or token is part of the text.
    ignore_eos: the model's own end-of-sequence tokens do not end the request.
    presence_penalty, frequency_penalty: subtracted from the logits of tokens in the output, once,
        and as often as they occur. repetition_penalty: divides (negative: multiplies) the logits of
        tokens in prompt or output.
    logit_bias: added to the logits of these token ids.
    logprobs, prompt_logprobs: report log-probabilities, of the unmodified distribution, with this
        many alternatives for each token of the output, of the prompt.
    logits_processor: called as f(token_ids, logits) before each draw, with the prompt and output so
        far and a float32 array [vocab], which it edits in place or replaces by what it returns. It
        runs in the engine's thread, between the tokens of all requests. Leaving no logit above -inf
        is an error.
    n: so many samples of the answer, drawn independently; the prompt is computed once. Sample 0 is
        what n = 1 gives.
    """

    max_tokens: int | None = None
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: str | Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logits_processor: LogitsProcessor | None = None
    n: int = 1

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            object.__setattr__(self, name, check(name, getattr(self, name)))
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise _invalid("min_tokens", f"at most max_tokens = {self.max_tokens}", self.min_tokens)

    def merged(self, **overrides: Any) -> Self:
        """A copy with some fields replaced; unknown names raise TypeError."""
        return replace(self, **overrides)


def compile_sampling(
    params: SamplingParams, *, vocab_size: int, eos_ids: Sequence[int], default_seed: int
) -> _core.Sampling:
    """The core's row for `params` under a model's vocabulary and end-of-sequence ids.

    `default_seed` is taken where `params` has none. Raises InvalidRequestError for token ids that
    are not in the vocabulary.
    """
    bias = params.logit_bias or {}
    for name, ids in (("logit_bias", bias), ("stop_token_ids", params.stop_token_ids)):
        for token_id in ids:
            if token_id >= vocab_size:
                raise _invalid(name, f"token ids below the vocabulary's {vocab_size}", token_id)
    seed = default_seed if params.seed is None else params.seed
    eos = () if params.ignore_eos else eos_ids
    return _core.Sampling(
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=params.top_k,
        min_p=params.min_p,
        seed=seed % 2**64,
        presence_penalty=params.presence_penalty,
        frequency_penalty=params.frequency_penalty,
        repetition_penalty=params.repetition_penalty,
        bias_ids=list(bias.keys()),
        bias_values=list(bias.values()),
        logprobs=-1 if params.logprobs is None else params.logprobs,
        prompt_logprobs=-1 if params.prompt_logprobs is None else params.prompt_logprobs,
        min_tokens=params.min_tokens,
        stop_ids=list(dict.fromkeys((*eos, *params.stop_token_ids))),
        logits_processor=params.logits_processor,
    )


_Check = Callable[[str, Any], Any]


def _invalid(param: str, expected: str, found: object) -> InvalidRequestError:
    try:
        shown = f"{found!r:.200}"
    except ValueError:  # an int of thousands of digits
        shown = f"{type(found).__name__} too long to show"
    return InvalidRequestError(f"{param}: expected {expected}, found {shown}", param=param)


def _integer(low: int, high: int) -> _Check:
    expected = f"an integer in [{low}, {high}]"

    def check(name: str, value: Any) -> int:
        if isinstance(value, bool | np.bool_):
            raise _invalid(name, expected, value)
        try:
            integer = operator.index(value)
        except TypeError:
            raise _invalid(name, expected, value) from None
        if not low <= integer <= high:
            raise _invalid(name, expected, value)
        return integer

    return check


def _number(low: float, high: float, *, above_low: bool = False) -> _Check:
    expected = f"a number in {'(' if above_low else '['}{low:g}, {high:g}]"

    def check(name: str, value: Any) -> float:
        if not isinstance(value, int | float | np.integer | np.floating) or isinstance(value, bool):
            raise _invalid(name, expected, value)
        # NaN fails the comparison; an int too large for a float is compared before it is converted.
        if not low <= value <= high or (above_low and value == low):
            raise _invalid(name, expected, value)
        return float(value)

    return check


def _boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise _invalid(name, "True or False", value)
    return bool(value)


def _optional(check: _Check) -> _Check:
    return lambda name, value: None if value is None else check(name, value)


def _stop_strings(name: str, value: Any) -> tuple[str, ...]:
    strings = (value,) if isinstance(value, str) else value
    expected = f"a non-empty string or a sequence of at most {MAX_STOP_STRINGS}"
    if not isinstance(strings, Sequence) or len(strings) > MAX_STOP_STRINGS:
        raise _invalid(name, expected, value)
    if not all(isinstance(string, str) and string for string in strings):
        raise _invalid(name, expected, value)
    return tuple(strings)


def _token_ids(name: str, value: Any) -> tuple[int, ...]:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence | np.ndarray):
        raise _invalid(name, "a sequence of token ids", value)
    check = _integer(0, _MAX_INT)
    return tuple(check(name, token_id) for token_id in value)


def _bias(name: str, value: Any) -> dict[int, float]:
    if not isinstance(value, Mapping):
        raise _invalid(name, "a mapping from token ids to numbers", value)
    check_id, check_bias = _integer(0, _MAX_INT), _number(-100, 100)
    return {check_id(name, key): check_bias(name, bias) for key, bias in value.items()}


def _callable(name: str, value: Any) -> Any:
    if not callable(value):
        raise _invalid(name, "a callable f(token_ids, logits)", value)
    return value


_CHECKS: dict[str, _Check] = {
    "max_tokens": _optional(_integer(0, _MAX_INT)),
    "min_tokens": _integer(0, _MAX_INT),
    "temperature": _number(0, 100),
    "top_p": _number(0, 1, above_low=True),
    "top_k": _integer(0, _MAX_INT),
    "min_p": _number(0, 1),
    "seed": _optional(_integer(-(2**63), 2**64 - 1)),
    "stop": _stop_strings,
    "stop_token_ids": _token_ids,
    "include_stop_str_in_output": _boolean,
    "ignore_eos": _boolean,
    "presence_penalty": _number(-2, 2),
    "frequency_penalty": _number(-2, 2),
    "repetition_penalty": _number(0.01, 100),
    "logit_bias": _optional(_bias),
    "logprobs": _optional(_integer(0, MAX_LOGPROBS)),
    "prompt_logprobs": _optional(_integer(0, MAX_LOGPROBS)),
    "logits_processor": _optional(_callable),
    "n": _integer(1, MAX_SAMPLES),
}
assert set(_CHECKS) == {field.name for field in fields(SamplingParams)}
