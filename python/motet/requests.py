"""From a call's arguments to a submitted request."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from motet.assemble import Assembler, TextAssembler
from motet.chat import ChatAssembler
from motet.errors import InvalidRequestError, ModelClosedError
from motet.generation import Generation
from motet.harmony.chat import render_chat
from motet.mailbox import Mailbox
from motet.options import RENDER_OPTIONS, Call, Messages, Prompt
from motet.processor import GuardedProcessor
from motet.prompts import answer_room, prompt_ids
from motet.runner import Limits
from motet.sample import Job
from motet.sampling import SamplingParams, compile_sampling

if TYPE_CHECKING:
    from motet.loading import Loaded

# Tokens that may wait for a stream's reader before the model waits for it.
STREAM_WINDOW = 128


class Requests:
    """Makes requests of a loaded model, from any thread."""

    def __init__(self, loaded: Loaded, seed: int | None) -> None:
        self._loaded: Loaded | None = loaded
        self._seeds = random.SystemRandom() if seed is None else random.Random(seed)

    @property
    def loaded(self) -> Loaded:
        """The model; ModelClosedError after `close`."""
        if self._loaded is None:
            raise ModelClosedError("the model was closed")
        return self._loaded

    def close(self) -> None:
        """Ends all requests and frees the engine."""
        loaded = self._loaded
        if loaded is not None:
            loaded.runner.close()
            self._loaded = None

    def generate(
        self,
        prompt: Prompt,
        params: SamplingParams | None,
        options: Mapping[str, Any],
        *,
        mailbox: Mailbox | None = None,
        window: int = 0,
    ) -> Generation:
        """A request to complete a prompt. Without a `window` the reader can't slow it down."""
        call = Call.of(options, params)
        sampling = self._params(call)
        tokenizer = self.loaded.tokenizer
        return self.start(
            self.ids(prompt, "prompt"),
            sampling,
            lambda: TextAssembler(tokenizer, sampling),
            call,
            mailbox or Mailbox(),
            window,
        )

    def chat(
        self, messages: Messages, options: Mapping[str, Any], *, window: int = 0
    ) -> Generation:
        """A request to answer a conversation."""
        call = Call.of(options, render=RENDER_OPTIONS)
        sampling = self._params(call)
        loaded = self.loaded
        ids = render_chat(loaded.tokenizer, messages, **call.render)
        return self.start(
            np.asarray(ids, np.int32),
            sampling,
            lambda: ChatAssembler(loaded.tokenizer, ids, sampling, loaded.info.name),
            call,
            Mailbox(),
            window,
        )

    def ids(self, prompt: object, param: str) -> npt.NDArray[np.int32]:
        """int32 [n], n >= 1: a prompt's ids; `param` is what an error calls it."""
        loaded = self.loaded
        return prompt_ids(prompt, param, loaded.tokenizer, loaded.config.vocab_size)

    def start(
        self,
        ids: npt.NDArray[np.int32],
        params: SamplingParams,
        assembler: Callable[[], Assembler],
        call: Call,
        mailbox: Mailbox,
        window: int = 0,
    ) -> Generation:
        """Submits it; `assembler` makes one for each sample."""
        loaded = self.loaded
        max_new = answer_room(len(ids), loaded.info.max_context, params.max_tokens)
        processor = params.logits_processor and GuardedProcessor(
            params.logits_processor, loaded.runner.engine_thread
        )
        row = compile_sampling(
            params.merged(logits_processor=processor),
            vocab_size=loaded.config.vocab_size,
            eos_ids=loaded.eos_ids,
            default_seed=self._seeds.getrandbits(64),
        )
        job = Job(
            prompt_ids=ids,
            params=params,
            eos_ids=frozenset() if params.ignore_eos else frozenset(loaded.eos_ids),
            tokenizer=loaded.tokenizer,
            processor=processor,
        )
        prediction: Sequence[int] | npt.NDArray[np.int32] = ()
        if call.prediction is not None:
            given = self.ids(call.prediction, "prediction")
            prediction = given if loaded.speculation else ()
        limits = Limits(params.n, call.timeout, call.cache_salt, window, prediction)
        assemblers = [assembler() for _ in range(params.n)]
        return Generation(loaded.runner, mailbox, job, assemblers, row, max_new, limits)

    def _params(self, call: Call) -> SamplingParams:
        if call.params is None:
            return SamplingParams(**{**self.loaded.sampling_defaults, **call.sampling})
        if not isinstance(call.params, SamplingParams):
            raise InvalidRequestError(
                f"params: expected SamplingParams, found {type(call.params).__name__}",
                param="params",
            )
        return call.params.merged(**call.sampling) if call.sampling else call.params
