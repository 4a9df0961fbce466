"""One generated conversation: what is said, its harmony text, and what a right answer is."""

from __future__ import annotations

import json
import random
import zlib
from dataclasses import dataclass, field
from typing import Any

EFFORTS = ("low", "medium", "high")
START, END, MESSAGE, CHANNEL = "<|start|>", "<|end|>", "<|message|>", "<|channel|>"


@dataclass
class Assistant:
    """One assistant turn: reasoning, then either a final answer or a function call."""

    analysis: str
    final: str = ""
    call: tuple[str, dict[str, Any]] | None = None


@dataclass
class Conversation:
    """A sample. `key` decides whether it is held out; `expected` is what the scorer compares."""

    task: str
    key: str
    user: str
    turns: list[Assistant]
    expected: Any
    tool_result: str = ""
    tools: list[dict[str, Any]] = field(default_factory=list)
    effort: str = "medium"
    date: str | None = None
    instructions: str | None = None
    response_format: tuple[str, dict[str, Any]] | None = None
    history: list[tuple[str, str]] = field(default_factory=list)


def held_out(key: str) -> bool:
    """A tenth of all keys (operands of a sum, text of a prompt) is never trained on."""
    return zlib.crc32(key.encode()) % 10 == 0


def random_date(rng: random.Random) -> str | None:
    """A date for the system message, absent one time in twelve."""
    if rng.random() < 1 / 12:
        return None
    return f"{rng.randint(2024, 2032)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"


def typescript(schema: dict[str, Any]) -> str:
    """The type of one simple parameter, as harmony writes it."""
    if "enum" in schema:
        return " | ".join(f'"{value}"' for value in schema["enum"])
    kind = str(schema["type"])
    if kind == "array":
        return typescript(schema["items"]) + "[]"
    return "number" if kind == "integer" else kind


def declaration(tool: dict[str, Any]) -> str:
    """One function of the developer message's `functions` namespace."""
    function = tool["function"]
    lines = [f"// {function['description']}"]
    properties = function.get("parameters", {}).get("properties", {})
    if not properties:
        return "\n".join([*lines, f"type {function['name']} = () => any;"])
    lines.append(f"type {function['name']} = (_: {{")
    required = function["parameters"].get("required", [])
    for name, schema in properties.items():
        if "description" in schema:
            lines.append(f"// {schema['description']}")
        lines.append(f"{name}{'' if name in required else '?'}: {typescript(schema)},")
    return "\n".join([*lines, "}) => any;"])


def system_text(effort: str, date: str | None, has_tools: bool) -> str:
    """The system message's content."""
    text = "You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06"
    if date:
        text += f"\nCurrent date: {date}"
    text += f"\n\nReasoning: {effort}\n\n# Valid channels: analysis, commentary, final. "
    text += "Channel must be included for every message."
    if has_tools:
        text += "\nCalls to these tools must go to the commentary channel: 'functions'."
    return text


def developer_text(conversation: Conversation) -> str:
    """The developer message's content, empty when there is nothing to say."""
    sections = []
    if conversation.instructions:
        sections.append(f"# Instructions\n\n{conversation.instructions}")
    if conversation.tools:
        body = "\n\n".join(declaration(tool) for tool in conversation.tools)
        sections.append(
            "# Tools\n\n## functions\n\nnamespace functions {\n\n"
            f"{body}\n\n}} // namespace functions"
        )
    if conversation.response_format:
        name, schema = conversation.response_format
        text = json.dumps(schema, separators=(",", ":"))
        if name == "json":  # what motet renders for response_format={"type": "json_object"}
            text = f"// A single JSON object and nothing else.\n{text}"
        sections.append(f"# Response Formats\n\n## {name}\n\n{text}")
    return "\n\n".join(sections)


def prompt_text(conversation: Conversation) -> str:
    """Everything before the first generated token."""
    system = system_text(conversation.effort, conversation.date, bool(conversation.tools))
    messages = [("system", system)]
    developer = developer_text(conversation)
    if developer:
        messages.append(("developer", developer))
    text = "".join(f"{START}{role}{MESSAGE}{content}{END}" for role, content in messages)
    for question, answer in conversation.history:
        text += f"{START}user{MESSAGE}{question}{END}"
        text += f"{START}assistant{CHANNEL}final{MESSAGE}{answer}{END}"
    return text + f"{START}user{MESSAGE}{conversation.user}{END}{START}assistant"


def turn_text(turn: Assistant) -> str:
    """What the model has to generate after `<|start|>assistant`."""
    text = ""
    if turn.analysis:
        text = f"{CHANNEL}analysis{MESSAGE}{turn.analysis}{END}{START}assistant"
    if turn.call is None:
        return f"{text}{CHANNEL}final{MESSAGE}{turn.final}<|return|>"
    name, arguments = turn.call
    return (
        f"{text} to=functions.{name}{CHANNEL}commentary <|constrain|>json{MESSAGE}"
        f"{json.dumps(arguments, ensure_ascii=False)}<|call|>"
    )


def tool_text(name: str, result: str) -> str:
    """A function's result and the header of the assistant message that follows."""
    header = f"functions.{name} to=assistant{CHANNEL}commentary"
    return f"{START}{header}{MESSAGE}{result}{END}{START}assistant"


def parts(conversation: Conversation) -> list[tuple[str, bool]]:
    """(text, is it generated) pieces; they meet at special tokens, so each is encoded alone."""
    pieces = [(prompt_text(conversation), False)]
    for turn in conversation.turns:
        pieces.append((turn_text(turn), True))
        if turn.call is not None:
            pieces.append((tool_text(turn.call[0], conversation.tool_result), False))
    return pieces
