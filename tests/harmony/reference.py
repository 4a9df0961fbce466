"""OpenAI's harmony library as an oracle, offline: its vocabulary comes from our tokenizer file."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from motet.harmony import Content, DeveloperContent, Message, SystemContent, ToolNamespace
from tests.harmony.support import PublishedTokenizer


class Reference:
    """Renders our messages and parses ids with the reference library."""

    def __init__(self, module: Any, tokenizer: PublishedTokenizer, folder: Path) -> None:
        self._module = module
        lines = [
            base64.b64encode(tokenizer.token_bytes(i)) + b" %d\n" % i
            for i in range(tokenizer.special_tokens["<|startoftext|>"])
            if tokenizer.token_bytes(i)
        ]
        (folder / "o200k_base.tiktoken").write_bytes(b"".join(lines))
        os.environ["TIKTOKEN_ENCODINGS_BASE"] = str(folder)
        name = module.HarmonyEncodingName.HARMONY_GPT_OSS
        self._encoding = module.load_harmony_encoding(name)

    def render(
        self, messages: Sequence[Message], *, drop: bool, training: bool = False
    ) -> list[int]:
        config = self._module.RenderConversationConfig(auto_drop_analysis=drop)
        conversation = self._module.Conversation.from_json(
            json.dumps({"messages": [message_to_reference(message) for message in messages]})
        )
        if training:
            return list(self._encoding.render_conversation_for_training(conversation, config))
        return list(self._encoding.render_conversation(conversation, config))

    def parser(self, role: str | None) -> Any:
        """A strict parser of the reference library."""
        author = None if role is None else self._module.Role(role)
        return self._module.StreamableParser(self._encoding, author, strict=True)


def message_to_reference(message: Message) -> dict[str, Any]:
    raw: dict[str, Any] = {
        "role": message.role,
        "name": message.name,
        "content": [_content(part) for part in message.parts],
    }
    for key in ("channel", "recipient", "content_type"):
        if getattr(message, key) is not None:
            raw[key] = getattr(message, key)
    return raw


def _content(part: Content) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    tools = {space.name: _namespace(space) for space in part.tools} or None
    if isinstance(part, DeveloperContent):
        return {"type": "developer_content", "instructions": part.instructions, "tools": tools}
    return {"type": "system_content", "tools": tools, **_system(part)}


def _system(part: SystemContent) -> Mapping[str, Any]:
    return {
        "model_identity": part.identity,
        "knowledge_cutoff": part.knowledge_cutoff,
        "conversation_start_date": part.date,
        "reasoning_effort": None if part.effort is None else part.effort.title(),
        "channel_config": {
            "valid_channels": list(part.channels),
            "channel_required": part.channel_required,
        },
    }


def _namespace(space: ToolNamespace) -> dict[str, Any]:
    tools = [
        {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
        for tool in space.tools
    ]
    return {"name": space.name, "description": space.description, "tools": tools}
