"""Training conversations: the prompts are motet's own, and nothing held out is among them."""

from __future__ import annotations

import json
import random

import conversation as talk
import pytest
from evaluate import messages, response_format
from mixture import WEIGHTS, sample
from scoring import is_right, parse_reply
from tasks import arithmetic

from motet.harmony.chat import render_chat
from motet.locate import BUNDLED
from motet.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(BUNDLED / "tokenizer.json")


@pytest.mark.parametrize("task", list(WEIGHTS))
def test_prompts_are_those_of_chat(task: str, tokenizer: Tokenizer) -> None:
    rng = random.Random(task)
    for _ in range(40):
        sampled = sample(rng, task)
        sampled.date = sampled.date or "2026-01-31"
        ids = render_chat(
            tokenizer,
            messages(sampled),
            tools=sampled.tools,
            reasoning_effort=sampled.effort,  # type: ignore[arg-type]
            date=sampled.date,
            response_format=response_format(sampled),
        )
        assert ids == tokenizer.encode_special(talk.prompt_text(sampled))


@pytest.mark.parametrize("task", list(WEIGHTS))
def test_the_taught_reply_counts_as_right(task: str) -> None:
    rng = random.Random(task)
    for _ in range(40):
        sampled = sample(rng, task, want_held_out=True)
        assert talk.held_out(sampled.key)
        text = "".join(text for text, generated in talk.parts(sampled) if generated)
        assert is_right(sampled, parse_reply(text))
        assert not is_right(sampled, parse_reply("<|channel|>final<|message|>?<|return|>"))


@pytest.mark.parametrize("op", ["+", "-", "*"])
@pytest.mark.parametrize("effort", talk.EFFORTS)
def test_scratchpads_end_in_the_answer(op: str, effort: str) -> None:
    rng = random.Random(0)
    for _ in range(300):
        a, b = arithmetic.operands(rng, op)
        text = arithmetic.analysis(a, b, op, effort)
        result = text.split(". Check")[0].rsplit(". ", 1)[1]
        assert int(result) == arithmetic.value(a, b, op)


def test_tool_arguments_follow_their_schema() -> None:
    rng = random.Random(0)
    for _ in range(200):
        sampled = sample(rng, "tools")
        name, arguments = sampled.turns[0].call or ("", {})
        (schema,) = (t["function"] for t in sampled.tools if t["function"]["name"] == name)
        properties = schema.get("parameters", {}).get("properties", {})
        assert list(arguments) == list(properties)
        for key, value in json.loads(json.dumps(arguments)).items():
            assert isinstance(value, int if properties[key]["type"] == "integer" else str)
            assert value in properties[key].get("enum", [value])
