"""Harmony, the conversation format of the gpt-oss models: messages, rendering, parsing."""

from motet.harmony.builtin import BUILTIN_TOOLS, BuiltinTool
from motet.harmony.chat import chat_messages, drop_old_analysis, render_chat
from motet.harmony.functions import tool_from_function
from motet.harmony.header import HarmonyParseError
from motet.harmony.messages import (
    Content,
    DeveloperContent,
    Effort,
    FunctionTool,
    Message,
    ResponseFormat,
    Role,
    SystemContent,
    ToolNamespace,
)
from motet.harmony.openai import to_messages
from motet.harmony.parser import Delta, DeltaKind, ParserState, StreamParser, kind_of
from motet.harmony.render import (
    render_conversation,
    render_conversation_for_completion,
    render_conversation_for_training,
    render_message,
)
from motet.harmony.tokens import HarmonyTokens, Tokenizer
from motet.harmony.tools import Tool, ToolChoice, to_response_format, to_tools

__all__ = [
    "BUILTIN_TOOLS",
    "BuiltinTool",
    "Content",
    "Delta",
    "DeltaKind",
    "DeveloperContent",
    "Effort",
    "FunctionTool",
    "HarmonyParseError",
    "HarmonyTokens",
    "Message",
    "ParserState",
    "ResponseFormat",
    "Role",
    "StreamParser",
    "SystemContent",
    "Tokenizer",
    "Tool",
    "ToolChoice",
    "ToolNamespace",
    "chat_messages",
    "drop_old_analysis",
    "kind_of",
    "render_chat",
    "render_conversation",
    "render_conversation_for_completion",
    "render_conversation_for_training",
    "render_message",
    "to_messages",
    "to_response_format",
    "to_tools",
    "tool_from_function",
]
