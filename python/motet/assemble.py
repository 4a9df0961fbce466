"""Tokens to the pieces of an answer that a reader sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypedDict

from motet.results import Completion, Finish, Timings, TokenLogprob, ToolCall, Usage
from motet.stop import StopMatcher

if TYPE_CHECKING:
    from motet.sampling import SamplingParams
    from motet.tokenizer import Tokenizer


class Piece(NamedTuple):
    """What a token added to the visible answer."""

    kind: Literal["reasoning", "text", "tool_call"]
    text: str = ""
    tool_call: ToolCall | None = None


class Fields(TypedDict):
    """What every kind of result holds."""

    text: str
    token_ids: list[int]
    finish_reason: Finish
    stop_reason: str | int | None
    usage: Usage
    timings: Timings
    index: int
    logprobs: list[TokenLogprob] | None
    prompt_logprobs: list[TokenLogprob | None] | None


class Assembler(Protocol):
    """Makes pieces of tokens and, at the end, a result of all of them."""

    reasoning_tokens: int

    @property
    def stopped_by(self) -> str | None:
        """The stop string that was met."""

    def push(self, token_id: int, *, ends: bool) -> list[Piece]:
        """Takes a token; `ends` if it is a stop token, whose own text is not shown."""

    def finish(self) -> list[Piece]:
        """The end: gives out what was held back."""

    def result(self, fields: Fields) -> Completion:
        """The result; `fields.text` is the text of all "text" pieces."""


class VisibleText:
    """Decodes tokens and looks for stop strings, from the token after `min_tokens` on."""

    def __init__(self, tokenizer: Tokenizer, params: SamplingParams) -> None:
        self._stops = StopMatcher(params.stop, include=params.include_stop_str_in_output)
        self._decoder = tokenizer.stream()

    @property
    def stopped_by(self) -> str | None:
        return self._stops.matched

    def push(self, token_id: int, *, may_stop: bool) -> str:
        text = self._decoder.push(token_id)
        return self._stops.push(text) if may_stop else self._stops.flush() + text

    def flush(self) -> str:
        """Nothing more comes: an unfinished character becomes U+FFFD, held text is given out."""
        return self._stops.push(self._decoder.flush()) + self._stops.flush()


class TextAssembler:
    """Plain generation: all tokens but the special ones are text."""

    def __init__(self, tokenizer: Tokenizer, params: SamplingParams) -> None:
        self._tokenizer = tokenizer
        self._params = params
        self._visible = VisibleText(tokenizer, params)
        self._n_tokens = 0
        self.reasoning_tokens = 0

    @property
    def stopped_by(self) -> str | None:
        return self._visible.stopped_by

    def push(self, token_id: int, *, ends: bool) -> list[Piece]:
        self._n_tokens += 1
        hidden = ends and not self._params.include_stop_str_in_output
        if hidden or self._tokenizer.is_special(token_id):
            return []
        may_stop = self._n_tokens > self._params.min_tokens
        return _text_piece(self._visible.push(token_id, may_stop=may_stop))

    def finish(self) -> list[Piece]:
        return _text_piece(self._visible.flush())

    def result(self, fields: Fields) -> Completion:
        return Completion(**fields)


def _text_piece(text: str) -> list[Piece]:
    return [Piece("text", text)] if text else []
