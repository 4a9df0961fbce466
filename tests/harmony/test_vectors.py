"""Token-by-token equality with what the reference library rendered and parsed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from motet.harmony import (
    HarmonyParseError,
    Message,
    StreamParser,
    render_conversation,
    render_conversation_for_completion,
    render_conversation_for_training,
    render_message,
)
from tests.harmony.support import VECTORS, PublishedTokenizer, message_from_reference


def _vectors(prefix: str) -> list[Any]:
    if not VECTORS.exists():
        reason = "no ../shared/checkpoint-spec beside the checkout: the vectors are not there"
        return [pytest.param({}, marks=pytest.mark.skip(reason), id="none")]
    lines = [json.loads(line) for line in VECTORS.read_text("utf-8").splitlines()]
    return [
        pytest.param(line, id=f"{number}-{line['test']}")
        for number, line in enumerate(lines)
        if line["op"].startswith(prefix)
    ]


@pytest.mark.parametrize("vector", _vectors("render"))
def test_rendered_tokens(tokenizer: PublishedTokenizer, vector: dict[str, Any]) -> None:
    op = vector["op"]
    if op == "render":
        message = message_from_reference(vector["message"])
        ids = render_message(tokenizer, message, has_functions=vector["has_function_tools"])
    else:
        raw = vector["conversation"]["messages"]
        messages = [message_from_reference(message, vector["text"]) for message in raw]
        drop = vector["auto_drop_analysis"]
        if op == "render_conversation":
            ids = render_conversation(tokenizer, messages, auto_drop_analysis=drop)
        elif op == "render_conversation_for_training":
            ids = render_conversation_for_training(tokenizer, messages, auto_drop_analysis=drop)
        else:
            ids = render_conversation_for_completion(
                tokenizer, messages, vector["next_role"], auto_drop_analysis=drop
            )
    assert tokenizer.decode(ids) == vector["text"]
    assert ids == vector["tokens"]


def _expected(vector: dict[str, Any]) -> list[Message]:
    messages = [message_from_reference(message) for message in vector["messages"]]
    return [replace(message, content=message.text) for message in messages]


@pytest.mark.parametrize("vector", _vectors("parse"))
@pytest.mark.parametrize("strict", [True, False])
def test_parsed_messages(
    tokenizer: PublishedTokenizer, vector: dict[str, Any], strict: bool
) -> None:
    parser = StreamParser(tokenizer, vector["role"], strict=strict)
    assert parser.process_all(vector["tokens"]) == _expected(vector)


@pytest.mark.parametrize("vector", _vectors("stream"))
@pytest.mark.parametrize("strict", [True, False])
def test_streamed_steps(
    tokenizer: PublishedTokenizer, vector: dict[str, Any], strict: bool
) -> None:
    parser = StreamParser(tokenizer, vector["role"], strict=strict)
    if strict and not vector["strict"]:
        with pytest.raises(HarmonyParseError):
            parser.process_all(step[0] for step in vector["steps"])
        return
    for step in vector["steps"]:
        delta = parser.process(step[0])
        open_text = delta.text if delta is not None and delta.message is None else None
        assert [
            step[0],
            open_text or None,
            parser.current_role,
            parser.current_channel,
            parser.current_recipient,
            parser.current_content_type,
            parser.state.value,
            len(parser.messages),
        ] == step
    assert parser.messages == _expected(vector)
    if strict:
        assert all(not message.problems for message in parser.messages)
    else:
        assert any(message.problems for message in parser.messages) == (not vector["strict"])
