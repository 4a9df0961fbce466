"""`LLM`: a model in this process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, Self, Unpack, cast, overload

import numpy as np
import numpy.typing as npt

from motet.aio import AsyncCalls
from motet.errors import InvalidRequestError, ModelClosedError
from motet.generation import collect
from motet.harmony.chat import render_chat
from motet.loading import Device, KvCacheDtype, LoadFormat, Options, Precision, load
from motet.locate import display_name, locate
from motet.mailbox import Mailbox
from motet.metrics import Metrics
from motet.options import ChatOptions, GenerateOptions, Messages, Prompt, RenderOptions
from motet.prompts import is_one_prompt, is_sequence
from motet.requests import STREAM_WINDOW, Requests
from motet.resolve import resolve_model
from motet.results import ChatCompletion, Completion, ModelInfo, TokenLogprob
from motet.sampling import SamplingParams
from motet.session import Session
from motet.stream import Stream
from motet.tokenizer import Tokenizer


class LLM(AsyncCalls):
    """A gpt-oss model. Thread-safe; calls made at the same time are computed together.

    It runs from a thread of its own, so a stream goes on while nobody reads it. Ctrl-C stops the
    call that runs and leaves the model usable. A process forked after the loading can't use it.
    """

    tokenizer: Tokenizer
    info: ModelInfo

    def __init__(
        self,
        model: str | PathLike[str] | None = None,
        *,
        device: Device = "auto",
        precision: Precision = "exact",
        max_context: int | None = None,
        max_batch: int = 8,
        max_queue: int | None = None,
        kv_cache_bytes: int | None = None,
        kv_cache_dtype: KvCacheDtype = "auto",
        prefix_cache: bool = True,
        speculation: bool = False,
        target_itl: float | None = None,
        threads: int | None = None,
        gpu_memory: float | int | None = None,
        load_format: LoadFormat = "auto",
        seed: int | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        """Loads a checkpoint directory, a name like "openai/gpt-oss-20b", or the bundled model.

        device: "cpu", "cuda" or "cuda:N"; "auto" is the first GPU if the model fits there.
        gpu_memory: the most to use of a GPU, as a part of it (a float) or in bytes (an integer).
        load_format: "dummy" makes up weights on the GPU, to measure speed without a download.
        max_context: the model's own, or what one sequence has room for in `kv_cache_bytes` (a
            quarter of the memory, or half of what the weights leave).
        kv_cache_dtype: "int8" keeps keys and values in 9/16 of the bytes, less exactly.
        max_batch: requests computed together; a sample counts as one. max_queue: so many more may
            wait, further calls raise QueueFullError; None: any number.
        prefix_cache: whether beginnings that prompts share are computed once.
        speculation: tokens are guessed from what the text repeats and checked several at a time;
            the same answers, sooner where they quote their prompt.
        target_itl: seconds between tokens of running streams that reading long prompts respects.
        threads: the number of physical cores. seed: makes calls without a seed repeatable as a
            sequence. progress: called with the part of the loading that is done, 0 to 1.
        Raises ModelNotFoundError, CheckpointError, InvalidRequestError, OutOfMemoryError,
        DeviceError.
        """
        options = Options(
            device=device,
            precision=precision,
            max_context=max_context,
            max_batch=max_batch,
            max_queue=max_queue,
            kv_cache_bytes=kv_cache_bytes,
            kv_cache_dtype=kv_cache_dtype,
            prefix_cache=prefix_cache,
            speculation=speculation,
            target_itl=target_itl,
            threads=threads,
            gpu_memory=gpu_memory,
            load_format=load_format,
        )
        seed = SamplingParams(seed=seed).seed  # checked as a call's
        directory, name = locate(model)
        loaded = load(directory, name, options, progress)
        self.tokenizer = loaded.tokenizer
        self.info = loaded.info
        self._requests = Requests(loaded, seed)

    @classmethod
    def from_pretrained(
        cls,
        repo_or_path: str | PathLike[str],
        *,
        revision: str = "main",
        cache_dir: str | None = None,
        token: str | bool | None = None,
        local_files_only: bool | None = None,
        **kw: Any,
    ) -> Self:
        """As the constructor, for a given revision of a repository on the Hugging Face hub."""
        directory = resolve_model(
            repo_or_path,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
        )
        llm = cls(directory, **kw)
        llm.info = dataclasses.replace(llm.info, name=display_name(repo_or_path, directory))
        return llm

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees the engine, after the step that runs; idempotent, from any thread.

        Requests that run end as "cancelled" with what has come. Later calls raise ModelClosedError.
        """
        self._requests.close()

    @overload
    def generate(  # type: ignore[overload-overlap]  # text is a sequence of text to a type checker
        self,
        prompts: Prompt,
        params: SamplingParams | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Completion: ...
    @overload
    def generate(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> list[Completion]: ...
    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Completion | list[Completion]:
        """Completes one prompt, or several together.

        A prompt is text, in which special tokens are not parsed, or token ids. Without `params`
        the checkpoint's generation_config.json gives the defaults; fields of SamplingParams given
        by name go before both. With n > 1 the further samples are the result's `alternatives`.
        `timeout`, `cache_salt`, `prediction`: see motet.options.GenerateOptions. Raises
        ContextLengthError, InvalidRequestError, QueueFullError.
        """
        if is_one_prompt(prompts):
            mailbox = Mailbox()
            its_params = cast(SamplingParams | None, params)
            one = self._requests.generate(
                cast(Prompt, prompts), its_params, options, mailbox=mailbox
            )
            return collect([one], mailbox)[0]
        many = cast(Sequence[Prompt], prompts)
        # What is neither is refused with the first prompt.
        each = list(params) if isinstance(params, Sequence) else [params] * len(many)
        if len(each) != len(many):
            raise InvalidRequestError(
                f"params: expected one for each of {len(many)} prompts, found {len(each)}",
                param="params",
            )
        mailbox = Mailbox()
        # If one can't be submitted, those before it are dropped, which cancels them.
        generations = [
            self._requests.generate(prompt, its_params, options, mailbox=mailbox)
            for prompt, its_params in zip(many, each, strict=True)
        ]
        return collect(generations, mailbox)

    def stream(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Stream:
        """As `generate` for one prompt, delta by delta."""
        return Stream(self._requests.generate(prompt, params, options, window=STREAM_WINDOW))

    def chat(self, messages: Messages, **options: Unpack[ChatOptions]) -> ChatCompletion:
        """The model's answer to a conversation: a user's text, OpenAI dicts or harmony messages.

        `options`: `tools`, `tool_choice`, `builtin_tools`, `reasoning_effort`, `date` and
        `response_format` shape the prompt, see motet.options.RenderOptions; `params` and all others
        as in `generate`.
        Raises InvalidRequestError naming the part at fault, ContextLengthError, QueueFullError.
        """
        generation = self._requests.chat(messages, options)
        return cast(ChatCompletion, collect([generation], generation.mailbox)[0])

    def chat_stream(self, messages: Messages, **options: Unpack[ChatOptions]) -> Stream:
        """As `chat`, delta by delta: reasoning, text, tool calls, then the end."""
        return Stream(self._requests.chat(messages, options, window=STREAM_WINDOW))

    def session(self, system: str | None = None, **options: Unpack[ChatOptions]) -> Session:
        """A conversation that is kept; `options` as in `chat`, for all its turns."""
        messages = [] if system is None else [{"role": "system", "content": system}]
        return Session(self._requests, messages, options)

    def render(self, messages: Messages, **options: Unpack[RenderOptions]) -> list[int]:
        """The prompt that `chat` gives the model for the same arguments, as token ids."""
        return render_chat(self.tokenizer, messages, **options)

    def logits(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """float32 [n, vocab_size]: after each of the n tokens, the logits of the next one."""
        return self._requests.loaded.runner.logits(self._requests.ids(token_ids, "token_ids"))

    def score(self, prompt: Prompt, continuation: Prompt) -> tuple[float, bool]:
        """The log-probability of `continuation` after `prompt`; whether it is the greedy one.

        Each is encoded by itself; give token ids where a token may reach across the border.
        """
        start = self._requests.ids(prompt, "prompt")
        if is_sequence(continuation) and len(continuation) == 0:
            return 0.0, True
        ids = np.concatenate([start, self._requests.ids(continuation, "continuation")])
        params = SamplingParams(max_tokens=0, prompt_logprobs=1)
        result = self.generate(cast(Sequence[int], ids), params)
        if result.finish_reason == "cancelled":
            raise ModelClosedError("the model was closed")
        entries = cast(list[TokenLogprob], result.prompt_logprobs)[len(start) :]
        is_greedy = all(entry.logprob >= entry.top[0].logprob for entry in entries)
        return sum(entry.logprob for entry in entries), is_greedy

    def metrics(self) -> Metrics:
        """Counts and times since the loading, for a monitor; see Metrics.prometheus."""
        return Metrics(self._requests.loaded.runner.engine.metrics())
