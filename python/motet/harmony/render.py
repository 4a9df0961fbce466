"""Messages to token ids. Text is never parsed for special tokens, whoever wrote it."""

from __future__ import annotations

from collections.abc import Sequence

from motet.errors import InvalidRequestError
from motet.harmony.messages import (
    DeveloperContent,
    Message,
    Role,
    SystemContent,
)
from motet.harmony.sections import content_text, declares_functions
from motet.harmony.tokens import HarmonyTokens, Tokenizer

_CONSTRAIN = "<|constrain|>"


def render_message(
    tokenizer: Tokenizer, message: Message, *, has_functions: bool = False
) -> list[int]:
    """Ids of one message; `has_functions` puts the line about function calls into a system message.

    Raises InvalidRequestError for a tool message without a name and for system or developer content
    elsewhere.
    """
    tokens = HarmonyTokens.of(tokenizer)
    ids = [tokens.start, *_header(tokenizer, tokens, message), tokens.message]
    for part in message.parts:
        if isinstance(part, SystemContent) and message.role != "system":
            raise InvalidRequestError(
                f"SystemContent in a {message.role} message", param="messages"
            )
        if isinstance(part, DeveloperContent) and message.role != "developer":
            raise InvalidRequestError(
                f"DeveloperContent in a {message.role} message", param="messages"
            )
        ids += tokenizer.encode(content_text(part, has_functions=has_functions))
    calls = message.role == "assistant" and message.recipient is not None
    ids.append(tokens.call if calls else tokens.end)
    return ids


def render_conversation(
    tokenizer: Tokenizer, messages: Sequence[Message], *, auto_drop_analysis: bool = True
) -> list[int]:
    """Ids of a conversation.

    `auto_drop_analysis` leaves out the reasoning that came before the first final message, once the
    assistant's last message is a final one (what the published renderer does; `render_chat` drops
    all that is old).
    """
    kept = _without_old_analysis(messages) if auto_drop_analysis else messages
    has_functions = any(declares_functions(message.parts) for message in messages)
    ids: list[int] = []
    for message in kept:
        ids += render_message(tokenizer, message, has_functions=has_functions)
    return ids


def render_conversation_for_completion(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    next_role: Role = "assistant",
    *,
    auto_drop_analysis: bool = True,
) -> list[int]:
    """Ids of a conversation and the opening of the next message, which the model then writes."""
    ids = render_conversation(tokenizer, messages, auto_drop_analysis=auto_drop_analysis)
    return [*ids, HarmonyTokens.of(tokenizer).start, *tokenizer.encode(next_role)]


def render_conversation_for_training(
    tokenizer: Tokenizer, messages: Sequence[Message], *, auto_drop_analysis: bool = True
) -> list[int]:
    """Ids of a conversation to train on: a final message at its end closes with <|return|>."""
    ids = render_conversation(tokenizer, messages, auto_drop_analysis=auto_drop_analysis)
    if messages and messages[-1].role == "assistant" and messages[-1].channel == "final":
        ids[-1] = HarmonyTokens.of(tokenizer).return_
    return ids


def _header(tokenizer: Tokenizer, tokens: HarmonyTokens, message: Message) -> list[int]:
    """Ids between <|start|> and <|message|>: who speaks, to whom, on which channel, as what."""
    if message.role == "tool":
        if message.name is None:
            raise InvalidRequestError("a tool message needs the tool's name", param="messages")
        author = message.name
    else:
        author = message.role if message.name is None else f"{message.role}:{message.name}"
    ids = tokenizer.encode(author)
    if message.recipient is not None and message.recipient != "all":
        ids += tokenizer.encode(f" to={message.recipient}")
    if message.channel is not None:
        ids.append(tokens.channel)
        ids += tokenizer.encode(message.channel)
    if message.content_type is not None:
        kind = message.content_type
        if kind.startswith(_CONSTRAIN):
            ids += [*tokenizer.encode(" "), tokens.constrain]
            ids += tokenizer.encode(kind.removeprefix(_CONSTRAIN))
        else:
            ids += tokenizer.encode(f" {kind}")
    return ids


def _without_old_analysis(messages: Sequence[Message]) -> Sequence[Message]:
    by_assistant = [message for message in messages if message.role == "assistant"]
    if not by_assistant or by_assistant[-1].channel != "final":
        return messages
    first = next(i for i, message in enumerate(messages) if message.channel == "final")
    return [m for i, m in enumerate(messages) if i >= first or m.channel != "analysis"]
