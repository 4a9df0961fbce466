"""A chat request as token ids: the one entry for serving, rendering and training."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from motet.errors import InvalidRequestError
from motet.harmony.builtin import BUILTIN_TOOLS, BuiltinTool
from motet.harmony.messages import (
    EFFORTS,
    FUNCTIONS,
    DeveloperContent,
    Effort,
    Message,
    SystemContent,
    ToolNamespace,
)
from motet.harmony.openai import to_messages
from motet.harmony.render import render_conversation_for_completion
from motet.harmony.tokens import HarmonyTokens, Tokenizer
from motet.harmony.tools import Tool, ToolChoice, forced_function, to_response_format, to_tools


def render_chat(
    tokenizer: Tokenizer,
    messages: str | Sequence[Mapping[str, Any] | Message],
    *,
    tools: Sequence[Tool] = (),
    tool_choice: ToolChoice = "auto",
    builtin_tools: Sequence[BuiltinTool] = (),
    reasoning_effort: Effort = "medium",
    date: str | None = None,
    response_format: Mapping[str, Any] | type | None = None,
) -> list[int]:
    """Ids of a chat, up to the opening of the assistant's next message.

    The reply is parsed by `StreamParser.after_prompt(tokenizer, ids)`, which knows how far the
    prompt opened it: a `tool_choice` other than "auto" and "none" opens it with the head of a call,
    so that the model must make one. Raises InvalidRequestError naming the argument at fault.
    """
    ids = render_conversation_for_completion(
        tokenizer,
        chat_messages(
            messages,
            tools=tools,
            tool_choice=tool_choice,
            builtin_tools=builtin_tools,
            reasoning_effort=reasoning_effort,
            date=date,
            response_format=response_format,
        ),
        auto_drop_analysis=False,
    )
    forced = forced_function(tool_choice, to_tools(tools))
    if forced is not None:
        tokens = HarmonyTokens.of(tokenizer)
        if forced:
            ids += tokenizer.encode(f" to={FUNCTIONS}.{forced}")
            ids += [tokens.channel, *tokenizer.encode("commentary"), *tokenizer.encode(" ")]
            ids += [tokens.constrain, *tokenizer.encode("json"), tokens.message]
        else:
            ids += [tokens.channel, *tokenizer.encode("commentary")]
            ids += tokenizer.encode(f" to={FUNCTIONS}")
    return ids


def chat_messages(
    messages: str | Sequence[Mapping[str, Any] | Message],
    *,
    tools: Sequence[Tool] = (),
    tool_choice: ToolChoice = "auto",
    builtin_tools: Sequence[BuiltinTool] = (),
    reasoning_effort: Effort = "medium",
    date: str | None = None,
    response_format: Mapping[str, Any] | type | None = None,
) -> list[Message]:
    """The harmony messages of a chat, complete: system and developer messages first, old analysis
    dropped.

    A system message among `messages` is used as it is, in place of one with effort, date and
    built-in tools. `date` None is today.
    """
    if reasoning_effort not in EFFORTS:
        raise InvalidRequestError(
            f"reasoning_effort must be low, medium or high, not {reasoning_effort!r}",
            param="reasoning_effort",
        )
    if isinstance(builtin_tools, str) or not isinstance(builtin_tools, Collection):
        raise InvalidRequestError("builtin_tools must be a list", param="builtin_tools")
    unknown = [name for name in builtin_tools if name not in tuple(BUILTIN_TOOLS)]
    if unknown:
        raise InvalidRequestError(
            f"builtin_tools has {unknown[0]!r}; there are browser and python", param="builtin_tools"
        )
    functions = to_tools(tools) if tool_choice != "none" else ()
    answer = to_response_format(response_format)
    developer = DeveloperContent(
        tools=(ToolNamespace(FUNCTIONS, functions),) if functions else (),
        response_formats=(answer,) if answer else (),
    )
    chat = _with_developer(to_messages(messages, builtin_tools=builtin_tools), developer)
    if all(message.role != "system" for message in chat):
        system = SystemContent(
            date=date if date is not None else datetime.date.today().isoformat(),
            effort=reasoning_effort,
            tools=tuple(BUILTIN_TOOLS[name] for name in builtin_tools),
        )
        chat = [Message("system", system), *chat]
    return drop_old_analysis(chat)


def drop_old_analysis(messages: Sequence[Message]) -> list[Message]:
    """Without the reasoning that led to an earlier answer: all analysis text before the last final
    message.

    Reasoning since then stays, since a turn with tool calls goes on from it. Calls on the analysis
    channel stay too: their results would hang in the air.
    """
    finals = [i for i, message in enumerate(messages) if message.channel == "final"]
    last = finals[-1] if finals else -1
    return [
        message
        for i, message in enumerate(messages)
        if i > last
        or message.channel != "analysis"
        or message.role != "assistant"
        or message.recipient not in (None, "all")
    ]


def _with_developer(messages: Sequence[Message], added: DeveloperContent) -> list[Message]:
    """The messages with tools and formats added to the opening instructions.

    Developer messages at the head become one, behind the system message; later ones stay where they
    are.
    """
    head = 0
    while head < len(messages) and messages[head].role in ("system", "developer"):
        head += 1
    merged = added
    for message in messages[:head]:
        if message.role == "developer":
            for part in message.parts:
                merged = _joined(merged, part)
    opening = [message for message in messages[:head] if message.role == "system"]
    if merged != DeveloperContent():
        opening.append(Message("developer", merged))
    return [*opening, *messages[head:]]


def _joined(content: DeveloperContent, part: object) -> DeveloperContent:
    if isinstance(part, DeveloperContent):
        instructions = part.instructions
        content = replace(
            content,
            tools=(*content.tools, *part.tools),
            response_formats=(*content.response_formats, *part.response_formats),
        )
    else:
        instructions = str(part)
    if not instructions:
        return content
    both = f"{content.instructions}\n\n{instructions}" if content.instructions else instructions
    return replace(content, instructions=both)
