"""One engine shared by threads: whoever waits for a token steps the engine for everybody.

Submitting and cancelling never wait for a step. A thread that wants events while another one steps
sleeps until that step has brought some, so that an interrupt reaches it at once.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from motet.errors import ModelClosedError, MotetError

if TYPE_CHECKING:
    from motet import _core


class TimedEvent(NamedTuple):
    """An engine's event with the computing time that led to it since the request's last one."""

    event: _core.Event
    seconds: float


class Request:
    """What the engine still has to say about one request."""

    def __init__(self, request_id: int) -> None:
        self.id = request_id
        self.events: deque[TimedEvent] = deque()
        self.seconds = 0.0  # computing time since its last event
        self.submitted = time.perf_counter()
        self.started: float | None = None  # when the first step that could serve it began
        self.first_token: float | None = None
        self.finished = False  # no more events will come


class Runner:
    """Submit, wait for events, release: from any thread."""

    def __init__(self, engine: _core.Engine) -> None:
        self._engine: _core.Engine | None = engine
        self._changed = threading.Condition()  # guards everything below
        self._owner: int | None = None  # the thread that computes now
        self._requests: dict[int, Request] = {}

    @property
    def engine(self) -> _core.Engine:
        """The engine; ModelClosedError after `close`."""
        if self._engine is None:
            raise ModelClosedError("the model was closed")
        return self._engine

    def submit(
        self, token_ids: npt.NDArray[np.int32], sampling: _core.Sampling, max_new_tokens: int
    ) -> Request:
        """Queues a request; its tokens are computed while somebody waits for them."""
        with self._changed:  # so that no step hands out events before the request is known
            request = Request(self.engine.submit(token_ids, sampling, max_new_tokens))
            self._requests[request.id] = request
        return request

    def wait(self, request: Request) -> list[TimedEvent]:
        """The next events of `request`, in order; [] once it has finished or was released.

        KeyboardInterrupt passes through; what a step raises reaches the thread that stepped.
        """
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: request.events or request.finished or self._owner is None
                )
                if request.events or request.finished:
                    events = list(request.events)
                    request.events.clear()
                    return events
            with self._own() as engine:
                # Another thread may have stepped in between.
                if not request.events and not request.finished:
                    self._step(engine)

    def release(self, request: Request) -> None:
        """Gives a request up: its cache is free before the next step.

        Never waits for a step, so that another thread or the garbage collector may call it.
        """
        with self._changed:
            if request.finished:
                return
            request.finished = True
            self._requests.pop(request.id, None)
            if self._engine is not None:
                self._engine.cancel(request.id)
            self._changed.notify_all()

    def logits(self, token_ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """float32 [n, vocab_size]: the logits after each of the n tokens."""
        with self._own() as engine:
            return engine.logits(token_ids)

    def close(self) -> None:
        """Frees the engine after the step that runs; who still waits gets ModelClosedError."""
        with self._changed:
            self._changed.wait_for(lambda: self._owner is None)
            self._engine = None
            self._requests.clear()
            self._changed.notify_all()

    def _step(self, engine: _core.Engine) -> None:
        """One step; its events go to their requests. The caller owns the engine."""
        start = time.perf_counter()
        events = engine.step()
        end = time.perf_counter()
        with self._changed:
            # Copied: the garbage collector may release a stream at any line.
            for request in list(self._requests.values()):
                request.started = start if request.started is None else request.started
                request.seconds += end - start
            for event in events:
                owner = self._requests.get(event.request)
                if owner is None:  # released during the step
                    continue
                if event.token >= 0 and not event.is_prompt and owner.first_token is None:
                    owner.first_token = end
                owner.events.append(TimedEvent(event, owner.seconds))
                owner.seconds = 0.0
                if event.finish is not None:
                    owner.finished = True
                    self._requests.pop(owner.id, None)

    @contextmanager
    def _own(self) -> Iterator[_core.Engine]:
        """The engine, for this thread to compute with."""
        me = threading.get_ident()
        if self._owner == me:
            raise MotetError("the model was called from a callback of its own step")
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._owner is None)
                engine = self.engine
                self._owner = me
            yield engine
        finally:  # an interrupt can come at any line above
            with self._changed:
                if self._owner == me:
                    self._owner = None
                self._changed.notify_all()
