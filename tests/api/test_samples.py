"""Several samples of one prompt: n > 1."""

from __future__ import annotations

from typing import cast

import pytest

from motet import LLM, ChatCompletion, Delta, InvalidRequestError, SamplingParams

from .conftest import assert_idle, reply

DRAWN = SamplingParams(seed=3, max_tokens=20, ignore_eos=True, n=3)


def test_samples_differ_and_the_first_is_that_of_one(llm: LLM) -> None:
    result = llm.generate("abc", DRAWN)
    alone = llm.generate("abc", DRAWN, n=1)
    samples = [result, *result.alternatives]
    assert result.token_ids == alone.token_ids
    assert alone.alternatives == ()
    assert [sample.index for sample in samples] == [0, 1, 2]
    assert len({tuple(sample.token_ids) for sample in samples}) == 3
    assert {len(sample.token_ids) for sample in samples} == {20}
    assert llm.generate("abc", DRAWN).alternatives[1].token_ids == samples[2].token_ids


def test_a_stream_mixes_them(llm: LLM) -> None:
    whole = llm.generate("abc", DRAWN)
    stream = llm.stream("abc", DRAWN)
    deltas = list(stream)
    for sample in (whole, *whole.alternatives):
        own = [delta for delta in deltas if delta.index == sample.index]
        assert [delta.kind for delta in own].count("end") == 1
        assert own[-1].kind == "end"
        assert [i for delta in own for i in delta.token_ids] == sample.token_ids
        assert own[-1].result is not None
        assert own[-1].result.text == sample.text
    result = stream.result()
    assert [one.text for one in result.alternatives] == [one.text for one in whole.alternatives]
    assert "".join(llm.stream("abc", DRAWN).text_stream) == whole.text


def test_more_samples_than_places(llm: LLM) -> None:
    result = llm.generate("abc", DRAWN, n=20)
    assert len({tuple(one.token_ids) for one in (result, *result.alternatives)}) == 20
    assert_idle(llm)


def test_each_stops_by_itself(llm: LLM) -> None:
    result = llm.generate("abc", DRAWN, n=8, stop=[chr(c) for c in range(97, 123)])
    samples = (result, *result.alternatives)
    assert {one.finish_reason for one in samples} <= {"stop", "length"}
    assert len({len(one.token_ids) for one in samples}) > 1
    assert_idle(llm)


def test_chat_in_openais_form_counts_the_prompt_once(llm: LLM) -> None:
    said = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>4"
    result = llm.chat("2 + 2?", logits_processor=reply(llm, said + "<|return|>"), n=2)
    (other,) = result.alternatives
    assert isinstance(other, ChatCompletion)
    assert (other.text, other.reasoning, other.index) == ("4", "Hm.", 1)
    body = result.to_openai()
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    assert [choice["message"]["content"] for choice in body["choices"]] == ["4", "4"]
    usage = body["usage"]
    assert usage["prompt_tokens"] == result.usage.prompt_tokens
    assert usage["completion_tokens"] == 2 * result.usage.completion_tokens
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_prompt_logprobs_are_shared(llm: LLM) -> None:
    result = llm.generate("abc", DRAWN, prompt_logprobs=0)
    assert result.prompt_logprobs is not None
    assert None not in result.prompt_logprobs[1:]
    assert result.alternatives[1].prompt_logprobs == result.prompt_logprobs


def test_one_cancel_ends_all(llm: LLM) -> None:
    stream = llm.stream("abc", DRAWN, max_tokens=1000)
    next(stream)
    stream.cancel()
    rest = cast(list[Delta], list(stream))
    assert [delta.index for delta in rest if delta.kind == "end"] == [0, 1, 2]
    assert {one.finish_reason for one in (stream.result(), *stream.result().alternatives)} == {
        "cancelled"
    }
    assert_idle(llm)


@pytest.mark.parametrize("n", [0, 129, 1.0, True, None])
def test_bad_n(llm: LLM, n: object) -> None:
    with pytest.raises(InvalidRequestError, match="n: expected an integer in"):
        llm.generate("abc", n=n)  # type: ignore[call-overload]
