"""Whether a reply is right, the same rule for every way of producing it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from conversation import Conversation


@dataclass
class Reply:
    """The final answer and the function calls made before it, as (name, JSON text)."""

    final: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)


def parse_reply(text: str) -> Reply:
    """Reads generated harmony text."""
    header = r" to=functions\.(\S+?)<\|channel\|>commentary <\|constrain\|>json<\|message\|>"
    calls = re.findall(header + r"(.*?)<\|call\|>", text)
    final = re.search(r"<\|channel\|>final<\|message\|>(.*?)<\|return\|>", text, re.DOTALL)
    return Reply(final.group(1) if final else "", calls)


def loaded(text: str) -> Any:
    """The JSON value of a text, or an object equal to nothing."""
    try:
        return json.loads(text)
    except ValueError:
        return object()


def call_is_right(conversation: Conversation, reply: Reply) -> bool:
    """One call, of the right function, with just the arguments asked for (as in its schema)."""
    if len(reply.calls) != 1 or reply.calls[0][0] != conversation.expected["name"]:
        return False
    found = loaded(reply.calls[0][1])
    wanted = conversation.expected["arguments"]
    return bool(found == wanted) and all(type(found[key]) is type(wanted[key]) for key in wanted)


def is_right(conversation: Conversation, reply: Reply) -> bool:
    """Exact: number, list, word, JSON value (any key order); call and all values of its result."""
    if conversation.task in ("tools", "new_tools"):
        used = all(value in reply.final for value in conversation.expected["values"])
        return call_is_right(conversation, reply) and used
    if reply.calls:
        return False
    if conversation.task == "json":
        return bool(loaded(reply.final) == conversation.expected)
    if conversation.task in ("add", "sub", "mul", "length", "count", "extreme"):
        numbers = re.findall(r"-?\d+", reply.final)
        return bool(numbers) and numbers[-1] == conversation.expected
    return bool(reply.final.strip() == conversation.expected)
