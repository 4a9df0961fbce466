"""Byte-level BPE over the `tokenizers` package, with a checkpoint's special tokens found by name.

Plain text never becomes a special token: `encode("<|start|>")` gives the tokens that spell those
nine characters, so a user's text can't forge a message boundary. Only `encode_special` parses
special tokens, and only templates call it.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Self

from motet._files import open_regular
from motet.errors import CheckpointError, InvalidRequestError

if TYPE_CHECKING:  # the package takes 60 ms to import: only a loaded model needs it
    import tokenizers

_TEMPLATE_TOKEN = re.compile(r"<\|[^|]*\|>")


class Tokenizer:
    """Text to token ids and back. Thread-safe: nothing changes after construction."""

    special_tokens: dict[str, int]
    vocab_size: int  # the largest id that names a token, plus one; the model's may be padded beyond

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        """Takes `backend` over: switches its truncation, padding and special-token parsing off."""
        import tokenizers

        backend.no_truncation()
        backend.no_padding()
        added = backend.get_added_tokens_decoder()
        # Fine-tunes may have saved `<|...|>` tokens as ordinary ones, which plain text would match
        backend.add_special_tokens(
            [
                tokenizers.AddedToken(token.content, special=True, normalized=False)
                for token in added.values()
                if not token.special and _TEMPLATE_TOKEN.fullmatch(token.content)
            ]
        )
        added = backend.get_added_tokens_decoder()
        backend.encode_special_tokens = True  # the library's name for "spell them out as text"
        self._backend = backend
        self.special_tokens = {t.content: i for i, t in sorted(added.items()) if t.special}
        n_base = backend.get_vocab_size(with_added_tokens=False)
        self.vocab_size = 1 + max([n_base - 1, *added])
        # Added tokens are text as it stands: an é in them is no byte of the byte alphabet.
        self._added_bytes = {
            i: t.content.encode() for i, t in added.items() if t.special or i >= n_base
        }
        self._special_ids = frozenset(self.special_tokens.values())
        # Longest first, so that no special token hides another that it is a prefix of.
        names = sorted(self.special_tokens, key=len, reverse=True)
        self._special_pattern = re.compile(
            "(" + "|".join(map(re.escape, names)) + ")" if names else r"((?!))"
        )
        self._byte_of = _byte_alphabet()

    @classmethod
    def from_file(cls, path: str | PathLike[str]) -> Self:
        """Reads a `tokenizer.json`; a missing or malformed one raises CheckpointError."""
        import tokenizers

        path = Path(path)
        with open_regular(path):
            pass  # the library says little of what is no file, and waits for a FIFO's writer
        try:
            backend = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise CheckpointError(
                "not a tokenizer",
                file=str(path),
                expected="the JSON format of the `tokenizers` package",
                found=str(error),
            ) from error
        missing = [char for char in _byte_alphabet() if backend.token_to_id(char) is None]
        if missing:  # their bytes would be left out of every prompt
            raise CheckpointError(
                "not a byte-level vocabulary",
                file=str(path),
                expected="a token for each of the 256 bytes",
                found=f"none for {len(missing)} of them",
            )
        return cls(backend)

    @classmethod
    def from_dir(cls, directory: str | PathLike[str]) -> Self:
        """Reads `tokenizer.json` in a checkpoint's directory."""
        return cls.from_file(Path(directory) / "tokenizer.json")

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, none of them special whatever the text spells.

        A lone surrogate, which no encoding can carry, raises InvalidRequestError.
        """
        try:
            return self._backend.encode(text, add_special_tokens=False).ids
        except TypeError:
            raise _unencodable(text) from None

    def encode_special(self, text: str) -> list[int]:
        """Token ids of `text`, special tokens parsed. For templates, never for a user's text."""
        ids: list[int] = []
        for i, piece in enumerate(self._special_pattern.split(text)):
            if i % 2:  # `split` with one group alternates text and match
                ids.append(self.special_tokens[piece])
            elif piece:
                ids.extend(self.encode(piece))
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes a token stands for: its name's if special, none if the id names no token."""
        if (added := self._added_bytes.get(token_id)) is not None:
            return added
        if not 0 <= token_id < self.vocab_size:
            return b""
        token = self._backend.id_to_token(token_id)
        if token is None:
            return b""
        try:
            return bytes([self._byte_of[char] for char in token])
        except KeyError:  # not of a byte-level vocabulary
            return token.encode()

    def is_special(self, token_id: int) -> bool:
        """Whether the id is one of `special_tokens`."""
        return token_id in self._special_ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, special tokens by name; bytes that are not UTF-8 become U+FFFD."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def stream(self) -> StreamDecoder:
        """A decoder fed token by token."""
        return StreamDecoder(self)


class StreamDecoder:
    """Turns tokens into text as they come; a character's bytes wait until it is whole."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """The text that `token_id` completes; "" while a character is unfinished."""
        return self._utf8.decode(self._tokenizer.token_bytes(token_id))

    def flush(self) -> str:
        """The end: an unfinished character becomes U+FFFD. The decoder can then be used afresh."""
        text = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        return text


def _byte_alphabet() -> dict[str, int]:
    """Character -> byte of the byte-level alphabet.

    Printable Latin-1 stands for itself; the other bytes, in order, are the characters from U+0100.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(0x100 + i): b for i, b in enumerate(others)}


def _unencodable(text: object) -> Exception:
    if not isinstance(text, str):
        return TypeError(f"text: expected str, found {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return InvalidRequestError(
            f"text: expected Unicode text, found the lone surrogate U+{ord(text[error.start]):04X}"
            f" at character {error.start}",
            param="text",
        )
    return TypeError("text could not be encoded")
