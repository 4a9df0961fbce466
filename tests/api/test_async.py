from __future__ import annotations

import asyncio
import gc
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from motet import (
    LLM,
    AsyncStream,
    Delta,
    InvalidRequestError,
    ModelClosedError,
    MotetError,
    SamplingParams,
)

from .conftest import assert_idle, reply

LONG = SamplingParams(temperature=0.0, max_tokens=1500, ignore_eos=True)
# So slow that it can't be done before a busy machine comes back to the test.
SLOW = LONG.merged(logits_processor=lambda ids, logits: time.sleep(0.002))
SHORT = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)


@pytest.mark.parametrize("params", [SHORT, SHORT.merged(temperature=1.0, seed=5, logprobs=1)])
def test_outputs_equal_those_of_plain_calls(llm: LLM, params: SamplingParams) -> None:
    async def by_stream() -> tuple[list[Delta], Any]:
        async with llm.astream("abc", params) as stream:
            return [delta async for delta in stream], await stream.result()

    async def text_only() -> str:
        return "".join([text async for text in llm.astream("abc", params).text_stream])

    whole = llm.generate("abc", params)
    deltas, result = asyncio.run(by_stream())
    for other in (result, asyncio.run(llm.agenerate("abc", params))):
        assert (other.token_ids, other.text) == (whole.token_ids, whole.text)
        assert other.logprobs == whole.logprobs
    assert [i for delta in deltas for i in delta.token_ids] == whole.token_ids
    assert deltas[-1].kind == "end"
    assert asyncio.run(text_only()) == whole.text


def test_chat(llm: LLM) -> None:
    said = (
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
        "<|channel|>final<|message|>It is 4.<|return|>"
    )

    async def main() -> None:
        answer = await llm.achat("2 + 2?", logits_processor=reply(llm, said))
        assert (answer.reasoning, answer.text) == ("Hm.", "It is 4.")
        stream = llm.achat_stream("2 + 2?", logits_processor=reply(llm, said))
        assert "".join([text async for text in stream.text_stream]) == "It is 4."
        assert (await stream.result()).text == "It is 4."
        assert [delta async for delta in stream] == []

    asyncio.run(main())


def test_many_at_once_equal_each_alone(llm: LLM) -> None:
    prompts = [f"prompt {i}" for i in range(20)]

    async def main() -> list[list[int]]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(llm.agenerate(prompt, SHORT)) for prompt in prompts]
        return [task.result().token_ids for task in tasks]

    assert asyncio.run(main()) == [llm.generate(prompt, SHORT).token_ids for prompt in prompts]


def test_loops_in_several_threads_share_the_model(llm: LLM) -> None:
    alone = llm.generate("abc", SHORT).token_ids
    results: list[list[int]] = []

    async def main() -> None:
        done = await asyncio.gather(*(llm.agenerate("abc", SHORT) for _ in range(4)))
        results.extend(one.token_ids for one in done)

    threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert results == [alone] * 12


def test_no_thread_is_started_for_a_call(llm: LLM) -> None:
    async def main() -> int:
        streams = [llm.astream("abc", LONG) for _ in range(4)]
        for stream in streams:
            await anext(stream)
        return threading.active_count()

    before = threading.active_count()
    assert asyncio.run(main()) == before


async def all_of(stream: AsyncStream) -> list[Delta]:
    return [delta async for delta in stream]


async def first(stream: AsyncStream) -> Delta:
    async for delta in stream:
        return delta
    raise AssertionError


def cancelled_task(llm: LLM) -> None:
    async def main() -> None:
        task = asyncio.create_task(llm.agenerate("abc", SLOW))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(assert_idle, llm)

    asyncio.run(main())


def cancelled_reader_of_a_stream(llm: LLM) -> None:
    async def main() -> None:
        stream = llm.astream("abc", SLOW)

        async def read() -> None:
            async for _ in stream:
                pass

        task = asyncio.create_task(read())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await stream.result()).finish_reason == "cancelled"
        await asyncio.to_thread(assert_idle, llm)

    asyncio.run(main())


def time_is_up(llm: LLM) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await llm.agenerate("abc", SLOW)
        await asyncio.to_thread(assert_idle, llm)

    asyncio.run(main())


def break_and_drop(llm: LLM) -> None:
    async def main() -> None:
        async for _ in llm.astream("abc", LONG):
            break
        gc.collect()
        await asyncio.to_thread(assert_idle, llm)

    asyncio.run(main())


def aclose(llm: LLM) -> None:
    async def main() -> None:
        stream = llm.astream("abc", LONG)
        await first(stream)
        await stream.aclose()
        await stream.aclose()
        assert [delta async for delta in stream] == []
        assert (await stream.result()).finish_reason == "cancelled"

    asyncio.run(main())


def aclose_while_another_task_reads(llm: LLM) -> None:
    async def main() -> None:
        stream = llm.astream("abc", SLOW)
        reader = asyncio.create_task(all_of(stream))
        await asyncio.sleep(0.05)
        await stream.aclose()
        assert {delta.kind for delta in await asyncio.wait_for(reader, 10)} <= {"text"}
        assert (await stream.result()).finish_reason == "cancelled"

    asyncio.run(main())


def leaving_the_block(llm: LLM) -> None:
    async def main() -> None:
        async with llm.astream("abc", LONG) as stream:
            await first(stream)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())


def cancel_from_a_thread(llm: LLM) -> None:
    async def main() -> None:
        stream = llm.astream("abc", LONG)
        await first(stream)
        threading.Timer(0.01, stream.cancel).start()
        *_, last = [delta async for delta in stream]
        assert last.kind == "end"
        assert last.result is not None
        assert last.result.finish_reason == "cancelled"

    asyncio.run(main())


def never_read(llm: LLM) -> None:
    async def main() -> None:
        llm.astream("abc", LONG)

    asyncio.run(main())


def loop_closed_while_waiting(llm: LLM) -> None:
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(llm.agenerate("abc", SLOW))
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()
    assert_idle(llm)  # though the task is still there
    assert not waiting.done()
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]


def loop_closed_after_some(llm: LLM) -> None:
    stream = llm.astream("abc", LONG)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(first(stream))
    loop.close()
    del stream
    gc.collect()


@pytest.mark.parametrize(
    "how",
    [
        cancelled_task,
        cancelled_reader_of_a_stream,
        time_is_up,
        break_and_drop,
        aclose,
        aclose_while_another_task_reads,
        leaving_the_block,
        cancel_from_a_thread,
        never_read,
        loop_closed_while_waiting,
        loop_closed_after_some,
    ],
)
def test_whoever_leaves_frees_the_cache(llm: LLM, how: Any) -> None:
    how(llm)
    assert_idle(llm)
    assert len(llm.generate("abc", SHORT).token_ids) == 12


def test_a_stream_may_be_read_in_another_loop(llm: LLM) -> None:
    stream = llm.astream("abc", SHORT)

    async def some(n: int) -> list[Delta]:
        return [await anext(stream) for _ in range(n)]

    async def rest() -> list[Delta]:
        return [delta async for delta in stream]

    deltas = asyncio.run(some(3)) + asyncio.run(rest())
    want = llm.generate("abc", SHORT).token_ids
    assert [i for delta in deltas for i in delta.token_ids] == want


def test_a_second_reader_at_a_time_is_refused(llm: LLM) -> None:
    async def main() -> None:
        stream = llm.astream("abc", SLOW, max_tokens=20)
        both = asyncio.gather(all_of(stream), all_of(stream), return_exceptions=True)
        deltas, error = await asyncio.wait_for(both, 10)
        assert isinstance(error, MotetError)
        assert "one reader at a time" in str(error)
        assert isinstance(deltas, list)
        assert len([i for delta in deltas for i in delta.token_ids]) == 20

    asyncio.run(main())


def test_a_reader_whose_loop_is_closed_holds_up_no_other(llm: LLM) -> None:
    stream = llm.astream("abc", SLOW)
    loop = asyncio.new_event_loop()
    reader = loop.create_task(all_of(stream))
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    with pytest.raises(MotetError, match="one reader at a time"):
        asyncio.run(asyncio.wait_for(all_of(stream), 10))
    asyncio.run(stream.aclose())
    assert_idle(llm)
    reader._log_destroy_pending = False  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["stream", "collect"])
def test_a_reader_slower_than_the_model_lets_other_tasks_run(llm: LLM, how: str) -> None:
    """Its time limit is one of them."""
    expected = llm.generate("abc", LONG).token_ids

    async def read() -> list[int]:
        if how == "collect":
            task = asyncio.create_task(llm.agenerate("abc", LONG))
            await asyncio.sleep(0)
            time.sleep(1)  # all of it has come
            return (await task).token_ids
        ids: list[int] = []
        async for delta in llm.astream("abc", LONG):
            ids += delta.token_ids
            time.sleep(0.001)
        return ids

    async def main() -> None:
        ticks = 0
        reader = asyncio.create_task(read())
        while not reader.done():
            await asyncio.sleep(0)
            ticks += 1
        assert await reader == expected
        assert ticks > 100  # of 1500 tokens; a handful where the reader never lets go
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await read()

    asyncio.run(main())
    assert_idle(llm)


def test_errors_reach_the_caller(llm: LLM) -> None:
    def fail(token_ids: object, logits: object) -> None:
        raise ZeroDivisionError("mine")

    async def main() -> None:
        with pytest.raises(ZeroDivisionError, match="mine"):
            await llm.agenerate("a", logits_processor=fail)
        with pytest.raises(ZeroDivisionError, match="mine"):
            await first(llm.astream("a", logits_processor=fail))
        with pytest.raises(InvalidRequestError, match="temperature"):
            await llm.achat("a", temperature=-1)

    asyncio.run(main())


def test_close_ends_what_runs(tiny_checkpoint: Path) -> None:
    llm = LLM(tiny_checkpoint, max_context=2048, threads=1)

    async def main() -> None:
        whole = asyncio.create_task(llm.agenerate("abc", LONG))
        stream = llm.astream("abc", LONG)
        await first(stream)
        await asyncio.to_thread(llm.close)
        assert (await whole).finish_reason == "cancelled"
        assert (await stream.result()).finish_reason == "cancelled"
        with pytest.raises(ModelClosedError):
            await llm.agenerate("abc")

    asyncio.run(main())
