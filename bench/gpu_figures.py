"""Figures of one model on a GPU, in a process of its own: `python -m bench.gpu_figures PART MODEL`.

MODEL is a directory with a configuration and a tokenizer; the GPU makes up the weights. Prints a
JSON object a line, each as soon as it is known. Parts:

    peaks   what the device can do: bytes a second of a copy, FLOP/s of matrix products
    llm     load time, memory, first token and decoding, through LLM
    beside  the time between tokens while a long prompt is read, through LLM
    engine  decoding at several batch sizes, of a long context, and prefill, step by step
    int8    decoding with 8-bit weights, and with an 8-bit KV cache
    kernels the time that each kernel takes of these, by torch's profiler
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.cuda_kernels import short_name

from bench.engines import token_ids
from bench.serving import GREEDY, rate, times_of
from motet import LLM, _core, gpu
from motet.config import load_config
from motet.loading import Options
from motet.weights import core_config

DEVICE = 0
SKIPPED = 3  # steps: the first of a shape is recorded as a graph
PROFILED = 16  # steps
BESIDE_SECONDS = 3.0  # that a stream is watched beside a prompt
INT8_MODES: dict[str, dict[str, Any]] = {
    "int8": {"precision": "int8"},
    "kv_int8": {"kv_cache_dtype": "int8"},
}


def emit(name: str, value: Any) -> None:
    print(json.dumps({name: value}), flush=True)


def peaks(args: argparse.Namespace) -> None:
    """Measured with torch; where that is missing there is nothing to compare with."""
    import torch

    def seconds(function: Callable[[], Any], repeats: int = 20) -> float:
        events = []
        for _ in range(repeats + 3):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            function()
            end.record()
            events.append((start, end))
        torch.cuda.synchronize()
        return statistics.median(start.elapsed_time(end) for start, end in events[3:]) / 1e3

    source = torch.empty(2 << 30, dtype=torch.uint8, device="cuda").random_()
    target = torch.empty_like(source)
    emit("copy_bytes_s", 2 * source.numel() / seconds(lambda: target.copy_(source)))
    n = 8192
    for name, dtype in (("bf16", torch.bfloat16), ("f16", torch.float16)):
        a, b = (torch.randn(n, n, device="cuda").to(dtype) for _ in range(2))
        emit(f"{name}_flops_s", 2 * n**3 / seconds(lambda a=a, b=b: a @ b))  # type: ignore[misc]


def llm(args: argparse.Namespace) -> None:
    core = core_config(load_config(args.model))
    context = args.first_token_prompt + args.context + args.decoded + SKIPPED
    free = _core.cuda_memory(core, "exact", DEVICE, context, 1)["free"]
    start = time.perf_counter()
    with LLM(
        args.model,
        device=f"cuda:{DEVICE}",
        load_format="dummy",
        max_context=context,
        kv_cache_bytes=args.kv_cache_bytes,
        prefix_cache=False,  # what is timed is computing
    ) as model:
        emit("load_s", time.perf_counter() - start)
        after = _core.cuda_memory(core, "exact", DEVICE, context, 1)
        emit(
            "memory",
            {**model.info.memory, "taken": free - after["free"], "device": after["total"]},
        )
        vocab = model.tokenizer.vocab_size

        def first_token(seed: int) -> float:
            ids = token_ids(args.first_token_prompt, vocab, seed)
            start = time.perf_counter()
            next(model.stream(ids, max_tokens=1, **GREEDY))
            return time.perf_counter() - start

        samples = [first_token(seed) for seed in range(args.repeats + 1)][1:]
        emit("first_token", {"prompt": args.first_token_prompt, **summary(samples)})
        rates, gaps = [], []
        for seed in range(args.repeats):
            ids = token_ids(args.context, vocab, seed)
            times = times_of(model, ids, args.decoded + SKIPPED)
            rates.append(rate(times))
            gaps += gaps_of(times[SKIPPED:])
        figure = {"context": args.context, "tokens_s": statistics.median(rates)}
        emit("stream", figure | spread(gaps))


def beside(args: argparse.Namespace) -> None:
    """Tokens of a running stream while a long prompt is read, with twice their time as target."""
    options: dict[str, Any] = {
        "device": f"cuda:{DEVICE}",
        "load_format": "dummy",
        "max_context": args.beside_prompt + 1,
        "max_batch": 2,
        "prefix_cache": False,
    }
    with LLM(args.model, **options) as model:
        vocab = model.tokenizer.vocab_size
        ids = token_ids(args.context, vocab, 1)
        alone = spread(gaps_of(times_of(model, ids, args.decoded + SKIPPED)[SKIPPED:]))
    with LLM(args.model, target_itl=2 * alone["p50"], **options) as model:
        times_of(model, ids, 2 * SKIPPED)
        times: list[float] = []
        long = token_ids(args.beside_prompt, vocab, 2)
        with model.stream(ids, max_tokens=args.beside_prompt - len(ids), **GREEDY) as deltas:
            reading = None
            for delta in deltas:
                times += [time.perf_counter()] * len(delta.token_ids)
                if reading is None and len(times) > args.decoded:
                    begin = times[-1]
                    reading = model.stream(long, max_tokens=1, **GREEDY)
                if reading is not None and times[-1] > begin + BESIDE_SECONDS:
                    break
            if reading is not None:
                reading.cancel()
    figure = spread(gaps_of([one for one in times if one >= begin]))
    emit("stream_beside", {"prompt": args.beside_prompt, "alone_p50": alone["p50"], **figure})


def gaps_of(times: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(times)]


def spread(gaps: list[float]) -> dict[str, float]:
    ordered = sorted(gaps)
    return {f"p{p}": ordered[int(p / 100 * (len(ordered) - 1))] for p in (50, 99)}


def open_engine(args: argparse.Namespace, mode: dict[str, Any] | None = None) -> EngineBench:
    config = load_config(args.model)
    core = core_config(config)
    batch = max(args.batches)
    longest = args.context + new_tokens(args, batch)
    context = max(longest, args.long_context + new_tokens(args, 1), *args.prefills) + 1
    options = Options(
        device=f"cuda:{DEVICE}",
        max_context=context,
        max_batch=batch,
        kv_cache_bytes=args.kv_cache_bytes,
        load_format="dummy",
        **(mode or {}),
    )
    running = _core.Engine(
        core,
        None,
        device=DEVICE,
        max_context=context,
        precision=options.precision,
        kv_cache_dtype=options.kv_cache_dtype,
        kv_cache_bytes=gpu.cache_budget(options, config, core, DEVICE),
        threads=1,
        max_batch=batch,
        prefix_cache=False,
    )
    return EngineBench(running, config.vocab_size, args)


def engine(args: argparse.Namespace) -> None:
    bench = open_engine(args)
    for n in args.batches:
        emit(f"decode_{n}", {"batch": n, "context": args.context, **summary(bench.decode(n))})
    context = args.long_context
    figure = {"batch": 1, "context": context, **summary(bench.decode(1, context))}
    emit(f"decode_1_at_{context}", figure)
    for n in args.prefills:
        samples = [bench.prefill(n, seed) for seed in range(args.repeats + 1)][1:]
        emit(f"prefill_{n}", {"tokens": n, **summary(samples)})


def int8(args: argparse.Namespace) -> None:
    for name, mode in INT8_MODES.items():
        bench = open_engine(args, mode)
        for n in args.batches:
            figure = {"batch": n, "context": args.context, "mode": mode}
            emit(f"decode_{n}_{name}", {**figure, **summary(bench.decode(n))})
        del bench  # before the next asks how much memory is free


def summary(seconds: list[float]) -> dict[str, Any]:
    ordered = sorted(seconds)
    return {
        "seconds": statistics.median(ordered),
        "least": ordered[0],
        "p90": ordered[int(0.9 * (len(ordered) - 1))],
        "samples": len(ordered),
    }


def new_tokens(args: argparse.Namespace, batch: int) -> int:
    """Enough that the first prompt still answers when the last has been read, and as long as it
    takes then. A step computes 2048 tokens, so half of that is always there for prompts."""
    return int(args.decoded + SKIPPED + batch * args.context // 1024 + 2)


class EngineBench:
    def __init__(self, engine: _core.Engine, vocab: int, args: argparse.Namespace) -> None:
        self.engine = engine
        self.vocab = vocab
        self.args = args
        self.greedy = _core.Sampling(temperature=0)

    def submit(self, n_prompt: int, seed: int, n_new: int) -> int:
        return self.engine.submit(token_ids(n_prompt, self.vocab, seed), self.greedy, n_new)

    def step(self) -> int:
        """How many sequences got a token. What fails is no figure."""
        events = self.engine.step()
        for event in events:
            if event.error:
                raise SystemExit(event.error)
        return len(events)

    def finish(self) -> None:
        while not self.engine.idle:
            self.step()

    def prefill(self, n: int, seed: int) -> float:
        start = time.perf_counter()
        self.submit(n, seed, 1)
        self.finish()
        return time.perf_counter() - start

    def decoding(self, batch: int, context: int) -> list[int]:
        """Requests that all have had a few tokens, so that only decoding is left."""
        n_new = new_tokens(self.args, batch)
        requests = [self.submit(context, seed, n_new) for seed in range(batch)]
        full = 0
        while full < SKIPPED:
            full += self.step() == batch
            if self.engine.idle:
                raise SystemExit(f"{batch} requests never ran at once: too few pages")
        return requests

    def decode(self, batch: int, context: int | None = None) -> list[float]:
        """Seconds of each step of one token for each of `batch` requests."""
        requests = self.decoding(batch, context or self.args.context)
        times = [time.perf_counter()]
        while len(times) <= self.args.decoded and self.step() == batch:
            times.append(time.perf_counter())
        for request in requests:
            self.engine.cancel(request)
        self.finish()
        return gaps_of(times)


def kernels(args: argparse.Namespace) -> None:
    """Microseconds a step of each kernel; torch's profiler sees all of a process's kernels."""
    import torch
    from torch.profiler import ProfilerActivity

    # A kernel that waits for the one before it would have that one's time too.
    os.environ["MOTET_CUDA_EARLY_START"] = "0"
    bench = open_engine(args)

    def times_in(run: Callable[[], Any], steps: int) -> dict[str, Any]:
        with torch.profiler.profile(activities=[ProfilerActivity.CUDA]) as profiler:
            run()
        found: dict[str, list[float]] = {}
        for event in profiler.events():
            if "cuda" in str(event.device_type).lower():
                name = short_name(event.name).strip()
                found.setdefault(name, []).append(event.time_range.elapsed_us())
        ordered = sorted(found.items(), key=lambda item: -sum(item[1]))
        return {
            name: {"us": round(sum(times) / steps, 2), "calls": round(len(times) / steps, 2)}
            for name, times in ordered
        }

    def decode_steps() -> None:
        for _ in range(PROFILED):
            bench.step()

    for batch in args.batches:
        requests = bench.decoding(batch, args.context)
        emit(f"kernels_decode_{batch}", times_in(decode_steps, PROFILED))
        for request in requests:
            bench.engine.cancel(request)
        bench.finish()
    for n in args.prefills:
        bench.prefill(n, 6)
        emit(f"kernels_prefill_{n}", times_in(lambda n=n: bench.prefill(n, 7), 1))  # type: ignore[misc]


def parser() -> argparse.ArgumentParser:
    """Options that bench.gpu takes as well."""
    result = argparse.ArgumentParser(add_help=False)
    result.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32, 128])
    result.add_argument("--context", type=int, default=1024, help="of decoding")
    result.add_argument("--long-context", type=int, default=32768, help="of one more figure")
    result.add_argument("--beside-prompt", type=int, default=32768)
    result.add_argument("--decoded", type=int, default=100, help="steps that are timed")
    result.add_argument("--prefills", type=int, nargs="+", default=[512, 8192])
    result.add_argument("--first-token-prompt", type=int, default=2048)
    result.add_argument("--repeats", type=int, default=5)
    result.add_argument("--kv-cache-bytes", type=int, help="default: what the card has room for")
    return result


def arguments(args: argparse.Namespace) -> list[str]:
    """The options again, as a command line."""
    result = []
    for name in ("batches", "prefills"):
        result += [f"--{name}", *map(str, getattr(args, name))]
    for name in (
        "context",
        "long_context",
        "beside_prompt",
        "decoded",
        "first_token_prompt",
        "repeats",
        "kv_cache_bytes",
    ):
        if (value := getattr(args, name)) is not None:
            result += [f"--{name.replace('_', '-')}", str(value)]
    return result


def main() -> None:
    parts = {
        "peaks": peaks,
        "llm": llm,
        "beside": beside,
        "engine": engine,
        "int8": int8,
        "kernels": kernels,
    }
    mine = argparse.ArgumentParser(description=__doc__, parents=[parser()])
    mine.add_argument("part", choices=parts)
    mine.add_argument("model", type=Path)
    args = mine.parse_args()
    parts[args.part](args)


if __name__ == "__main__":
    main()
