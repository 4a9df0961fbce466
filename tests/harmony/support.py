"""The published tokenizer as harmony's protocol; the reference library's JSON as our messages."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import tokenizers

from motet.harmony import (
    DeveloperContent,
    FunctionTool,
    Message,
    SystemContent,
    ToolNamespace,
)

SPEC = Path(__file__).resolve().parents[3] / "shared" / "checkpoint-spec"
VECTORS = SPEC / "harmony-vectors.jsonl"


def byte_alphabet() -> dict[str, int]:
    """Byte-level BPE's alphabet: printable bytes as themselves, the others from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + n): byte for n, byte in enumerate(others)
    }


class PublishedTokenizer:
    """A tokenizer.json of byte-level BPE, as harmony's Tokenizer."""

    def __init__(self, path: Path) -> None:
        self._inner = tokenizers.Tokenizer.from_file(str(path))
        self._inner.encode_special_tokens = True  # names of special tokens in text are text
        added = json.loads(path.read_text("utf-8"))["added_tokens"]
        self.special_tokens: dict[str, int] = {entry["content"]: entry["id"] for entry in added}
        alphabet = byte_alphabet()
        special_ids = set(self.special_tokens.values())
        self._bytes = {
            token_id: bytes(alphabet[char] for char in piece)
            for piece, token_id in self._inner.get_vocab().items()
            if token_id not in special_ids
        }
        self._bytes |= {i: name.encode() for name, i in self.special_tokens.items()}

    @property
    def vocab_size(self) -> int:
        return len(self._bytes)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._inner.encode(text, add_special_tokens=False).ids
        return ids

    def encode_special(self, text: str) -> list[int]:
        """Ids of text in which the names of special tokens mean the tokens."""
        ids: list[int] = []
        for piece in re.split(r"(<\|\w+\|>)", text):
            special = self.special_tokens.get(piece)
            ids += self.encode(piece) if special is None else [special]
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        return self._bytes.get(token_id, b"")

    def decode(self, ids: list[int]) -> str:
        return b"".join(self.token_bytes(i) for i in ids).decode("utf-8", "replace")


@lru_cache(maxsize=1)
def published_tokenizer() -> PublishedTokenizer:
    return PublishedTokenizer(SPEC / "tokenizer" / "tokenizer.json")


def message_from_reference(raw: Mapping[str, Any], rendered: str | None = None) -> Message:
    """A message of the reference library's JSON.

    The file of vectors has its keys sorted, but properties render in the order of their schema:
    `rendered`, the expected text, gives that order back.
    """
    return Message(
        role=raw["role"],
        content=tuple(_content(part, rendered) for part in raw["content"]),
        name=raw.get("name"),
        channel=raw.get("channel"),
        recipient=raw.get("recipient"),
        content_type=raw.get("content_type"),
    )


def _content(
    raw: Mapping[str, Any], rendered: str | None
) -> str | SystemContent | DeveloperContent:
    if raw["type"] == "text":
        return str(raw["text"])
    tools = tuple(_namespace(space, rendered) for space in (raw.get("tools") or {}).values())
    if raw["type"] == "developer_content":
        return DeveloperContent(instructions=raw.get("instructions"), tools=tools)
    config = raw["channel_config"]
    return SystemContent(
        identity=raw["model_identity"],
        knowledge_cutoff=raw["knowledge_cutoff"],
        date=raw.get("conversation_start_date"),
        effort=raw["reasoning_effort"].lower(),
        channels=tuple(config["valid_channels"]),
        channel_required=config["channel_required"],
        tools=tools,
    )


def _namespace(raw: Mapping[str, Any], rendered: str | None) -> ToolNamespace:
    tools = []
    for tool in raw["tools"]:
        schema = tool.get("parameters")
        if rendered is not None and schema is not None:
            body = rendered.split(f"type {tool['name']} = ")[1].split("=> any;")[0]
            names = sorted(schema["properties"], key=lambda name: _position(body, name))
            schema = {**schema, "properties": {name: schema["properties"][name] for name in names}}
        tools.append(FunctionTool(tool["name"], tool["description"], schema))
    return ToolNamespace(raw["name"], tuple(tools), raw.get("description"))


def _position(body: str, name: str) -> int:
    return max(body.find(f"\n{name}:"), body.find(f"\n{name}?:"))
