"""One request from its first event to its result: events become deltas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from motet.assemble import Assembler, Fields, Piece
from motet.errors import InvalidRequestError
from motet.results import Completion, Delta, Finish, Timings, TokenLogprob, Usage
from motet.runner import Request, Runner

if TYPE_CHECKING:
    from motet import _core
    from motet.sampling import LogitsProcessor, SamplingParams
    from motet.tokenizer import Tokenizer


class GuardedProcessor:
    """A caller's logits processor; what it raises is kept for its own request.

    A step may run in a thread that waits for another request: that one must not get the error.
    """

    def __init__(self, processor: LogitsProcessor) -> None:
        self._processor = processor
        self.error: Exception | None = None

    def __call__(
        self, token_ids: Sequence[int], logits: npt.NDArray[np.float32]
    ) -> npt.ArrayLike | None:
        if self.error is not None:
            return None
        try:
            edited = self._processor(token_ids, logits)
            if edited is not None and np.shape(edited) != logits.shape:
                raise InvalidRequestError(
                    f"logits_processor: expected logits of shape {logits.shape} or None,"
                    f" found shape {np.shape(edited)}",
                    param="logits_processor",
                )
        except Exception as error:
            self.error = error
            return None
        return edited


@dataclass(frozen=True, slots=True)
class Job:
    """What was asked for."""

    prompt_ids: npt.NDArray[np.int32]  # [n]
    params: SamplingParams
    eos_ids: frozenset[int]  # the model's own ends, empty under ignore_eos
    tokenizer: Tokenizer
    processor: GuardedProcessor | None = None


class Generation:
    """Pulls a request's events and gives deltas. For one consumer; `cancel` from any thread."""

    def __init__(self, runner: Runner, request: Request, job: Job, assembler: Assembler) -> None:
        self._runner = runner
        self._request = request
        self._job = job
        self._assembler = assembler
        self._cancelled = False
        self._text: list[str] = []
        self._token_ids: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._prompt_logprobs: list[TokenLogprob | None] = [None] * len(job.prompt_ids)
        self._n_sent = 0  # tokens that deltas have carried so far
        self._prefill_s = 0.0
        self._decode_s = 0.0
        self.result: Completion | None = None

    def cancel(self) -> None:
        """Ends the request; what has come so far becomes a result "cancelled"."""
        self._cancelled = True
        self._runner.release(self._request)

    def advance(self) -> list[Delta]:
        """The next deltas, at least one; [] after the end. An exception ends the generation."""
        deltas: list[Delta] = []
        try:
            while not deltas and self.result is None:
                events = self._runner.wait(self._request)
                if self._job.processor is not None and self._job.processor.error is not None:
                    raise self._job.processor.error
                if self._cancelled or not events:
                    return self.end("cancelled")
                for event, seconds in events:
                    deltas += self._take(event, seconds)
                    if self.result is not None:
                        break
        except BaseException as error:
            self._runner.release(self._request)
            self.end("error" if isinstance(error, Exception) else "cancelled")
            raise
        return deltas

    def end(self, reason: Finish, stop_reason: str | int | None = None) -> list[Delta]:
        """Builds the result, once, and gives the last deltas."""
        if self.result is not None:
            return []
        deltas = self._deltas(self._assembler.finish())
        # A stop string may also be completed by what only the end lets out.
        if self._assembler.stopped_by is not None and reason in ("stop", "length"):
            reason, stop_reason = "stop", self._assembler.stopped_by
        self.result = self._assembler.result(self._fields(reason, stop_reason))
        ids, logprobs = self._unsent()
        last = Delta("end", token_ids=ids, logprobs=logprobs, result=self.result)
        return [*deltas, last]

    def _take(self, event: _core.Event, seconds: float) -> list[Delta]:
        if self._token_ids:
            self._decode_s += seconds
        else:
            self._prefill_s += seconds
        if event.is_prompt:
            self._prompt_logprobs[event.position] = self._token_logprob(event)
            return []
        deltas: list[Delta] = []
        if event.token >= 0:
            self._token_ids.append(event.token)
            if self._job.params.logprobs is not None:
                self._logprobs.append(self._token_logprob(event))
            ends = event.finish == "stop"
            deltas = self._deltas(self._assembler.push(event.token, ends=ends))
            if self._assembler.stopped_by is not None:
                self._runner.release(self._request)
                return deltas + self.end("stop", self._assembler.stopped_by)
        if event.finish is not None:
            deltas += self.end(event.finish, self._stop_id(event))
        return deltas

    def _stop_id(self, event: _core.Event) -> int | None:
        """The caller's stop token that ended it; None for the model's own end."""
        asked_for = event.token in self._job.params.stop_token_ids
        if event.finish == "stop" and asked_for and event.token not in self._job.eos_ids:
            return event.token
        return None

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
            timings=self._timings(),
            logprobs=self._logprobs if params.logprobs is not None else None,
            prompt_logprobs=self._prompt_logprobs if params.prompt_logprobs is not None else None,
        )

    def _usage(self) -> Usage:
        n_prompt, n_new = len(self._job.prompt_ids), len(self._token_ids)
        return Usage(
            prompt_tokens=n_prompt,
            completion_tokens=n_new,
            reasoning_tokens=self._assembler.reasoning_tokens,
            cached_tokens=0,
            total_tokens=n_prompt + n_new,
        )

    def _timings(self) -> Timings:
        request = self._request
        n_prompt, n_decoded = len(self._job.prompt_ids), max(len(self._token_ids) - 1, 0)
        started = request.submitted if request.started is None else request.started
        first = started if request.first_token is None else request.first_token
        return Timings(
            queue_s=started - request.submitted,
            prefill_s=self._prefill_s,
            ttft_s=first - request.submitted,
            decode_s=self._decode_s,
            prefill_tps=n_prompt / self._prefill_s if self._prefill_s > 0 else 0.0,
            decode_tps=n_decoded / self._decode_s if self._decode_s > 0 else 0.0,
        )
