from __future__ import annotations

import asyncio
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from motet import LLM, ContextLengthError, InvalidRequestError, MotetError, SamplingParams

from .conftest import CONTEXT, assert_idle, reply, reply_ids

GREEDY = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)


def test_text_and_ids_of_it_are_the_same_prompt(llm: LLM) -> None:
    by_text = llm.generate("one two", GREEDY)
    by_ids = llm.generate(llm.tokenizer.encode("one two"), GREEDY)
    by_array = llm.generate(np.array(llm.tokenizer.encode("one two")), GREEDY)
    assert by_text.token_ids == by_ids.token_ids == by_array.token_ids
    assert len(by_text.token_ids) == 12
    assert str(by_text) == by_text.text
    assert (by_text.finish_reason, by_text.stop_reason) == ("length", None)
    assert by_text.usage.prompt_tokens == 7
    assert by_text.usage.total_tokens == 19
    assert by_text.usage.reasoning_tokens == by_text.usage.cached_tokens == 0


def test_special_tokens_in_a_prompt_are_text(llm: LLM) -> None:
    assert llm.generate("<|start|>", GREEDY).usage.prompt_tokens == len("<|start|>")


def test_several_prompts_equal_each_alone(llm: LLM) -> None:
    prompts = ["a", "bc", [1, 2, 3]]
    together = llm.generate(prompts, GREEDY)
    alone = [llm.generate(prompt, GREEDY) for prompt in prompts]
    assert [c.token_ids for c in together] == [c.token_ids for c in alone]
    assert llm.generate([]) == []


def test_params_for_each_prompt(llm: LLM) -> None:
    each = [SamplingParams(max_tokens=n, ignore_eos=True) for n in (2, 5)]
    assert [len(c.token_ids) for c in llm.generate(["a", "b"], each)] == [2, 5]
    with pytest.raises(InvalidRequestError, match="one for each of 3 prompts, found 2"):
        llm.generate(["a", "b", "c"], each)
    with pytest.raises(InvalidRequestError):
        llm.generate("a", each)


@pytest.mark.parametrize("bad", [{"max_tokens": 3}, 5, "abc"])
def test_params_of_another_type(llm: LLM, bad: Any) -> None:
    for call in (
        lambda: llm.generate("a", bad),
        lambda: llm.generate(["a"], bad),
        lambda: llm.generate(["a"], [bad]),
        lambda: llm.stream("a", bad),
        lambda: llm.chat("a", params=bad),
        lambda: llm.session(params=bad).send("a"),
        lambda: asyncio.run(llm.agenerate("a", bad)),
    ):
        with pytest.raises(InvalidRequestError, match=r"^params: expected .+, found ") as caught:
            call()
        assert caught.value.param == "params"


@pytest.mark.parametrize(
    "option",
    [{"response_format": {"type": "json_object"}}, {"reasoning_effort": "low"}, {"tools": []}],
)
def test_a_chats_options_are_unknown_here(llm: LLM, option: dict[str, Any]) -> None:
    """Not ignored."""
    with pytest.raises(TypeError, match=next(iter(option))):
        llm.generate("a", GREEDY, **option)
    with pytest.raises(TypeError, match=next(iter(option))):
        llm.stream("a", **option)


def test_arguments_go_before_params(llm: LLM) -> None:
    assert len(llm.generate("a", GREEDY, max_tokens=3).token_ids) == 3
    with pytest.raises(TypeError, match="temprature"):
        llm.generate("a", temprature=1.0)


def test_greedy_repeats_itself_and_agrees_with_logits(llm: LLM) -> None:
    first, second = (llm.generate("abc", GREEDY).token_ids for _ in range(2))
    assert first == second
    prompt = llm.tokenizer.encode("abc")
    logits = llm.logits(prompt + first)
    assert logits.shape == (3 + 12, 320)
    assert logits.dtype == np.float32
    assert logits[2:-1].argmax(axis=1).tolist() == first


def test_seeds(llm: LLM) -> None:
    def draw(seed: int | None) -> list[int]:
        return llm.generate("abc", seed=seed, max_tokens=16, ignore_eos=True).token_ids

    assert draw(7) == draw(7)
    assert draw(7) != draw(8)
    assert draw(None) != draw(None)


def test_seed_of_the_model_repeats_a_session(tiny_checkpoint: Path) -> None:
    def session() -> list[list[int]]:
        with LLM(tiny_checkpoint, max_context=64, threads=1, seed=3) as llm:
            return [llm.generate("x", max_tokens=8).token_ids for _ in range(2)]

    first = session()
    assert first == session()
    assert first[0] != first[1]


def test_answer_ends_with_the_context(llm: LLM) -> None:
    result = llm.generate([1] * (CONTEXT - 9), temperature=0.0, ignore_eos=True, max_tokens=10**6)
    assert result.usage.total_tokens == CONTEXT
    assert result.finish_reason == "length"


def test_prompt_over_the_context(llm: LLM) -> None:
    for n in (CONTEXT, CONTEXT + 99):
        with pytest.raises(ContextLengthError) as caught:
            llm.generate([1] * n)
        assert (caught.value.n_prompt, caught.value.n_ctx) == (n, CONTEXT)
        assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    "prompt",
    ["", "\ud83d", [320], [-1], [1.5], [1, "a"], [1, True], b"ab", 3, None, np.array(3)],
)
def test_bad_prompts(llm: LLM, prompt: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        llm.generate(prompt)
    assert caught.value.param in ("prompt", "prompts")
    with pytest.raises(InvalidRequestError, match=r"^prompt: ") as caught:
        llm.stream(prompt)
    assert caught.value.param == "prompt"
    if prompt != "":
        with pytest.raises(InvalidRequestError, match=r"^continuation: ") as caught:
            llm.score("a", prompt)
        assert caught.value.param == "continuation"


def test_own_end_of_the_model(llm: LLM) -> None:
    result = llm.generate("a", logits_processor=reply(llm, "hi<|return|>"))
    assert (result.text, result.finish_reason, result.stop_reason) == ("hi", "stop", None)
    assert result.token_ids == llm.tokenizer.encode_special("hi<|return|>")


def test_ignore_eos(llm: LLM) -> None:
    said = reply(llm, "hi<|return|>there")
    result = llm.generate("a", logits_processor=said, ignore_eos=True, max_tokens=8)
    assert (result.text, result.finish_reason) == ("hithere", "length")


@pytest.mark.parametrize("include", [False, True])
def test_stop_token(llm: LLM, include: bool) -> None:
    result = llm.generate(
        "a",
        logits_processor=reply(llm, "hello"),
        stop_token_ids=[ord("o")],
        include_stop_str_in_output=include,
    )
    assert (result.finish_reason, result.stop_reason) == ("stop", ord("o"))
    assert result.text == ("hello" if include else "hell")
    assert result.usage.completion_tokens == 5


@pytest.mark.parametrize("include", [False, True])
def test_stop_string(llm: LLM, include: bool) -> None:
    result = llm.generate(
        "a",
        logits_processor=reply(llm, "one END two"),
        stop=["END", "two"],
        include_stop_str_in_output=include,
    )
    assert (result.finish_reason, result.stop_reason) == ("stop", "END")
    assert result.text == ("one END" if include else "one ")
    assert result.usage.completion_tokens == len("one END")


def test_stop_string_does_not_count_before_min_tokens(llm: LLM) -> None:
    said = reply(llm, "a.b.c.d")
    assert llm.generate("x", logits_processor=said, stop=".", min_tokens=3).text == "a.b"


def test_characters_come_whole_and_an_unfinished_one_is_replaced(llm: LLM) -> None:
    smile = llm.tokenizer.encode("ok 🙂")
    stream = llm.stream("x", logits_processor=reply_ids([*smile, 258]))
    assert [delta.text for delta in stream if delta.kind == "text"] == ["o", "k", " ", "🙂"]
    cut = llm.generate("x", logits_processor=reply_ids(smile), max_tokens=5)
    assert cut.text == "ok \ufffd"


def test_logprobs_are_those_of_the_logits(llm: LLM) -> None:
    result = llm.generate("abc", GREEDY, logprobs=2, prompt_logprobs=1)
    ids = [*b"abc", *result.token_ids]
    logits = llm.logits(ids).astype(np.float64)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert result.logprobs is not None
    assert result.prompt_logprobs is not None
    assert [entry.token_id for entry in result.logprobs] == result.token_ids
    for position, entry in enumerate(result.logprobs, start=2):
        assert entry.logprob == pytest.approx(logs[position, entry.token_id], abs=1e-5)
        assert len(entry.top) == 2
        assert entry.top[0].token_id == entry.token_id
        assert entry.bytes == llm.tokenizer.token_bytes(entry.token_id)
    assert result.prompt_logprobs[0] is None
    for position, scored in enumerate(result.prompt_logprobs[1:]):
        assert scored is not None
        assert scored.token_id == ids[position + 1]
        assert scored.logprob == pytest.approx(logs[position, scored.token_id], abs=1e-5)


def test_logprobs_are_absent_unless_asked_for(llm: LLM) -> None:
    result = llm.generate("abc", GREEDY)
    assert result.logprobs is None
    assert result.prompt_logprobs is None


def test_score(llm: LLM) -> None:
    greedy = llm.generate("abc", GREEDY, logprobs=0)
    assert greedy.logprobs is not None
    total, is_greedy = llm.score("abc", greedy.token_ids)
    assert is_greedy
    assert total == pytest.approx(sum(entry.logprob for entry in greedy.logprobs), abs=1e-4)
    other = [(greedy.token_ids[0] + 1) % 256]
    total, is_greedy = llm.score("abc", other)
    assert not is_greedy
    assert -math.inf < total < greedy.logprobs[0].logprob
    assert llm.score("abc", "") == (0.0, True)
    with pytest.raises(InvalidRequestError):
        llm.score("", "abc")
    assert llm.score([1] * (CONTEXT - 12), [2] * 12)[0] < 0  # fills the context
    with pytest.raises(ContextLengthError):
        llm.score([1] * (CONTEXT - 12), [2] * 13)


@pytest.mark.parametrize("params", [{}, {"temperature": 0}, {"logprobs": 2}, {"n": 2}])
def test_logits_processor_that_leaves_no_token(llm: LLM, params: dict[str, Any]) -> None:
    def nothing(token_ids: object, logits: npt.NDArray[np.float32]) -> None:
        logits[:] = -np.inf

    with pytest.raises(MotetError, match="no token can be drawn: no logit is above -infinity"):
        llm.generate("a", logits_processor=nothing, **params)
    assert_idle(llm)
    assert llm.generate("a", max_tokens=1).finish_reason == "length"


def test_error_in_a_logits_processor_reaches_its_call(llm: LLM) -> None:
    def fail(token_ids: object, logits: object) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        llm.generate("a", logits_processor=fail)
    with pytest.raises(InvalidRequestError, match="shape"):
        llm.generate("a", logits_processor=lambda ids, logits: logits[:3])
    for wrong in (["x"] * 320, [None] * 320, [1j] * 320, [[1], [1, 2]], {1: 2}, True):
        with pytest.raises(InvalidRequestError, match=r"^logits_processor: expected .+, found "):
            llm.generate("a", logits_processor=lambda ids, logits, wrong=wrong: wrong)
    for right in ([0] * 320, np.zeros(320, bool), np.zeros(640)[::2], np.zeros(320, ">f4")):
        processor = lambda ids, logits, right=right: right  # noqa: E731
        assert llm.generate("a", GREEDY, logits_processor=processor).token_ids == [0] * 12
    assert len(llm.generate("a", GREEDY).token_ids) == 12


def test_logits_reshaped_in_place_are_refused(llm: LLM) -> None:
    def reshape(token_ids: object, logits: Any) -> None:
        logits.shape = (1, 320)

    with pytest.raises(InvalidRequestError, match="found shape"):
        llm.generate("a", logits_processor=reshape)


@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration])
def test_an_end_of_iteration_in_a_logits_processor_is_an_error(
    llm: LLM, error: type[Exception]
) -> None:
    """A stream would take it for its own end."""

    def fail(token_ids: object, logits: object) -> None:
        raise error

    for call in (
        lambda: llm.generate("a", logits_processor=fail),
        lambda: list(llm.stream("a", logits_processor=fail)),
        lambda: asyncio.run(llm.agenerate("a", logits_processor=fail)),
        lambda: asyncio.run(llm.astream("a", logits_processor=fail).result()),
    ):
        with pytest.raises(RuntimeError, match=f"logits_processor raised {error.__name__}"):
            call()


def test_call_from_a_callback_is_refused(llm: LLM) -> None:
    with pytest.raises(Exception, match="from a callback"):
        llm.generate("a", logits_processor=lambda ids, logits: llm.logits([1])[0])
    assert len(llm.generate("a", GREEDY).token_ids) == 12


def test_timings(llm: LLM) -> None:
    timings = llm.generate("abc", GREEDY).timings
    assert timings.queue_s >= 0
    assert 0 < timings.prefill_s <= timings.ttft_s
    assert timings.prefill_tps == pytest.approx(3 / timings.prefill_s)
    assert timings.decode_tps == pytest.approx(11 / timings.decode_s)


def test_defaults_from_generation_config(tiny_checkpoint: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    path = copy / "generation_config.json"
    path.write_text(json.dumps({"eos_token_id": [258], "do_sample": False, "temperature": 0.7}))
    with LLM(copy, max_context=64, threads=1) as llm:
        assert (
            llm.generate("a", max_tokens=8).token_ids == llm.generate("a", max_tokens=8).token_ids
        )
        drawn = [llm.generate("a", max_tokens=8, temperature=2.0).token_ids for _ in range(3)]
        assert drawn[0] != drawn[1] or drawn[1] != drawn[2]
        explicit = [llm.generate("a", SamplingParams(max_tokens=8)).token_ids for _ in range(3)]
        assert explicit[0] != explicit[1] or explicit[1] != explicit[2]
