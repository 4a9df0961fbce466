"""One engine's figures, measured in a process of its own: `python -m bench.engines ENGINE MODEL`.

Prints one JSON object: tokens a second of each figure, and the process's memory in bytes. Both
engines get the same token ids, two threads unless told, and a warm-up outside of the timing; only
a prompt's last token has logits.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

FIGURES = ("prefill_256", "prefill_1024", "decode", "decode_of_8", "decode_at_8k")
BATCH, BATCH_PROMPT = 8, 16
DECODED = 32
SKIPPED = 2  # the first decoded tokens: what comes before a step is still in the caches


class Engine(Protocol):
    def prefill(self, n: int) -> float:
        """Seconds to compute a prompt of n tokens."""

    def decode(self, n_prompt: int, batch: int) -> list[float]:
        """Seconds of each step that decodes a token of `batch` sequences of n_prompt tokens."""


def token_ids(n: int, vocab: int, seed: int = 0) -> list[int]:
    """Tokens all over the vocabulary, so that the router picks experts as it does in use."""
    step = 7919  # prime, so that no vocabulary size makes it repeat early
    return [(1 + seed * 104729 + i * step) % vocab for i in range(n)]


class Motet:
    def __init__(self, model: str, precision: str, threads: int, context: int) -> None:
        from motet import _core
        from motet.checkpoint import Checkpoint
        from motet.config import load_config
        from motet.weights import core_config, load_weights

        directory = Path(model)
        config = load_config(directory)
        checkpoint = Checkpoint(directory)
        self.greedy = _core.Sampling(temperature=0)
        self.vocab = 200_000
        self.engine = _core.Engine(
            core_config(config),
            load_weights(checkpoint, config),
            precision=precision,  # type: ignore[arg-type]
            max_context=context,
            kv_cache_bytes=8 << 30,
            threads=threads,
            max_batch=BATCH,
            prefix_cache=False,  # what is timed is computing
        )
        if precision == "int8":
            checkpoint.release_pages()

    def prefill(self, n: int) -> float:
        start = time.perf_counter()
        self.engine.submit(token_ids(n, self.vocab), self.greedy, 1)
        while not self.engine.idle:
            self.engine.step()
        return time.perf_counter() - start

    def decode(self, n_prompt: int, batch: int) -> list[float]:
        for seed in range(batch):
            ids = token_ids(n_prompt, self.vocab, seed)
            self.engine.submit(ids, self.greedy, DECODED)
        times = []
        while not self.engine.idle:
            if len(self.engine.step()) == batch:
                times.append(time.perf_counter())
        return [after - before for before, after in itertools.pairwise(times)]


class LlamaCpp:
    """Through llama-cpp-python's bindings of the C interface, with llama.cpp's own defaults."""

    def __init__(self, model: str, threads: int, context: int) -> None:
        import llama_cpp

        self.lib: Any = llama_cpp
        self.log = llama_cpp.llama_log_callback(lambda *_: None)  # kept: C calls it
        llama_cpp.llama_log_set(self.log, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = BATCH * context
        params.n_batch = max(context, 2048)
        params.n_seq_max = BATCH
        params.n_threads = params.n_threads_batch = threads
        self.model = llama_cpp.llama_model_load_from_file(
            model.encode(), llama_cpp.llama_model_default_params()
        )
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {model}")
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.batch = llama_cpp.llama_batch_init(params.n_batch, 0, 1)
        self.vocab = 200_000

    def _run(self, rows: list[tuple[int, int, int, bool]]) -> None:
        """One llama_decode of (token, position, sequence, wants logits) rows."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i] = token, position
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
            batch.logits[i] = wanted
        if self.lib.llama_decode(self.context, batch) != 0:
            raise SystemExit("llama_decode failed")
        self.lib.llama_synchronize(self.context)

    def _prompt(self, n: int, sequence: int) -> None:
        ids = token_ids(n, self.vocab, sequence)
        self._run([(ids[i], i, sequence, i == n - 1) for i in range(n)])

    def prefill(self, n: int) -> float:
        self.lib.llama_memory_clear(self.memory, True)
        start = time.perf_counter()
        self._prompt(n, 0)
        return time.perf_counter() - start

    def decode(self, n_prompt: int, batch: int) -> list[float]:
        self.lib.llama_memory_clear(self.memory, True)
        for sequence in range(batch):
            self._prompt(n_prompt, sequence)
        times = []
        for i in range(DECODED):
            start = time.perf_counter()
            ids = token_ids(batch, self.vocab, i)
            self._run([(ids[s], n_prompt + i, s, True) for s in range(batch)])
            times.append(time.perf_counter() - start)
        return times


def figure(engine: Engine, name: str) -> float:
    """Tokens a second."""
    if name.startswith("prefill_"):
        n = int(name.removeprefix("prefill_"))
        return n / engine.prefill(n)
    n_prompt, batch = {
        "decode": (BATCH_PROMPT, 1),
        "decode_of_8": (BATCH_PROMPT, BATCH),
        "decode_at_8k": (8000, 1),
    }[name]
    return batch / statistics.median(engine.decode(n_prompt, batch)[SKIPPED:])


def memory() -> dict[str, int]:
    """The process's peak resident memory, and its anonymous part now, in bytes."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "peak_resident": int(status["VmHWM"].split()[0]) * 1024,
        "anonymous": int(status["RssAnon"].split()[0]) * 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=("motet", "llama_cpp"))
    parser.add_argument("model")
    parser.add_argument("--precision", default="exact")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--figures", nargs="+", default=FIGURES[:4], choices=FIGURES)
    args = parser.parse_args()
    context = 8192 if "decode_at_8k" in args.figures else 1100
    make: Callable[[], Engine]
    if args.engine == "motet":
        make = lambda: Motet(args.model, args.precision, args.threads, context)  # noqa: E731
    else:
        make = lambda: LlamaCpp(args.model, args.threads, context)  # noqa: E731
    engine = make()
    engine.prefill(64)  # brings the weights to memory, starts the threads
    result: dict[str, Any] = {name: figure(engine, name) for name in args.figures}
    json.dump({**result, **memory()}, sys.stdout)


if __name__ == "__main__":
    main()
