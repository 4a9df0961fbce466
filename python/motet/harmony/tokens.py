"""The seven tokens that carry harmony's structure, found by name in any vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from motet.errors import InvalidRequestError


class Tokenizer(Protocol):
    """What harmony asks of a tokenizer, and all that it does."""

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Ids of the special tokens by name, e.g. `{"<|start|>": 200006}`."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of plain text: the name of a special token in it is text like any other."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes a token stands for, which may be part of a character."""
        ...


@dataclass(frozen=True, slots=True)
class HarmonyTokens:
    """Ids of harmony's structural tokens in one vocabulary."""

    start: int
    channel: int
    constrain: int
    message: int
    end: int
    call: int
    return_: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> HarmonyTokens:
        """Look the tokens up by name; InvalidRequestError names the ones the vocabulary lacks."""
        special = tokenizer.special_tokens
        names = ("start", "channel", "constrain", "message", "end", "call", "return")
        missing = [f"<|{name}|>" for name in names if f"<|{name}|>" not in special]
        if missing:
            raise InvalidRequestError(
                "chat needs a tokenizer with harmony's special tokens; this one lacks "
                + ", ".join(missing),
                param="messages",
            )
        return cls(*(special[f"<|{name}|>"] for name in names))
