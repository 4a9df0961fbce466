"""Many requests at once on a full-size checkpoint: `python -m bench.serving CHECKPOINT --help`.

Each figure is a ratio within this process: streams together against one, tokens beside a prompt
that is being read, a shared prefix against a cold one, drafts against none. Random weights do: what
is timed does not depend on what is said. Prints one JSON object a figure.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.engines import token_ids
from motet import LLM

VOCAB = 200_000
GREEDY: dict[str, Any] = {"temperature": 0.0, "ignore_eos": True}


def times_of(llm: LLM, ids: list[int], n_new: int, **options: Any) -> list[float]:
    """When each token of a greedy answer came."""
    times = []
    for delta in llm.stream(ids, max_tokens=n_new, **GREEDY, **options):
        times += [time.perf_counter()] * len(delta.token_ids)
    return times


def together(calls: list[Callable[[], Any]]) -> list[Any]:
    results: list[Any] = [None] * len(calls)

    def run(i: int) -> None:
        results[i] = calls[i]()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def rate(times: list[float]) -> float:
    """Tokens a second after the first two, which come while caches are cold."""
    return (len(times) - 3) / (times[-1] - times[2])


def streams(args: argparse.Namespace) -> dict[str, Any]:
    with LLM(args.checkpoint, precision=args.precision, max_batch=8, threads=args.threads) as llm:
        ratios, ones, manys = [], [], []
        for turn in range(args.rounds):
            ones.append(rate(times_of(llm, token_ids(16, VOCAB, turn), 24)))
            seeds = range(100 + 8 * turn, 108 + 8 * turn)
            calls = [lambda s=s: times_of(llm, token_ids(16, VOCAB, s), 24) for s in seeds]
            times = together(calls)
            begin, end = max(t[2] for t in times), min(t[-1] for t in times)
            tokens = sum(begin < one <= end for t in times for one in t)
            manys.append(tokens / (end - begin))
            ratios.append(manys[-1] / ones[-1])
    return {
        "one": statistics.median(ones),
        "eight": statistics.median(manys),
        "ratio": statistics.median(ratios),
    }


def prompt_beside_streams(args: argparse.Namespace) -> dict[str, Any]:
    """`args.beside` streams run while a prompt of 4k is read; its speed alone, before."""
    n_prompt, n_streams = args.prompt, args.beside
    options: dict[str, Any] = {"precision": args.precision, "threads": args.threads}
    with LLM(args.checkpoint, max_batch=n_streams + 1, **options) as llm:
        begin = time.perf_counter()
        alone = times_of(llm, token_ids(n_prompt, VOCAB), 1)[0] - begin
        calls = [
            lambda s=s: times_of(llm, token_ids(16, VOCAB, s), 24) for s in range(1, n_streams + 1)
        ]
        gaps = [b - a for t in together(calls) for a, b in itertools.pairwise(t[2:])]
        step = statistics.median(gaps)
    target = 3 * step
    with LLM(args.checkpoint, max_batch=n_streams + 1, target_itl=target, **options) as llm:
        started, ended = threading.Event(), threading.Event()
        stamps: list[list[float]] = [[] for _ in range(n_streams)]

        def stream(i: int) -> None:
            with llm.stream(token_ids(16, VOCAB, i + 1), max_tokens=10_000, **GREEDY) as deltas:
                for delta in deltas:
                    stamps[i] += [time.perf_counter()] * len(delta.token_ids)
                    if all(len(s) > 12 for s in stamps):
                        started.set()
                    if ended.is_set():
                        return

        threads = [threading.Thread(target=stream, args=(i,)) for i in range(n_streams)]
        for thread in threads:
            thread.start()
        started.wait()
        begin = time.perf_counter()
        beside = times_of(llm, token_ids(n_prompt, VOCAB), 1)[0] - begin
        finish = begin + beside
        ended.set()
        for thread in threads:
            thread.join()
    gaps = [b - a for s in stamps for a, b in itertools.pairwise(s) if begin <= a and b <= finish]
    return {
        "streams": n_streams,
        "prompt_tokens": n_prompt,
        "step_s": step,
        "target_s": target,
        "gap_p50_s": float(np.quantile(gaps, 0.5)),
        "gap_p99_s": float(np.quantile(gaps, 0.99)),
        "gap_max_s": max(gaps),
        "prefill_alone_tps": n_prompt / alone,
        "prefill_beside_tps": n_prompt / beside,
        "ratio": alone / beside,
    }


def shared_prefix(args: argparse.Namespace) -> dict[str, Any]:
    prefix = token_ids(2048, VOCAB)
    ratios, colds, warms = [], [], []
    with LLM(args.checkpoint, precision=args.precision, threads=args.threads) as llm:
        for turn in range(min(args.rounds, 3)):
            salt = {"cache_salt": f"turn {turn}"}
            for times, seed in ((colds, 1), (warms, 2)):
                begin = time.perf_counter()
                ids = [*prefix, *token_ids(8, VOCAB, seed)]
                times.append(times_of(llm, ids, 1, **salt)[0] - begin)
            ratios.append(warms[-1] / colds[-1])
    return {
        "cold_s": statistics.median(colds),
        "warm_s": statistics.median(warms),
        "ratio": statistics.median(ratios),
    }


def speculation(args: argparse.Namespace) -> dict[str, Any]:
    """A replay of the greedy answer with one token in five wrong; no prediction at all.

    A round is plain, unrelated, replay, unrelated, plain, so that a machine that gets slower or
    faster meanwhile favours none. `unrelated_drafts` are what look-up drafted a token without a
    prediction: what is lost besides is the machine's noise.
    """
    options: dict[str, Any] = {"precision": args.precision, "threads": args.threads}
    ids, n_new = token_ids(64, VOCAB), 96
    with (
        LLM(args.checkpoint, **options) as plain_llm,
        LLM(args.checkpoint, speculation=True, **options) as llm,
    ):
        rng = np.random.default_rng(0)
        answer = plain_llm.generate(ids, max_tokens=n_new, **GREEDY).token_ids
        replay = [t if rng.random() < 0.8 else int(rng.integers(VOCAB)) for t in answer]

        def drafted(**prediction: Any) -> tuple[float, float, float]:
            """Tokens a second, drafts and accepted drafts of one answer."""
            before = llm.metrics()
            speed = rate(times_of(llm, ids, n_new, **prediction))
            after = llm.metrics()
            keys = ("draft_tokens", "accepted_draft_tokens")
            drafts, accepted = (after[key] - before[key] for key in keys)
            return speed, drafts, accepted

        drafted(prediction=replay)  # costs and acceptance are learned
        replays, unrelated = [], []
        drafts = accepted = unrelated_drafts = 0.0
        for _ in range(args.rounds):
            plain = [rate(times_of(plain_llm, ids, n_new))]
            first = drafted()
            again = drafted(prediction=replay)
            second = drafted()
            plain.append(rate(times_of(plain_llm, ids, n_new)))
            replays.append(again[0] / statistics.mean(plain))
            unrelated.append((first[0] + second[0]) / sum(plain))
            drafts, accepted = drafts + again[1], accepted + again[2]
            unrelated_drafts += first[1] + second[1]
        output = llm.generate(ids, max_tokens=n_new, prediction=replay, **GREEDY).token_ids
        assert output == answer
    return {
        "replay_ratio": statistics.median(replays),
        "replay_ratios": replays,
        "accepted": accepted / max(drafts, 1),
        "unrelated_ratio": statistics.median(unrelated),
        "unrelated_ratios": unrelated,
        "unrelated_drafts": unrelated_drafts / (2 * args.rounds * n_new),
    }


FIGURES = {
    "streams": streams,
    "shared_prefix": shared_prefix,
    "speculation": speculation,
    "prompt_beside_streams": prompt_beside_streams,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", help="directory in the published layout")
    parser.add_argument("--figures", nargs="+", default=list(FIGURES), choices=FIGURES)
    parser.add_argument("--precision", default="exact", choices=("exact", "int8"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=4096, help="tokens of the long prompt")
    parser.add_argument("--beside", type=int, default=8, help="streams beside the long prompt")
    args = parser.parse_args()
    for name in args.figures:
        print(json.dumps({name: FIGURES[name](args)}), flush=True)


if __name__ == "__main__":
    main()
