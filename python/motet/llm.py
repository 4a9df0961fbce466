"""`LLM`: a model in this process."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Self, cast, overload

import numpy as np
import numpy.typing as npt

from motet.assemble import Assembler, TextAssembler
from motet.chat import ChatAssembler
from motet.errors import ContextLengthError, InvalidRequestError, ModelClosedError
from motet.generation import Generation, GuardedProcessor, Job
from motet.harmony.builtin import BuiltinTool
from motet.harmony.chat import render_chat
from motet.harmony.messages import Effort, Message
from motet.harmony.tools import Tool, ToolChoice
from motet.loading import Device, Loaded, Options, Precision, load
from motet.locate import display_name, locate
from motet.resolve import resolve_model
from motet.results import ChatCompletion, Completion, ModelInfo, TokenLogprob
from motet.sampling import SamplingParams, compile_sampling
from motet.stream import Stream
from motet.tokenizer import Tokenizer

Prompt = str | Sequence[int]  # text, in which special tokens are not parsed, or token ids
Messages = str | Sequence[Mapping[str, Any] | Message]
ResponseFormat = Mapping[str, Any] | type | None


class LLM:
    """A gpt-oss model. Thread-safe; calls made at the same time share one engine.

    Ctrl-C stops the call that runs and leaves the model usable.
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
        kv_cache_bytes: int | None = None,
        threads: int | None = None,
        seed: int | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        """Loads a checkpoint directory, a name like "openai/gpt-oss-20b", or the bundled model.

        `max_context` is the model's own, or what one sequence has room for in `kv_cache_bytes`
        (a quarter of the memory). `threads` is the number of physical cores. `seed` makes calls
        without a seed repeatable as a sequence. `progress` is called with the part of the loading
        that is done, 0 to 1. Raises ModelNotFoundError, CheckpointError,
        InvalidRequestError, OutOfMemoryError.
        """
        options = Options(device, precision, max_context, kv_cache_bytes, threads)
        directory, name = locate(model)
        self._loaded: Loaded | None = load(directory, name, options, progress)
        self.tokenizer = self._loaded.tokenizer
        self.info = self._loaded.info
        self._seeds = random.SystemRandom() if seed is None else random.Random(seed)
        self._seeds_lock = threading.Lock()

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
        """Frees the engine; idempotent. Later calls, and open streams, raise ModelClosedError."""
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded.runner.close()

    @overload
    def generate(
        self, prompts: Prompt, params: SamplingParams | None = None, **sampling: Any
    ) -> Completion: ...
    @overload
    def generate(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        **sampling: Any,
    ) -> list[Completion]: ...
    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        **sampling: Any,
    ) -> Completion | list[Completion]:
        """Completes one prompt, or several together.

        A prompt is text, in which special tokens are not parsed, or token ids. Without `params`
        the checkpoint's generation_config.json gives the defaults; `sampling` are fields of
        SamplingParams and go before both. Raises ContextLengthError, InvalidRequestError.
        """
        if _is_one_prompt(prompts):
            if params is not None and not isinstance(params, SamplingParams):
                raise InvalidRequestError(
                    "params: expected one SamplingParams for one prompt", param="params"
                )
            with self.stream(cast(Prompt, prompts), params, **sampling) as stream:
                return stream.result()
        many = cast(Sequence[Prompt], prompts)
        each = [params] * len(many) if isinstance(params, SamplingParams | None) else list(params)
        if len(each) != len(many):
            raise InvalidRequestError(
                f"params: expected one for each of {len(many)} prompts, found {len(each)}",
                param="params",
            )
        with contextlib.ExitStack() as stack:
            streams = [
                stack.enter_context(self.stream(one, its_params, **sampling))
                for one, its_params in zip(many, each, strict=True)
            ]
            return [stream.result() for stream in streams]

    def stream(
        self, prompt: Prompt, params: SamplingParams | None = None, **sampling: Any
    ) -> Stream:
        """As `generate` for one prompt, delta by delta."""
        sampling_params = self._params(params, sampling)
        assembler = TextAssembler(self.tokenizer, sampling_params)
        return self._start(self._ids(prompt, "prompt"), sampling_params, assembler)

    def chat(
        self,
        messages: Messages,
        *,
        tools: Sequence[Tool] = (),
        tool_choice: ToolChoice = "auto",
        builtin_tools: Sequence[BuiltinTool] = (),
        reasoning_effort: Effort = "medium",
        date: str | None = None,
        response_format: ResponseFormat = None,
        params: SamplingParams | None = None,
        **sampling: Any,
    ) -> ChatCompletion:
        """The model's answer to a conversation: a user's text, OpenAI dicts or harmony messages.

        `tools` are OpenAI dicts or Python functions; `tool_choice` may force a call. `date`
        (default: today) is what the system message tells. `response_format` (OpenAI's dict, a JSON
        Schema, a pydantic class) is shown to the model, which is not forced to follow it. `params`
        and `sampling` as in `generate`.
        Raises InvalidRequestError naming the part at fault, ContextLengthError.
        """
        stream = self.chat_stream(
            messages,
            tools=tools,
            tool_choice=tool_choice,
            builtin_tools=builtin_tools,
            reasoning_effort=reasoning_effort,
            date=date,
            response_format=response_format,
            params=params,
            **sampling,
        )
        with stream:
            return cast(ChatCompletion, stream.result())

    def chat_stream(
        self,
        messages: Messages,
        *,
        tools: Sequence[Tool] = (),
        tool_choice: ToolChoice = "auto",
        builtin_tools: Sequence[BuiltinTool] = (),
        reasoning_effort: Effort = "medium",
        date: str | None = None,
        response_format: ResponseFormat = None,
        params: SamplingParams | None = None,
        **sampling: Any,
    ) -> Stream:
        """As `chat`, delta by delta: reasoning, text, tool calls, then the end."""
        sampling_params = self._params(params, sampling)
        ids = self.render(
            messages,
            tools=tools,
            tool_choice=tool_choice,
            builtin_tools=builtin_tools,
            reasoning_effort=reasoning_effort,
            date=date,
            response_format=response_format,
        )
        assembler = ChatAssembler(self.tokenizer, ids, sampling_params, self.info.name)
        return self._start(np.asarray(ids, np.int32), sampling_params, assembler)

    def render(
        self,
        messages: Messages,
        *,
        tools: Sequence[Tool] = (),
        tool_choice: ToolChoice = "auto",
        builtin_tools: Sequence[BuiltinTool] = (),
        reasoning_effort: Effort = "medium",
        date: str | None = None,
        response_format: ResponseFormat = None,
    ) -> list[int]:
        """The prompt that `chat` gives the model for the same arguments, as token ids."""
        return render_chat(
            self.tokenizer,
            messages,
            tools=tools,
            tool_choice=tool_choice,
            builtin_tools=builtin_tools,
            reasoning_effort=reasoning_effort,
            date=date,
            response_format=response_format,
        )

    def logits(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """float32 [n, vocab_size]: after each of the n tokens, the logits of the next one."""
        return self._open().runner.logits(self._ids(token_ids, "token_ids"))

    def score(self, prompt: Prompt, continuation: Prompt) -> tuple[float, bool]:
        """The log-probability of `continuation` after `prompt`; whether it is the greedy one.

        Each is encoded by itself; give token ids where a token may reach across the border.
        """
        start = self._ids(prompt, "prompt")
        if len(continuation) == 0:
            return 0.0, True
        ids = np.concatenate([start, self._ids(continuation, "continuation")])
        params = SamplingParams(max_tokens=0, prompt_logprobs=1)
        with self._start(ids, params, TextAssembler(self.tokenizer, params)) as stream:
            entries = cast(list[TokenLogprob], stream.result().prompt_logprobs)[len(start) :]
        is_greedy = all(entry.logprob >= entry.top[0].logprob for entry in entries)
        return sum(entry.logprob for entry in entries), is_greedy

    def _params(self, params: SamplingParams | None, sampling: Mapping[str, Any]) -> SamplingParams:
        if params is None:
            return SamplingParams(**{**self._open().sampling_defaults, **sampling})
        return params.merged(**sampling) if sampling else params

    def _start(
        self, ids: npt.NDArray[np.int32], params: SamplingParams, assembler: Assembler
    ) -> Stream:
        """Submits a request; its tokens are computed as the stream is read."""
        loaded = self._open()
        room = self.info.max_context - len(ids)
        if room < 0 or (room == 0 and params.max_tokens != 0):
            raise ContextLengthError(
                f"the prompt has {len(ids)} tokens, the context {self.info.max_context}"
                + (" and needs room for the answer" if room == 0 else ""),
                n_prompt=len(ids),
                n_ctx=self.info.max_context,
            )
        processor = params.logits_processor and GuardedProcessor(params.logits_processor)
        with self._seeds_lock:
            seed = self._seeds.getrandbits(64)
        row = compile_sampling(
            params.merged(logits_processor=processor),
            vocab_size=loaded.config.vocab_size,
            eos_ids=loaded.eos_ids,
            default_seed=seed,
        )
        max_new = room if params.max_tokens is None else min(params.max_tokens, room)
        job = Job(
            prompt_ids=ids,
            params=params,
            eos_ids=frozenset() if params.ignore_eos else frozenset(loaded.eos_ids),
            tokenizer=self.tokenizer,
            processor=processor,
        )
        request = loaded.runner.submit(ids, row, max_new)
        return Stream(Generation(loaded.runner, request, job, assembler))

    def _ids(self, prompt: object, param: str) -> npt.NDArray[np.int32]:
        """int32 [n], n >= 1: the token ids of a prompt, each in the model's vocabulary."""
        vocab_size = self._open().config.vocab_size
        if isinstance(prompt, str):
            ids: list[Any] = list(self.tokenizer.encode(prompt))
        elif isinstance(prompt, Sequence | np.ndarray) and not isinstance(prompt, bytes):
            ids = list(prompt)
        else:
            raise InvalidRequestError(
                f"{param}: expected text or token ids, found {type(prompt).__name__}", param=param
            )
        if not ids:
            raise InvalidRequestError(f"{param}: expected at least one token", param=param)
        # One by one: numpy would convert a list of mixed types silently.
        for position, token_id in enumerate(ids):
            is_integer = isinstance(token_id, int | np.integer) and not isinstance(token_id, bool)
            if not is_integer or not 0 <= token_id < vocab_size:
                raise InvalidRequestError(
                    f"{param}: expected text or token ids in 0..{vocab_size - 1},"
                    f" found {token_id!r} at {position}",
                    param=param,
                )
        return np.array(ids, dtype=np.int32)

    def _open(self) -> Loaded:
        if self._loaded is None:
            raise ModelClosedError("the model was closed")
        return self._loaded


def _is_one_prompt(prompts: Prompt | Sequence[Prompt]) -> bool:
    """Text or token ids, as opposed to a sequence of such; [] is no prompts at all."""
    if isinstance(prompts, str):
        return True
    if isinstance(prompts, bytes) or not isinstance(prompts, Sequence | np.ndarray):
        raise InvalidRequestError(
            f"prompts: expected text, token ids or a list of prompts,"
            f" found {type(prompts).__name__}",
            param="prompts",
        )
    return len(prompts) > 0 and isinstance(prompts[0], int | np.integer)
