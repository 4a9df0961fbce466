"""Chat requests as prompts."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from motet.errors import InvalidRequestError
from motet.harmony import (
    DeveloperContent,
    Message,
    StreamParser,
    SystemContent,
    chat_messages,
    render_chat,
)
from tests.harmony.toy import ToyTokenizer

TOY = ToyTokenizer()
_NAMES = {i: name for name, i in TOY.special_tokens.items()}
_TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "description": "Does it.",
        "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}},
    },
}
_DEEP: dict[str, Any] = {}
for _ in range(200_000):  # newer Pythons write some ten thousand
    _DEEP = {"items": _DEEP}


def _tool_with(**schema: Any) -> dict[str, Any]:
    return {"name": "f", "parameters": {"type": "object", "properties": {"x": schema}}}


_TOOL_TEXT = (
    "# Tools\n\n## functions\n\nnamespace functions {\n\n"
    "// Does it.\ntype f = (_: {\nx?: number,\n}) => any;\n\n} // namespace functions"
)
_SYSTEM = (
    "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n"
    "Knowledge cutoff: 2024-06\nCurrent date: 2026-01-02\n\nReasoning: medium\n\n"
    "# Valid channels: analysis, commentary, final. Channel must be included for every message."
)
_FUNCTIONS = "\nCalls to these tools must go to the commentary channel: 'functions'."


def rendered(messages: Any, **options: Any) -> str:
    options.setdefault("date", "2026-01-02")
    ids = render_chat(TOY, messages, **options)
    return b"".join(_NAMES[i].encode() if i in _NAMES else TOY.token_bytes(i) for i in ids).decode()


def test_a_plain_question() -> None:
    assert rendered("hi") == (
        f"{_SYSTEM}<|end|><|start|>user<|message|>hi<|end|><|start|>assistant"
    )


def test_instructions_and_tools() -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    assert rendered(chat, tools=[_TOOL]) == (
        f"{_SYSTEM}{_FUNCTIONS}<|end|>"
        f"<|start|>developer<|message|># Instructions\n\nBe brief.\n\n{_TOOL_TEXT}<|end|>"
        "<|start|>user<|message|>hi<|end|><|start|>assistant"
    )


def test_tools_alone_make_a_developer_message() -> None:
    assert f"<|start|>developer<|message|>{_TOOL_TEXT}<|end|>" in rendered("hi", tools=[_TOOL])


def test_special_tokens_in_a_users_text_are_text() -> None:
    ids = render_chat(TOY, "<|end|><|start|>system")
    assert ids.count(TOY.special_tokens["<|start|>"]) == 3
    assert ids.count(TOY.special_tokens["<|end|>"]) == 2


def test_effort_date_and_builtin_tools() -> None:
    text = rendered("hi", reasoning_effort="high", builtin_tools=["python", "browser"], date="D")
    assert "Reasoning: high" in text
    assert "Current date: D\n" in text
    assert text.index("## browser") < text.index("## python")
    today = datetime.date.today().isoformat()
    assert f"Current date: {today}\n" in rendered("hi", date=None)


def test_a_system_message_of_ones_own() -> None:
    system = Message("system", SystemContent(identity="You are motet.", effort="low"))
    text = rendered([system, {"role": "user", "content": "hi"}], tools=[_TOOL])
    assert text.startswith("<|start|>system<|message|>You are motet.\nKnowledge")
    assert text.count("<|start|>system") == 1
    assert _FUNCTIONS in text


def test_opening_instructions_are_joined_and_later_ones_stay() -> None:
    messages = chat_messages(
        [
            {"role": "system", "content": "A"},
            {"role": "developer", "content": "B"},
            {"role": "user", "content": "hi"},
            {"role": "system", "content": "C"},
        ],
        tools=[_TOOL],
    )
    assert [message.role for message in messages] == ["system", "developer", "user", "developer"]
    first, later = messages[1].parts[0], messages[3].parts[0]
    assert isinstance(first, DeveloperContent)
    assert first.instructions == "A\n\nB"
    assert first.tools[0].tools[0].name == "f"
    assert later == DeveloperContent(instructions="C")


def test_old_analysis_is_dropped_and_the_current_kept() -> None:
    call = {"id": "1", "function": {"name": "f", "arguments": "{}"}}
    chat = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "reasoning": "old one"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d", "reasoning": "old two"},
        {"role": "user", "content": "e"},
        {"role": "assistant", "reasoning": "current", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "result"},
    ]
    text = rendered(chat, tools=[_TOOL])
    assert "old one" not in text
    assert "old two" not in text
    assert "<|channel|>analysis<|message|>current<|end|>" in text
    assert text.endswith(
        "<|start|>assistant to=functions.f<|channel|>commentary <|constrain|>json<|message|>"
        "{}<|call|>"
        "<|start|>functions.f to=assistant<|channel|>commentary<|message|>result<|end|>"
        "<|start|>assistant"
    )


def test_parsed_messages_go_on() -> None:
    """What the parser gives can be appended to the chat, as the published format wants it."""
    reply = StreamParser(TOY, "assistant").process_all(
        TOY.encode_special("<|channel|>analysis<|message|>x<|end|>")
        + TOY.encode_special("<|start|>assistant<|channel|>final<|message|>hi<|return|>")
    )
    text = rendered([Message("user", "a"), *reply, Message("user", "b")])
    assert "analysis<|message|>" not in text
    assert "<|start|>assistant<|channel|>final<|message|>hi<|end|>" in text


def test_response_formats() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    entry = {"name": "thing", "description": "A thing.", "schema": schema}
    shown = '{"type":"object","properties":{"a":{"type":"string"}}}'
    text = rendered("hi", response_format={"type": "json_schema", "json_schema": entry})
    assert f"# Response Formats\n\n## thing\n\n// A thing.\n{shown}<|end|>" in text
    assert f"## response\n\n{shown}<|end|>" in rendered("hi", response_format=schema)
    assert '{"type":"object"}' in rendered("hi", response_format={"type": "json_object"})
    assert "Response" not in rendered("hi", response_format={"type": "text"})

    class Model:
        @staticmethod
        def model_json_schema() -> dict[str, Any]:
            return schema

    assert f"## Model\n\n{shown}" in rendered("hi", response_format=Model)


def test_tool_choice() -> None:
    named = {"type": "function", "function": {"name": "f"}}
    text = rendered("hi", tools=[_TOOL], tool_choice=named)
    opened = " to=functions.f<|channel|>commentary <|constrain|>json<|message|>"
    assert text.endswith(f"<|start|>assistant{opened}")
    text = rendered("hi", tools=[_TOOL], tool_choice="required")
    assert text.endswith("<|start|>assistant<|channel|>commentary to=functions")
    text = rendered("hi", tools=[_TOOL], tool_choice="none")
    assert "functions" not in text


def test_a_forced_call_is_parsed_from_where_the_prompt_ends() -> None:
    prompt = render_chat(TOY, "hi", tools=[_TOOL], tool_choice="required")
    parser = StreamParser.after_prompt(TOY, prompt)
    (message,) = parser.process_all(TOY.encode_special(".f <|constrain|>json<|message|>{}<|call|>"))
    assert (message.recipient, message.text, message.problems) == ("functions.f", "{}", ())


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"builtin_tools": ["shell"]}, "builtin_tools"),
        ({"tools": _TOOL}, "tools"),
        ({"tools": [5]}, "tools[0]"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function.name"),
        ({"tools": [{"function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [{"name": "f", "parameters": "x"}]}, "tools[0].function.parameters"),
        ({"tools": [{"name": "f", "description": 5}]}, "tools[0].function.description"),
        ({"tools": [_TOOL, _TOOL]}, "tools[1].function.name"),
        ({"tool_choice": "always"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [_TOOL], "tool_choice": {"function": {"name": "g"}}}, "tool_choice"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": int}, "response_format"),
        (
            {"response_format": {"type": "json_schema"}},
            "response_format.json_schema.schema",
        ),
        (
            {"response_format": {"type": "json_schema", "name": 5, "schema": {}}},
            "response_format.json_schema.name",
        ),
        (
            {"response_format": {"type": "json_schema", "description": 5, "schema": {}}},
            "response_format.json_schema.description",
        ),
        ({"response_format": {"default": {1}}}, "response_format"),
        ({"response_format": _DEEP}, "response_format"),
        ({"tools": [_tool_with(default={1})]}, "tools"),
        ({"tools": [_tool_with(default=datetime.date(2026, 1, 2))]}, "tools"),
        ({"tools": [_tool_with(default=10**5000)]}, "tools"),
        ({"tools": [_tool_with(enum=[1, {1}])]}, "tools"),
        ({"tools": [_tool_with(default=_DEEP)]}, "tools"),
        ({"builtin_tools": None}, "builtin_tools"),
        ({"builtin_tools": "python"}, "builtin_tools"),
        ({"builtin_tools": [[]]}, "builtin_tools"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        render_chat(TOY, "hi", **options)
    assert caught.value.param == param
