"""A chat's answer: tokens to reasoning, text and tool calls."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from motet.assemble import Fields, Piece
from motet.harmony.messages import FUNCTIONS, Message
from motet.harmony.parser import Delta, StreamParser, kind_of
from motet.results import ChatCompletion, ToolCall
from motet.stop import StopMatcher

if TYPE_CHECKING:
    from motet.sampling import SamplingParams
    from motet.tokenizer import Tokenizer


class ChatAssembler:
    """Follows the model through its messages; stop strings count in text for the user only."""

    def __init__(
        self, tokenizer: Tokenizer, prompt_ids: Sequence[int], params: SamplingParams, model: str
    ) -> None:
        """`prompt_ids` tell how far the prompt has opened the first message."""
        self._tokenizer = tokenizer
        self._params = params
        self._model = model
        self._parser = StreamParser.after_prompt(tokenizer, prompt_ids)
        self._stops = StopMatcher(params.stop, include=params.include_stop_str_in_output)
        self._n_tokens = 0
        self._unassigned = (
            0  # tokens since the last delta: a header's, or a character's first bytes
        )
        self._reasoning: list[str] = []
        self._tool_calls: list[ToolCall] = []
        self._shown: list[str] = []  # what was shown of the text message being written
        self._ended: set[str] = set()  # kinds of which a message with text has ended
        self.reasoning_tokens = 0

    @property
    def stopped_by(self) -> str | None:
        return self._stops.matched

    def push(self, token_id: int, *, ends: bool) -> list[Piece]:
        self._n_tokens += 1
        self._unassigned += 1
        # A stop token of the caller's choice; the model's own are part of the format.
        if ends and not (
            self._params.include_stop_str_in_output or self._tokenizer.is_special(token_id)
        ):
            return []
        delta = self._parser.process(token_id)
        if delta is None:
            return []
        if delta.kind == "reasoning":
            self.reasoning_tokens += self._unassigned
        self._unassigned = 0
        return self._pieces(delta)

    def finish(self) -> list[Piece]:
        delta = self._parser.finish()
        if delta is not None and delta.kind == "tool_call":
            return []  # cut off: it stays among the messages, but nobody should run it
        return [] if delta is None else self._pieces(delta)

    def result(self, fields: Fields) -> ChatCompletion:
        messages = list(self._parser.messages)
        if self.stopped_by is not None:
            messages[-1] = dataclasses.replace(messages[-1], content="".join(self._shown))
        if fields["finish_reason"] == "stop" and messages and _is_call(messages[-1]):
            fields["finish_reason"] = "tool_calls"
        return ChatCompletion(
            **fields,
            reasoning="".join(self._reasoning),
            tool_calls=self._tool_calls,
            messages=messages,
            id=f"chatcmpl-{secrets.token_hex(12)}",
            created=int(time.time()),
            model=self._model,
        )

    def _pieces(self, delta: Delta) -> list[Piece]:
        pieces: list[Piece] = []
        if delta.kind == "reasoning":
            if delta.text:
                pieces.append(Piece("reasoning", self._separator("reasoning") + delta.text))
                self._reasoning.append(pieces[-1].text)
        elif delta.kind == "text":
            text = self._visible(delta)
            if text:
                pieces.append(Piece("text", self._separator("text") + text))
        elif delta.kind == "tool_call" and delta.message is not None:
            call = _tool_call(delta.message)
            self._tool_calls.append(call)
            pieces.append(Piece("tool_call", tool_call=call))
        if delta.message is not None and delta.message.text:
            self._ended.add(delta.kind)
        return pieces

    def _separator(self, kind: str) -> str:
        """A line break before a further message of a kind."""
        if kind not in self._ended:
            return ""
        self._ended.discard(kind)
        return "\n"

    def _visible(self, delta: Delta) -> str:
        """The text of a delta as far as it can't be part of a stop string."""
        if self._n_tokens > self._params.min_tokens:
            text = self._stops.push(delta.text)
        else:
            text = self._stops.flush() + delta.text
        if delta.message is not None:  # no stop string reaches from one message into the next
            text += self._stops.flush()
        if delta.message is not None and self.stopped_by is None:
            self._shown.clear()
        else:
            self._shown.append(text)
        return text


def _is_call(message: Message) -> bool:
    return kind_of(message.role, message.channel, message.recipient) == "tool_call"


def _tool_call(message: Message) -> ToolCall:
    """The call that a message makes; functions go by their bare name, other tools by the full."""
    name = (message.recipient or "").removeprefix(f"{FUNCTIONS}.")
    return ToolCall(f"call_{secrets.token_hex(12)}", name, message.text)
