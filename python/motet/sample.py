"""One sample of a request, from its first event to its result: events become deltas."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from motet.assemble import Assembler, Fields, Piece
from motet.results import Completion, Delta, Finish, Timings, TokenLogprob, Usage

if TYPE_CHECKING:
    from motet import _core
    from motet.processor import GuardedProcessor
    from motet.sampling import SamplingParams
    from motet.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Job:
    """What was asked for."""

    prompt_ids: npt.NDArray[np.int32]  # [n]
    params: SamplingParams
    eos_ids: frozenset[int]  # the model's own ends, empty under ignore_eos
    tokenizer: Tokenizer
    processor: GuardedProcessor | None = None


class Sample:
    """Takes a sample's events and gives deltas, the last of kind "end"."""

    def __init__(
        self,
        index: int,
        job: Job,
        assembler: Assembler,
        submitted: float,
        prompt_logprobs: list[TokenLogprob | None],
    ) -> None:
        """`submitted` by time.perf_counter; `prompt_logprobs` [n_prompt] is shared by all samples,
        since the engine computes the prompt once."""
        self._index = index
        self._job = job
        self._assembler = assembler
        self._text: list[str] = []
        self._token_ids: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._prompt_logprobs = prompt_logprobs
        self._n_sent = 0  # tokens that deltas have carried so far
        self._n_cached = 0  # prompt tokens that were not computed again
        self._times = Times(submitted)
        self.result: Completion | None = None

    @property
    def stopped_early(self) -> bool:
        """Whether a stop string ended it, of which the engine knows nothing."""
        return self._assembler.stopped_by is not None

    def take(self, event: _core.Event) -> list[Delta]:
        """The deltas of an event; [] after the end."""
        if self.result is not None:
            return []
        self._n_cached = event.cached_tokens
        self._times.note(event)
        if event.is_prompt:
            self._prompt_logprobs[event.position] = self._token_logprob(event)
        elif event.token >= 0:
            self._token_ids.append(event.token)
            if self._job.params.logprobs is not None:
                self._logprobs.append(self._token_logprob(event))
            ends = event.finish == "stop"
            deltas = self._deltas(self._assembler.push(event.token, ends=ends))
            if self.stopped_early:
                return deltas + self.end("stop", self._assembler.stopped_by)
            if event.finish is None:
                return deltas
            return deltas + self.end(*self._reason(event))
        return [] if event.finish is None else self.end(*self._reason(event))

    def end(self, reason: Finish, stop_reason: str | int | None = None) -> list[Delta]:
        """Builds the result, once, and gives the last deltas."""
        if self.result is not None:
            return []
        deltas = self._deltas(self._assembler.finish())
        # A stop string may also be completed by what only the end lets out.
        if self.stopped_early and reason in ("stop", "length"):
            reason, stop_reason = "stop", self._assembler.stopped_by
        self.result = self._assembler.result(self._fields(reason, stop_reason))
        ids, logprobs = self._unsent()
        last = Delta("end", token_ids=ids, index=self._index, logprobs=logprobs, result=self.result)
        return [*deltas, last]

    def _reason(self, event: _core.Event) -> tuple[Finish, str | int | None]:
        """Why it ended. The stop reason is the caller's stop token, None for the model's own."""
        if event.finish == "timeout":
            return "cancelled", "timeout"
        asked_for = event.token in self._job.params.stop_token_ids
        if event.finish == "stop" and asked_for and event.token not in self._job.eos_ids:
            return "stop", event.token
        return event.finish or "cancelled", None

    def _deltas(self, pieces: list[Piece]) -> list[Delta]:
        """Deltas of pieces; the first one carries the tokens that no delta has carried yet."""
        deltas = []
        for piece in pieces:
            ids, logprobs = self._unsent()
            if piece.kind == "text":
                self._text.append(piece.text)
            deltas.append(
                Delta(
                    piece.kind,
                    text=piece.text,
                    token_ids=ids,
                    index=self._index,
                    tool_call=piece.tool_call,
                    logprobs=logprobs,
                )
            )
        return deltas

    def _unsent(self) -> tuple[tuple[int, ...], tuple[TokenLogprob, ...] | None]:
        start, self._n_sent = self._n_sent, len(self._token_ids)
        logprobs = tuple(self._logprobs[start:]) if self._job.params.logprobs is not None else None
        return tuple(self._token_ids[start:]), logprobs

    def _token_logprob(self, event: _core.Event) -> TokenLogprob:
        def entry(token_id: int, logprob: float) -> TokenLogprob:
            raw = self._job.tokenizer.token_bytes(token_id)
            return TokenLogprob(token_id, raw.decode("utf-8", "replace"), raw, logprob)

        chosen = entry(event.token, event.logprob)
        top = tuple(entry(token_id, logprob) for token_id, logprob in event.top)
        return TokenLogprob(chosen.token_id, chosen.token, chosen.bytes, chosen.logprob, top)

    def _fields(self, reason: Finish, stop_reason: str | int | None) -> Fields:
        params = self._job.params
        return Fields(
            text="".join(self._text),
            token_ids=self._token_ids,
            finish_reason=reason,
            stop_reason=stop_reason,
            usage=self._usage(),
            timings=self._times.timings(
                len(self._job.prompt_ids) - self._n_cached, len(self._token_ids)
            ),
            index=self._index,
            logprobs=self._logprobs if params.logprobs is not None else None,
            prompt_logprobs=self._prompt_logprobs if params.prompt_logprobs is not None else None,
        )

    def _usage(self) -> Usage:
        n_prompt, n_new = len(self._job.prompt_ids), len(self._token_ids)
        return Usage(
            prompt_tokens=n_prompt,
            completion_tokens=n_new,
            reasoning_tokens=self._assembler.reasoning_tokens,
            cached_tokens=self._n_cached,
            total_tokens=n_prompt + n_new,
        )


class Times:
    """When what happened to a sample, by time.perf_counter."""

    def __init__(self, submitted: float) -> None:
        self._submitted = submitted
        self._started: float | None = None  # when the first step that served it began
        self._first: float | None = None  # token; the prompt's end where no token is wanted
        self._last = submitted  # token
        self._now = submitted  # last event

    def note(self, event: _core.Event) -> None:
        self._now = event.time
        if not math.isnan(event.started):
            self._started = event.started
        if event.is_prompt:
            return
        if self._first is None and (event.token >= 0 or event.finish == "length"):
            self._first = event.time
        if event.token >= 0:
            self._last = event.time

    def timings(self, n_computed: int, n_new: int) -> Timings:
        """`n_computed` tokens of the prompt were not in the cache."""
        started = self._now if self._started is None else self._started
        prefill_s = (self._now if self._first is None else self._first) - started
        decode_s = 0.0 if self._first is None else max(self._last - self._first, 0.0)
        return Timings(
            queue_s=started - self._submitted,
            prefill_s=prefill_s,
            ttft_s=0.0 if self._first is None else self._first - self._submitted,
            decode_s=decode_s,
            # Of a prompt that was given up nobody knows how much was computed.
            prefill_tps=0.0 if self._first is None else n_computed / max(prefill_s, 1e-9),
            decode_tps=max(n_new - 1, 0) / decode_s if decode_s > 0 else 0.0,
        )
