"""OpenAI chat dicts as harmony messages."""

from __future__ import annotations

from typing import Any

import pytest

from motet.errors import InvalidRequestError
from motet.harmony import DeveloperContent, Message, to_messages

_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
}


def _call(**fields: Any) -> Message:
    return Message(
        "assistant",
        '{"city": "Paris"}',
        channel="commentary",
        recipient="functions.get_weather",
        content_type="<|constrain|>json",
    )


def test_text_is_a_user_message() -> None:
    assert to_messages("hi") == [Message("user", "hi")]


def test_a_conversation_with_a_tool() -> None:
    messages: list[Any] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Weather in "}, {"text": "Paris?"}]},
        {"role": "assistant", "content": None, "reasoning_content": "Call.", "tool_calls": [_CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": '{"sunny": true}'},
        {"role": "assistant", "content": "Sunny.", "thinking": "Easy."},
        {"role": "user", "content": "Thanks", "name": "bob"},
    ]
    assert to_messages(messages) == [
        Message("developer", DeveloperContent(instructions="Be brief.")),
        Message("user", "Weather in Paris?"),
        Message("assistant", "Call.", channel="analysis"),
        _call(),
        Message(
            "tool",
            '{"sunny": true}',
            name="functions.get_weather",
            recipient="assistant",
            channel="commentary",
        ),
        Message("assistant", "Easy.", channel="analysis"),
        Message("assistant", "Sunny.", channel="final"),
        Message("user", "Thanks", name="bob"),
    ]


def test_text_beside_a_call_is_a_preamble() -> None:
    messages = to_messages([{"role": "assistant", "content": "Looking.", "tool_calls": [_CALL]}])
    assert messages == [Message("assistant", "Looking.", channel="commentary"), _call()]


def test_harmony_messages_pass_through() -> None:
    message = Message("assistant", "x", channel="analysis")
    assert to_messages([{"role": "user", "content": "hi"}, message])[1] is message


def test_arguments_as_a_dict() -> None:
    call = {"function": {"name": "f", "arguments": {"é": 1}}}
    (message,) = to_messages([{"role": "assistant", "tool_calls": [call]}])
    assert message.text == '{"é": 1}'


def test_results_of_several_calls_find_their_functions() -> None:
    calls = [{"id": str(i), "function": {"name": f"f{i}", "arguments": "{}"}} for i in range(2)]
    messages = to_messages(
        [
            {"role": "assistant", "tool_calls": calls},
            {"role": "tool", "tool_call_id": "1", "content": "b"},
            {"role": "tool", "tool_call_id": "0", "content": "a"},
        ]
    )
    assert [(m.name, m.text) for m in messages[2:]] == [
        ("functions.f1", "b"),
        ("functions.f0", "a"),
    ]


def test_results_without_an_id() -> None:
    messages = to_messages(
        [
            {"role": "assistant", "tool_calls": [_CALL]},
            {"role": "tool", "content": "a"},
            {"role": "tool", "name": "other", "content": "b"},
        ]
    )
    assert [m.name for m in messages[1:]] == ["functions.get_weather", "functions.other"]


def test_calls_of_builtin_tools() -> None:
    call = {"id": "c", "function": {"name": "python", "arguments": "print(1)"}}
    chat: list[Any] = [
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "1"},
    ]
    called, result = to_messages(chat, builtin_tools=["python"])
    assert (called.recipient, called.channel, called.content_type) == ("python", "analysis", "code")
    assert (result.name, result.channel) == ("python", "analysis")
    assert to_messages(chat)[0].recipient == "functions.python"


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        (None, "messages"),
        ({"role": "user", "content": "x"}, "messages"),
        ([5], "messages[0]"),
        ([{"content": "x"}], "messages[0].role"),
        ([{"role": "bot", "content": "x"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": "x"}, {"role": "user", "content": 5}], "messages[1].content"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}],
            "messages[0].content[0]",
        ),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0]"),
        ("half an emoji: \ud83d", "messages"),
        ([{"role": "user", "content": "\ud83d"}], "messages[0].content"),
        ([{"role": "user", "content": [{"text": "\ud83d"}]}], "messages[0].content"),
        ([{"role": "user", "content": "x", "name": 5}], "messages[0].name"),
        ([{"role": "assistant"}], "messages[0].content"),
        ([{"role": "assistant", "reasoning": 5}], "messages[0].reasoning"),
        ([{"role": "assistant", "tool_calls": "x"}], "messages[0].tool_calls"),
        ([{"role": "assistant", "tool_calls": [5]}], "messages[0].tool_calls[0].function"),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"name": ""}}]}],
            "messages[0].tool_calls[0].function.name",
        ),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": 5}}]}],
            "messages[0].tool_calls[0].function.arguments",
        ),
        (
            [
                {
                    "role": "assistant",
                    "tool_calls": [{"function": {"name": "f", "arguments": {"a": {1}}}}],
                }
            ],
            "messages[0].tool_calls[0].function.arguments",
        ),
        ([{"role": "tool", "content": "x"}], "messages[0].tool_call_id"),
        ([{"role": "tool", "tool_call_id": "q", "content": "x"}], "messages[0].tool_call_id"),
    ],
)
def test_bad_messages_are_named(messages: Any, param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        to_messages(messages)
    assert caught.value.param == param


def test_a_result_by_id_answers_a_call_among_harmony_messages() -> None:
    """`ChatCompletion.messages` are appended as they are; calls' ids are not in them."""
    messages = to_messages(
        [
            {"role": "user", "content": "weather and time?"},
            Message("assistant", "{}", channel="commentary", recipient="functions.get_weather"),
            Message("assistant", "{}", channel="commentary", recipient="functions.get_time"),
            {"role": "tool", "tool_call_id": "call_a", "content": "sunny"},
            {"role": "tool", "tool_call_id": "call_b", "content": "noon"},
        ]
    )
    assert [m.name for m in messages[3:]] == ["functions.get_weather", "functions.get_time"]
    with pytest.raises(InvalidRequestError, match="call_c"):
        to_messages([{"role": "tool", "tool_call_id": "call_c", "content": "?"}])
