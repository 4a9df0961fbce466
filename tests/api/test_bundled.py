"""The model that comes with the package, through the public surface. Its quality is measured in
tools/bundled_model; here only that it is there and works."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from motet import LLM


@pytest.fixture(scope="module")
def bundled() -> Iterator[LLM]:
    with LLM() as llm:
        yield llm


def test_it_adds(bundled: LLM) -> None:
    result = bundled.chat("What is 17 + 25?")
    assert "42" in result.text
    assert result.reasoning
    assert result.finish_reason == "stop"


def test_it_is_greedy_by_default(bundled: LLM) -> None:
    texts = {bundled.chat("What is 391 + 45?").text for _ in range(3)}
    assert len(texts) == 1


def test_it_streams(bundled: LLM) -> None:
    deltas = list(bundled.chat_stream("What is 8 + 8?"))
    assert {delta.kind for delta in deltas} == {"reasoning", "text", "end"}
    assert sum(delta.kind == "text" for delta in deltas) >= 1


def test_it_calls_a_tool_and_uses_the_result(bundled: LLM) -> None:
    def get_weather(city: str) -> str:
        """Gets the current weather in a city."""
        raise AssertionError("motet does not call it")

    asked = {"role": "user", "content": "What is the weather in Paris?"}
    reply = bundled.chat([asked], tools=[get_weather])
    (call,) = reply.tool_calls
    assert (call.name, call.json(), reply.finish_reason) == (
        "get_weather",
        {"city": "Paris"},
        "tool_calls",
    )
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"temperature": 21}'}
    answer = bundled.chat([asked, *reply.messages, result], tools=[get_weather])
    assert "21" in answer.text
