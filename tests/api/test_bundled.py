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
