"""Harmony, the conversation format of the gpt-oss models: messages, rendering, parsing."""

from motet.harmony.builtin import BUILTIN_TOOLS, BuiltinTool
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
from motet.harmony.render import (
    render_conversation,
    render_conversation_for_completion,
    render_conversation_for_training,
    render_message,
)
from motet.harmony.tokens import HarmonyTokens, Tokenizer

__all__ = [
    "BUILTIN_TOOLS",
    "BuiltinTool",
    "Content",
    "DeveloperContent",
    "Effort",
    "FunctionTool",
    "HarmonyTokens",
    "Message",
    "ResponseFormat",
    "Role",
    "SystemContent",
    "Tokenizer",
    "ToolNamespace",
    "render_conversation",
    "render_conversation_for_completion",
    "render_conversation_for_training",
    "render_message",
]
