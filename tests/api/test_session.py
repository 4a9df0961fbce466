from __future__ import annotations

import asyncio
from typing import Any

import pytest

from motet import LLM, InvalidRequestError, SamplingParams, Session
from motet.harmony import Message

from .conftest import assert_idle, reply

FEW: dict[str, Any] = {"max_tokens": 12, "temperature": 0.0, "ignore_eos": True}


def answer(llm: LLM, text: str) -> Any:
    return reply(llm, f"<|channel|>final<|message|>{text}<|return|>")


def test_turns_see_the_earlier_ones(llm: LLM) -> None:
    session = llm.session("Be brief.", reasoning_effort="low")
    assert isinstance(session, Session)
    first = session.send("Hi", logits_processor=answer(llm, "Hello."))
    assert first.text == "Hello."
    second = session.send({"role": "user", "content": "More"}, logits_processor=answer(llm, "No."))
    assert second.text == "No."
    texts = [m.text if isinstance(m, Message) else m["content"] for m in session.messages]
    assert texts == ["Be brief.", "Hi", "Hello.", "More", "No."]
    prompt = llm.tokenizer.decode(llm.render(session.messages, reasoning_effort="low"))
    assert "Be brief." in prompt
    assert "Hello.<|end|>" in prompt
    assert second.usage.prompt_tokens > first.usage.prompt_tokens


def test_equals_chat_with_the_messages(llm: LLM) -> None:
    session = llm.session("Be brief.", **FEW)
    first = session.send("Hi")
    messages: list[Any] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]
    assert llm.chat(messages, **FEW).token_ids == first.token_ids
    messages += [*first.messages, {"role": "user", "content": "And?"}]
    assert session.send("And?").token_ids == llm.chat(messages, **FEW).token_ids


def test_only_what_is_new_is_computed(llm: LLM) -> None:
    session = llm.session("Begin with this. " * 8)
    first = session.send("Hi", logits_processor=answer(llm, "Hello."))
    fork = session.fork()
    for one in (session, fork):
        later = one.send("More", logits_processor=answer(llm, "No."))
        assert later.usage.cached_tokens >= 0.8 * first.usage.prompt_tokens
    assert later.usage.cached_tokens < later.usage.prompt_tokens


def test_forks_go_their_own_ways(llm: LLM) -> None:
    session = llm.session()
    session.send("Hi", logits_processor=answer(llm, "Hello."))
    fork = session.fork()
    fork.send("More", logits_processor=answer(llm, "No."))
    assert (len(session.messages), len(fork.messages)) == (2, 4)
    assert fork.messages[:2] == session.messages
    session.messages.clear()
    assert len(session.messages) == 2


def test_streams_and_asyncio(llm: LLM) -> None:
    session = llm.session()
    stream = session.stream("a", logits_processor=answer(llm, "A."))
    assert "".join(stream.text_stream) == "A."
    assert len(session.messages) == 2

    async def main() -> None:
        assert (await session.asend("b", logits_processor=answer(llm, "B."))).text == "B."
        astream = session.astream("c", logits_processor=answer(llm, "C."))
        assert [text async for text in astream.text_stream] == ["C", "."]

    asyncio.run(main())
    assert len(session.messages) == 6


def test_tools_results_are_a_turn(llm: LLM) -> None:
    def get_weather(city: str) -> str:
        """The weather of a city."""
        return city

    call = (
        "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
        '{"city":"Rome"}<|call|>'
    )
    session = llm.session(tools=[get_weather])
    asked = session.send("Weather in Rome?", logits_processor=reply(llm, call))
    told = {"role": "tool", "tool_call_id": asked.tool_calls[0].id, "content": "sunny"}
    assert session.send([told], logits_processor=answer(llm, "Sunny.")).text == "Sunny."
    assert len(session.messages) == 4


def test_a_turn_that_does_not_end_well_is_none(llm: LLM) -> None:
    def fail(token_ids: object, logits: object) -> None:
        raise ZeroDivisionError

    session = llm.session(ignore_eos=True)
    with pytest.raises(ZeroDivisionError):
        session.send("a", logits_processor=fail)
    with pytest.raises(InvalidRequestError):
        session.send("a", temperature=-1)
    with session.stream("a") as stream:
        next(stream)
    stream = session.stream("a")
    next(stream)
    stream.cancel()
    assert stream.result().finish_reason == "cancelled"
    next(session.stream("a"))  # dropped
    assert session.send("a", timeout=0.05).stop_reason == "timeout"
    assert session.messages == []
    assert session.send("a", **FEW).finish_reason == "length"
    assert len(session.messages) >= 2
    assert_idle(llm)


@pytest.mark.parametrize("bad", [5, None, 1.5, object()])
def test_a_turn_of_another_type(llm: LLM, bad: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^message: expected .+, found ") as caught:
        llm.session().send(bad)
    assert caught.value.param == "message"


def test_a_turns_params_go_before_the_sessions_own(llm: LLM) -> None:
    session = llm.session(max_tokens=5, ignore_eos=True, cache_salt="a")
    assert len(session.send("a").token_ids) == 5
    params = SamplingParams(max_tokens=7, ignore_eos=True)
    assert len(session.send("a", params=params).token_ids) == 7
    assert len(session.send("a", params=params, max_tokens=6).token_ids) == 6
    assert len(session.send("a", params=None).token_ids) == 5


def test_one_turn_at_a_time(llm: LLM) -> None:
    session = llm.session(ignore_eos=True)
    stream = session.stream("a")
    with pytest.raises(InvalidRequestError, match="fork") as caught:
        session.send("b")
    assert caught.value.code == "session_busy"
    assert len(session.fork().send("b", **FEW).token_ids) == 12
    stream.close()
    assert len(session.send("b", **FEW).token_ids) == 12
