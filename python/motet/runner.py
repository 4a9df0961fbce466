"""One engine, many readers: the engine's thread computes, a dispatcher hands out what it says.

Submitting, releasing and granting never wait for a step.
"""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from motet.errors import ModelClosedError, MotetError, QueueFullError
from motet.mailbox import Mailbox, dispatch

if TYPE_CHECKING:
    from motet import _core

_forks = 0  # how many fork() calls lie between this process and the one that imported motet


def _count_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


@dataclass(frozen=True, slots=True)
class Limits:
    """How one request shares the engine with others."""

    n: int = 1  # samples
    timeout: float = math.inf  # seconds until it ends with what has come
    cache_salt: int = 0  # requests share cached prefixes only with the same one
    window: int = 0  # tokens that may wait for the reader, 0: any number
    prediction: Sequence[int] | npt.NDArray[np.int32] = ()  # what the answer may resemble


class EngineThread:
    """Which thread the engine calls logits processors from; None until it has done so."""

    ident: int | None = None

    def is_current(self) -> bool:
        return self.ident == threading.get_ident()


class Runner:
    """Submit, wait for events, release: from any thread."""

    def __init__(
        self, engine: _core.Engine, *, max_batch: int = 1, max_queue: int | None = None
    ) -> None:
        """Starts the engine. `max_queue`: requests that may wait while `max_batch` others run."""
        self._engine: _core.Engine | None = engine
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._mailboxes: dict[int, Mailbox] = {}  # of every request that has not ended
        # One submission at a time. Reentrant: a signal handler may submit, or close.
        self._submitting = threading.RLock()
        self._forks = _forks
        self.engine_thread = EngineThread()
        engine.start()
        # The thread must not refer to the runner, which would then never be dropped.
        self._dispatcher = threading.Thread(
            target=dispatch,
            args=(engine, self._mailboxes),
            name="motet-events",
            daemon=True,
        )
        self._dispatcher.start()
        # Runs when the runner is dropped, and at the interpreter's exit.
        self._finalizer = weakref.finalize(
            self, _shut_down, engine, self._dispatcher, self.engine_thread, _forks
        )

    @property
    def engine(self) -> _core.Engine:
        """The engine; ModelClosedError after `close`, in a forked child and at the exit of the
        interpreter, when nobody computes any more."""
        if self._forks != _forks:
            raise ModelClosedError(
                "the model was loaded before fork(); load it in the process that uses it"
            )
        if self._engine is None or not self._finalizer.alive:
            raise ModelClosedError("the model was closed")
        return self._engine

    def submit(
        self,
        mailbox: Mailbox,
        token_ids: npt.NDArray[np.int32],
        sampling: _core.Sampling,
        max_new_tokens: int,
        limits: Limits,
    ) -> int:
        """Queues a request, whose events go to `mailbox`; the id of its sample 0, the others'
        follow. Raises QueueFullError, ModelClosedError.
        """
        _ = self.engine  # before the lock, which a forked child may find held for ever
        with self._submitting:
            engine = self._place(limits.n)
            first = self._register(engine, mailbox, limits.n)
            engine.submit(
                token_ids,
                sampling,
                max_new_tokens,
                n=limits.n,
                cache_salt=limits.cache_salt,
                timeout=limits.timeout,
                window=limits.window,
                prediction=limits.prediction,
                request=first,
            )
            _ = self.engine  # a signal handler may have closed it meanwhile
        return first

    def _register(self, engine: _core.Engine, mailbox: Mailbox, n: int) -> int:
        """The ids of a request's samples, n from this one on, whose events go to `mailbox`.

        Before it is submitted: then nobody who finds an event need wait to learn whose it is. Who
        called and fails calls `abandon`.
        """
        first = engine.reserve(n)
        self._mailboxes.update(dict.fromkeys(range(first, first + n), mailbox))
        return first

    def _place(self, n: int) -> _core.Engine:
        """The engine, if its queue has room for a request."""
        engine = self.engine
        # Not the engine's own count, to which all that came since its last step are still waiting.
        waiting = max(0, len(self._mailboxes) - self._max_batch)
        if self._max_queue is not None and waiting >= self._max_queue:
            raise QueueFullError(
                f"the queue is full: expected fewer than max_queue = {self._max_queue} waiting"
                f" requests, found {waiting}",
                max_queue=self._max_queue,
                waiting=waiting,
            )
        return engine

    def release(self, request: int) -> None:
        """Gives a request up: its cache is free before the next step. Unknown ids are ignored.

        Takes no lock and never raises, so that the garbage collector may call it.
        """
        engine = self._engine
        if self._forks != _forks or engine is None:
            return
        if self._mailboxes.pop(request, None) is not None:
            engine.cancel(request)

    def abandon(self, mailbox: Mailbox) -> None:
        """Gives up all requests of a mailbox."""
        for request, its_mailbox in self._mailboxes.copy().items():  # a copy: others release
            if its_mailbox is mailbox:
                self.release(request)

    def grant(self, request: int, tokens: int) -> None:
        """The reader has taken so many tokens: as many more may be computed ahead of it."""
        engine = self._engine
        if self._forks == _forks and engine is not None:
            engine.grant(request, tokens)

    def check_wait(self) -> None:
        """Raises if this thread would wait for ever: in a forked child or the engine's thread."""
        if self._forks != _forks:
            _ = self.engine
        if self.engine_thread.is_current():
            raise MotetError("the model was called from a callback of its own step")

    def logits(self, token_ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """float32 [n, vocab_size]: the logits after each of the n tokens."""
        self.check_wait()
        mailbox = Mailbox()
        try:
            with self._submitting:
                engine = self._place(1)
                request = self._register(engine, mailbox, 1)
                _, logits = engine.submit_logits(token_ids, request=request)
                _ = self.engine
            event = mailbox.get()
            while event is not None and event.finish is None:
                event = mailbox.get()
        finally:
            self.abandon(mailbox)
        if event is None or event.finish == "cancelled":
            raise ModelClosedError("the model was closed")
        if event.finish == "error":
            raise MotetError(f"the engine failed: {event.error}")
        return logits

    def close(self) -> None:
        """Ends all requests as cancelled, waits for the step that runs and frees the engine."""
        if self._forks != _forks:
            return
        self.check_wait()
        with self._submitting:
            self._engine = None
        self._finalizer()  # runs once, also if an interrupt kept an earlier call from it
        if threading.current_thread() is not self._dispatcher:
            self._dispatcher.join()  # another thread closes: closed is what both find afterwards


def _shut_down(
    engine: _core.Engine,
    dispatcher: threading.Thread,
    engine_thread: EngineThread,
    forks: int,
) -> None:
    if forks != _forks:  # the threads are the parent's
        return
    if engine_thread.is_current():  # the garbage collector ran in a callback
        args = (engine, dispatcher, EngineThread(), forks)
        threading.Thread(target=_shut_down, args=args, daemon=True).start()
        return
    engine.stop()
    # Out of native code before the interpreter ends, which kills daemon threads where they are.
    if threading.current_thread() is not dispatcher:
        dispatcher.join()
