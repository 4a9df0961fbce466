"""OpenAI chat messages (dicts) as harmony messages."""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from motet.errors import InvalidRequestError
from motet.harmony.messages import (
    FUNCTIONS,
    JSON_CONTENT_TYPE,
    DeveloperContent,
    Message,
)

# Names under which clients and servers keep a model's reasoning.
_REASONING_KEYS = ("reasoning", "reasoning_content", "thinking")


def to_messages(
    messages: str | Sequence[Mapping[str, Any] | Message], *, builtin_tools: Collection[str] = ()
) -> list[Message]:
    """Harmony messages of a chat: a user's text, or dicts and harmony messages in any mixture.

    A "system" dict is what harmony calls developer instructions. `builtin_tools` decides whether a
    call of `python` or `browser.search` means the built-in tool or a function of that name. Raises
    InvalidRequestError with `param` naming the part at fault, e.g. "messages[2].content".
    """
    if isinstance(messages, str):
        return [Message("user", _text(messages, "messages"))]
    if isinstance(messages, Mapping) or not isinstance(messages, Sequence):
        raise InvalidRequestError(
            f"messages must be a string or a list, not {type(messages).__name__}", param="messages"
        )
    if not messages:
        raise InvalidRequestError("messages must not be empty", param="messages")
    converter = _Converter(builtin_tools)
    out: list[Message] = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if isinstance(message, Message):
            converter.note_call(message)
            out.append(message)
        elif isinstance(message, Mapping):
            out += converter.convert(message, where)
        else:
            raise InvalidRequestError(
                f"{where} must be a dict or a harmony Message, not {type(message).__name__}",
                param=where,
            )
    return out


class _Converter:
    """Turns dicts into messages, remembering which call a tool's result belongs to."""

    def __init__(self, builtin_tools: Collection[str]) -> None:
        self._builtin_tools = builtin_tools
        self._calls: dict[str, str] = {}  # recipient of each call by its id
        self._unnamed_calls: deque[str] = deque()  # recipients of harmony's calls, which have no id
        self._last_call: str | None = None

    def note_call(self, message: Message) -> None:
        """Remember a call among harmony messages: results with unknown ids answer them in order."""
        if message.role == "assistant" and message.recipient is not None:
            self._unnamed_calls.append(message.recipient)
            self._last_call = message.recipient

    def convert(self, raw: Mapping[str, Any], where: str) -> list[Message]:
        role = raw.get("role")
        if role in ("system", "developer"):
            text = _text(raw.get("content"), f"{where}.content")
            return [Message("developer", DeveloperContent(instructions=text))]
        if role == "user":
            content = _text(raw.get("content"), f"{where}.content")
            return [Message("user", content, name=_name(raw, where))]
        if role == "assistant":
            return self._assistant(raw, where)
        if role == "tool":
            return [self._tool(raw, where)]
        raise InvalidRequestError(
            f"{where}.role must be system, developer, user, assistant or tool, not {role!r}",
            param=f"{where}.role",
        )

    def _assistant(self, raw: Mapping[str, Any], where: str) -> list[Message]:
        out = []
        for key in _REASONING_KEYS:
            if raw.get(key):
                out.append(
                    Message("assistant", _text(raw[key], f"{where}.{key}"), channel="analysis")
                )
                break
        calls = raw.get("tool_calls") or ()
        if not isinstance(calls, Sequence) or isinstance(calls, str):
            raise InvalidRequestError(
                f"{where}.tool_calls must be a list", param=f"{where}.tool_calls"
            )
        content = raw.get("content")
        if content is not None or not (calls or out):
            text = _text(content, f"{where}.content")
            # Text beside a call is a preamble to it: commentary, not yet the answer.
            if not calls:
                out.append(Message("assistant", text, channel="final"))
            elif text:
                out.append(Message("assistant", text, channel="commentary"))
        for index, call in enumerate(calls):
            out.append(self._call(call, f"{where}.tool_calls[{index}]"))
        return out

    def _call(self, raw: Any, where: str) -> Message:
        function = raw.get("function") if isinstance(raw, Mapping) else None
        if not isinstance(function, Mapping):
            raise InvalidRequestError(f"{where} must have a function", param=f"{where}.function")
        name, arguments = function.get("name"), function.get("arguments", "")
        if not isinstance(name, str) or not name:
            raise InvalidRequestError(
                f"{where}.function.name must be a name", param=f"{where}.function.name"
            )
        if isinstance(arguments, Mapping):
            with contextlib.suppress(TypeError, ValueError, RecursionError):
                arguments = json.dumps(arguments, ensure_ascii=False)
        if not isinstance(arguments, str):
            raise InvalidRequestError(
                f"{where}.function.arguments must be JSON text",
                param=f"{where}.function.arguments",
            )
        builtin = name.split(".")[0] in self._builtin_tools
        recipient = name if builtin else f"{FUNCTIONS}.{name.removeprefix(FUNCTIONS + '.')}"
        if isinstance(raw.get("id"), str):
            self._calls[raw["id"]] = recipient
        self._last_call = recipient
        return Message(
            "assistant",
            arguments,
            channel="analysis" if builtin else "commentary",
            recipient=recipient,
            content_type="code" if builtin else JSON_CONTENT_TYPE,
        )

    def _tool(self, raw: Mapping[str, Any], where: str) -> Message:
        call_id = raw.get("tool_call_id")
        if call_id is not None:
            name = self._calls.get(call_id) if isinstance(call_id, str) else None
            if name is None and isinstance(call_id, str) and self._unnamed_calls:
                name = self._unnamed_calls.popleft()
            if name is None:
                raise InvalidRequestError(
                    f"{where}.tool_call_id {call_id!r} answers no earlier tool call",
                    param=f"{where}.tool_call_id",
                )
        else:
            given = _name(raw, where)
            name = self._last_call if given is None else f"{FUNCTIONS}.{given}"
            if name is None:
                raise InvalidRequestError(
                    f"{where} needs a tool_call_id", param=f"{where}.tool_call_id"
                )
        return Message(
            "tool",
            _text(raw.get("content"), f"{where}.content"),
            name=name,
            recipient="assistant",
            channel="commentary" if name.startswith(f"{FUNCTIONS}.") else "analysis",
        )


def _name(raw: Mapping[str, Any], where: str) -> str | None:
    name = raw.get("name")
    if name is not None and not isinstance(name, str):
        raise InvalidRequestError(f"{where}.name must be a string", param=f"{where}.name")
    return name or None


def _text(content: Any, where: str) -> str:
    """A string, or the text of a list of text parts."""
    if isinstance(content, str):
        return _unicode(content, where)
    if not isinstance(content, Sequence):
        raise InvalidRequestError(
            f"{where} must be a string or a list of text parts, not {type(content).__name__}",
            param=where,
        )
    texts = []
    for index, part in enumerate(content):
        text = part.get("text") if isinstance(part, Mapping) else part
        kind = part.get("type", "text") if isinstance(part, Mapping) else "text"
        if kind != "text" or not isinstance(text, str):
            raise InvalidRequestError(
                f"{where}[{index}] must be a part of type text, not {kind!r}",
                param=f"{where}[{index}]",
            )
        texts.append(text)
    return _unicode("".join(texts), where)


def _unicode(text: str, where: str) -> str:
    """The text, unless it has half a character, as after a cut in a language of UTF-16."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError(
            f"{where} must be Unicode text; character {error.start} is the lone surrogate"
            f" U+{ord(text[error.start]):04X}",
            param=where,
        ) from None
    return text
