"""Messages of a harmony conversation, as data. Rendering and parsing live beside this file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "developer", "user", "assistant", "tool"]
Effort = Literal["low", "medium", "high"]
ROLES: tuple[Role, ...] = ("system", "developer", "user", "assistant", "tool")
EFFORTS: tuple[Effort, ...] = ("low", "medium", "high")

DEFAULT_IDENTITY = "You are ChatGPT, a large language model trained by OpenAI."
DEFAULT_KNOWLEDGE_CUTOFF = "2024-06"
DEFAULT_CHANNELS = ("analysis", "commentary", "final")

# The namespace of function tools, and the content type of a call whose arguments are JSON.
FUNCTIONS = "functions"
JSON_CONTENT_TYPE = "<|constrain|>json"


@dataclass(frozen=True, slots=True)
class FunctionTool:
    """A function the model may call; `parameters` is the JSON Schema of its one object argument."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ToolNamespace:
    """Tools under one name, called as `name.function`; without functions, as `name` itself."""

    name: str
    tools: tuple[FunctionTool, ...] = ()
    description: str | None = None


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """A JSON Schema that the final answer follows, listed in the developer message."""

    name: str
    schema: Mapping[str, Any]
    description: str | None = None


@dataclass(frozen=True, slots=True)
class SystemContent:
    """What the system message says; None (or no channels) leaves a line out."""

    identity: str | None = DEFAULT_IDENTITY
    knowledge_cutoff: str | None = DEFAULT_KNOWLEDGE_CUTOFF
    date: str | None = None
    effort: Effort | None = "medium"
    channels: tuple[str, ...] = DEFAULT_CHANNELS
    channel_required: bool = True
    tools: tuple[ToolNamespace, ...] = ()


@dataclass(frozen=True, slots=True)
class DeveloperContent:
    """The developer message: instructions (a chat's "system prompt"), tools, response formats."""

    instructions: str | None = None
    tools: tuple[ToolNamespace, ...] = ()
    response_formats: tuple[ResponseFormat, ...] = ()


Content = str | SystemContent | DeveloperContent


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    `recipient` is who a call or a tool's result goes to (`functions.get_weather`, `assistant`);
    `name` is the tool that a "tool" message comes from. `problems` and `header` are set by the
    parser on malformed model output: what was wrong, in words, and the header's text as the model
    wrote it. They take no part in comparison.
    """

    role: Role
    content: Content | Sequence[Content] = ""
    name: str | None = None
    channel: str | None = None
    recipient: str | None = None
    content_type: str | None = None
    problems: tuple[str, ...] = field(default=(), compare=False)
    header: str = field(default="", compare=False)

    @property
    def parts(self) -> tuple[Content, ...]:
        """The content as a tuple of parts."""
        if isinstance(self.content, str | SystemContent | DeveloperContent):
            return (self.content,)
        return tuple(self.content)

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part for part in self.parts if isinstance(part, str))
