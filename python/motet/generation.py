"""A request of one or more samples, from the events in its mailbox to its result."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from motet.assemble import Assembler
from motet.errors import MotetError
from motet.mailbox import Mailbox
from motet.results import Completion, Delta, Finish, TokenLogprob
from motet.runner import Limits, Runner
from motet.sample import Job, Sample

if TYPE_CHECKING:
    from motet import _core


class Generation:
    """A submitted request. For one reader; `release` from any thread."""

    def __init__(
        self,
        runner: Runner,
        mailbox: Mailbox,
        job: Job,
        assemblers: Sequence[Assembler],
        row: _core.Sampling,
        max_new_tokens: int,
        limits: Limits,
    ) -> None:
        """Submits the request; it has as many samples as there are assemblers."""
        submitted = time.perf_counter()
        wanted = job.params.prompt_logprobs is not None
        prompt_logprobs: list[TokenLogprob | None] = [None] * len(job.prompt_ids) if wanted else []
        self._runner = runner
        self._job = job
        self._samples = [
            Sample(index, job, assembler, submitted, prompt_logprobs)
            for index, assembler in enumerate(assemblers)
        ]
        self._grant_after = limits.window // 2
        self._taken = [0] * len(assemblers)  # tokens since the last grant
        self._released = False
        self.mailbox = mailbox
        self.first_id = -1  # until submitted, which may fail or be interrupted
        try:
            self.first_id = runner.submit(mailbox, job.prompt_ids, row, max_new_tokens, limits)
        except BaseException:  # an interrupt, perhaps: the engine may have the request
            runner.abandon(mailbox)
            raise

    def __del__(self) -> None:
        if getattr(self, "first_id", -1) >= 0:
            self.release()

    @property
    def ids(self) -> range:
        """The engine's names of the samples."""
        return range(self.first_id, self.first_id + len(self._samples))

    @property
    def ended(self) -> bool:
        """Whether all samples have ended; then there is a result."""
        return all(sample.result is not None for sample in self._samples)

    @property
    def result(self) -> Completion:
        """Sample 0's result with the other ones' in it; only after the end."""
        first, *others = (sample.result for sample in self._samples)
        assert first is not None
        alternatives = tuple(result for result in others if result is not None)
        return dataclasses.replace(first, alternatives=alternatives)

    def check_wait(self) -> None:
        """Raises if waiting for an event here would never end."""
        self._runner.check_wait()

    def take(self, event: _core.Event | None) -> list[Delta]:
        """The deltas of one event from the mailbox; what it raises ends the generation."""
        if event is None:
            return self.end("cancelled")
        try:
            processor = self._job.processor
            if processor is not None and processor.error is not None:
                raise processor.error
            index = event.request - self.first_id
            deltas = self._samples[index].take(event)
            if event.finish == "error":
                raise MotetError(f"the engine failed: {event.error}")
        except BaseException as error:
            self.end("error" if isinstance(error, Exception) else "cancelled")
            raise
        if event.finish is None:
            self._after(index, event)
        return deltas

    def _after(self, index: int, event: _core.Event) -> None:
        """Tells the engine what it can't know: stop strings, and how far the reader is."""
        if self._samples[index].stopped_early:
            self._runner.release(event.request)
        elif self._grant_after and not event.is_prompt:
            self._taken[index] += 1
            if self._taken[index] >= self._grant_after:
                self._runner.grant(event.request, self._taken[index])
                self._taken[index] = 0

    def end(self, reason: Finish) -> list[Delta]:
        """Gives the request up; what has come becomes the result. The last deltas."""
        self.release()
        return [delta for sample in self._samples for delta in sample.end(reason)]

    def release(self) -> None:
        """Frees what the request holds in the engine; never waits and never raises."""
        if self._released:
            return
        self._released = True
        for request in self.ids:
            self._runner.release(request)


def collect(generations: Sequence[Generation], mailbox: Mailbox) -> list[Completion]:
    """The results of requests that share a mailbox, whichever of them has events first."""
    with _giving_up(generations):
        by_id = {request: one for one in generations for request in one.ids}
        unfinished = set(generations)
        while unfinished:
            generations[0].check_wait()
            event = mailbox.get()
            for one in [*unfinished] if event is None else [by_id[event.request]]:
                one.take(event)
                if one.ended:
                    unfinished.discard(one)
        return [one.result for one in generations]


async def acollect(generation: Generation) -> Completion:
    """As `collect`, for one request and in the running event loop."""
    with _giving_up([generation]):
        while not generation.ended:
            generation.check_wait()
            await generation.mailbox.pause()
            generation.take(await generation.mailbox.aget())
        return generation.result


@contextlib.contextmanager
def _giving_up(generations: Sequence[Generation]) -> Iterator[None]:
    """Releases requests whose reader is interrupted, cancelled or fails."""
    try:
        yield
    finally:
        for one in generations:
            one.release()
