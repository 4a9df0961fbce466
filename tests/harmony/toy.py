"""A vocabulary unlike the published one: words, single bytes and special tokens with other ids."""

from __future__ import annotations

import re

_SPECIAL = (
    "<|startoftext|>",
    "<|message|>",
    "<|end|>",
    "<|start|>",
    "<|return|>",
    "<|constrain|>",
    "<|endoftext|>",
    "<|call|>",
    "<|channel|>",
    "<|reserved_7|>",
)
_WORDS = (
    *("assistant", "user", "system", "developer", "tool", "analysis", "commentary", "final"),
    *(" to=", "functions", "functions.f", ".f", "json", " json", "code", " ", "\n", "hi", " there"),
    *('{"a": 1}', "é", "日", "😀", "to", "=", ":bob", "browser.search", "python", "{", "x"),
)


class ToyTokenizer:
    """Encodes greedily; ids: special tokens 0.., bytes 100..355, words 400.. ."""

    def __init__(self) -> None:
        self.special_tokens: dict[str, int] = {name: i for i, name in enumerate(_SPECIAL)}
        self._bytes = {100 + byte: bytes([byte]) for byte in range(256)}
        self._bytes |= {400 + i: word.encode() for i, word in enumerate(_WORDS)}
        self._ids = {text: token for token, text in self._bytes.items()}
        longest_first = sorted(self._ids, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, longest_first)), re.DOTALL)

    @property
    def text_tokens(self) -> list[int]:
        return list(self._bytes)

    @property
    def words(self) -> list[int]:
        return [400 + i for i in range(len(_WORDS))]

    def encode(self, text: str) -> list[int]:
        return [self._ids[piece] for piece in self._pattern.findall(text.encode())]

    def encode_special(self, text: str) -> list[int]:
        """Ids of text in which the names of special tokens mean the tokens."""
        ids: list[int] = []
        for piece in re.split(r"(<\|\w+\|>)", text):
            special = self.special_tokens.get(piece)
            ids += self.encode(piece) if special is None else [special]
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        return self._bytes[token_id]
