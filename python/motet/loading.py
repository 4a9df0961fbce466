"""From a checkpoint's directory to a running engine."""

from __future__ import annotations

import bisect
import logging
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Literal, NoReturn, get_args

import numpy as np
import numpy.typing as npt

from motet import _core, gpu, machine
from motet.checkpoint import Checkpoint
from motet.config import ModelConfig, load_config
from motet.defaults import sampling_defaults
from motet.errors import CheckpointError, InvalidRequestError
from motet.results import ModelInfo
from motet.runner import Runner
from motet.tokenizer import Tokenizer
from motet.weights import core_config, load_weights

Precision = Literal["exact", "int8", "f32"]
Device = Literal["auto", "cpu", "cuda"] | str  # "cuda:1"
LoadFormat = Literal["auto", "dummy"]
KvCacheDtype = Literal["auto", "int8"]

_BYTES_A_THREAD = 32 << 20
_LEAST_CACHE_BYTES = 256 << 20

_log = logging.getLogger("motet")


@dataclass(frozen=True, slots=True)
class Options:
    """How to run a model, as LLM documents it; None chooses by the machine and the model."""

    device: Device = "auto"
    precision: Precision = "exact"
    max_context: int | None = None
    max_batch: int = 8
    max_queue: int | None = None
    kv_cache_bytes: int | None = None
    kv_cache_dtype: KvCacheDtype = "auto"
    prefix_cache: bool = True
    speculation: bool = False
    target_itl: float | None = None
    threads: int | None = None
    gpu_memory: float | int | None = None
    load_format: LoadFormat = "auto"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to run."""

    config: ModelConfig
    tokenizer: Tokenizer
    runner: Runner
    info: ModelInfo
    eos_ids: tuple[int, ...]  # these end an answer
    sampling_defaults: Mapping[str, float | int]
    speculation: bool  # whether predictions are of use


def load(
    directory: Path,
    name: str,
    options: Options,
    progress: Callable[[float], None] | None = None,
) -> Loaded:
    """Maps the weights and starts an engine; `progress` is called with what part is done, 0 to 1.

    Raises InvalidRequestError for bad options, CheckpointError for a damaged checkpoint and
    OutOfMemoryError, before allocating, if the cache would not fit.
    """
    _check(options)
    if progress is not None and not callable(progress):
        _refuse("progress", "a callable f(part)", progress)
    config = load_config(directory)
    defaults = sampling_defaults(directory)
    core = core_config(config)
    slots = _core.weight_slots(core)
    n_bytes = sum(math.prod(shape) * (2 if dtype == "BF16" else 1) for _, dtype, shape in slots)
    device = gpu.choose(options, config, core)
    checkpoint = weights = None
    if options.load_format == "auto":
        checkpoint = Checkpoint(directory)
        weights = load_weights(checkpoint, config)
    elif device == gpu.CPU:
        _refuse("load_format", "'auto' where the model runs on the CPU", options.load_format)
    # Both take a second: the weights in C++, the tokenizer's file in a library that keeps the GIL.
    with ThreadPoolExecutor(1, "motet-load") as pool:
        starting = pool.submit(_start, config, core, weights, n_bytes, device, options, progress)
        tokenizer = Tokenizer.from_dir(directory)
        if tokenizer.vocab_size > config.vocab_size:
            raise CheckpointError(
                "tokenizer and model don't fit",
                file=str(directory / "tokenizer.json"),
                expected=f"token ids below the model's vocab_size {config.vocab_size}",
                found=f"ids up to {tokenizer.vocab_size - 1}",
            )
        try:
            engine = starting.result()
        except CheckpointError as error:  # weights that are not finite; the core knows no files
            if checkpoint is None:
                raise
            raise error.in_file(checkpoint.tensors[str(error.tensor)].file) from None
    if checkpoint and (options.precision == "int8" or device != gpu.CPU):
        checkpoint.release_pages()  # of what the engine has packed
    planned = engine.memory()
    info = ModelInfo(
        name=name,
        n_params=sum(_parameters(slot, shape) for slot, _, shape in slots),
        n_layers=config.num_layers,
        max_context=planned["max_context"],
        device="cpu" if device == gpu.CPU else f"cuda:{device}",
        dtype="mxfp4" if config.experts_mxfp4 else "bf16",
        bytes=n_bytes,
        isa=engine.isa,
        threads=engine.threads,
        memory={
            "weights": _weight_bytes(n_bytes, core, device, planned["max_context"], options),
            "kv_cache": planned["kv_cache_bytes"],
            "workspace": planned["workspace_bytes"],
        },
    )
    _log.info("%s: context %d, memory planned: %s", name, info.max_context, info.memory)
    return Loaded(
        config=config,
        tokenizer=tokenizer,
        runner=Runner(engine, max_batch=options.max_batch, max_queue=options.max_queue),
        info=info,
        eos_ids=_ends(config, tokenizer),
        sampling_defaults=defaults,
        speculation=options.speculation,
    )


def _start(
    config: ModelConfig,
    core: _core.ModelConfig,
    weights: Mapping[str, npt.NDArray[np.uint8] | npt.NDArray[np.uint16]] | None,
    n_bytes: int,
    device: int,
    options: Options,
    progress: Callable[[float], None] | None,
) -> _core.Engine:
    if device == gpu.CPU:
        budget = options.kv_cache_bytes or _cache_bytes(n_bytes)
    else:
        budget = gpu.cache_budget(options, config, core, device)
    max_context = options.max_context or _fitting_context(config, core, device, options, budget)
    if max_context > config.max_position_embeddings:
        raise InvalidRequestError(
            f"max_context: expected at most the model's {config.max_position_embeddings},"
            f" found {max_context}",
            param="max_context",
        )
    return _core.Engine(
        core,
        weights,
        device=device,
        precision=options.precision,
        max_context=max_context,
        kv_cache_bytes=budget,
        threads=options.threads or _threads(n_bytes),
        max_batch=options.max_batch,
        kv_cache_dtype=options.kv_cache_dtype,
        prefix_cache=options.prefix_cache,
        speculation=options.speculation,
        target_itl=options.target_itl or 0.0,
        progress=progress,
    )


def _weight_bytes(
    n_bytes: int, core: _core.ModelConfig, device: int, max_context: int, options: Options
) -> int:
    """Those that the device holds: on the CPU the mapped ones, on a GPU what it packed."""
    if device == gpu.CPU:
        return n_bytes
    plan = _core.cuda_memory(core, options.precision, device, max_context, options.max_batch)
    return plan["weights"]


def _cache_bytes(n_bytes: int) -> int:
    """A quarter of the memory, or half of what the weights leave of it."""
    memory = machine.memory_bytes()
    return max(min(memory // 4, (memory - n_bytes) // 2), _LEAST_CACHE_BYTES)


def _fitting_context(
    config: ModelConfig, core: _core.ModelConfig, device: int, options: Options, budget: int
) -> int:
    """The largest context, up to the model's, whose cache fits `budget` bytes; at least 1."""

    def fits(context: int) -> bool:
        needed = _core.kv_cache_bytes(
            core, options.precision, context, options.max_batch, options.kv_cache_dtype, device
        )
        return needed <= budget

    if fits(config.max_position_embeddings):
        return config.max_position_embeddings
    return max(
        1,
        bisect.bisect_left(
            range(1, config.max_position_embeddings), True, key=lambda n: not fits(n)
        ),
    )


def _threads(n_bytes: int) -> int:
    """All physical cores, except for a model so small that meeting up costs more than computing."""
    return max(1, min(machine.core_count(), n_bytes // _BYTES_A_THREAD))


def _ends(config: ModelConfig, tokenizer: Tokenizer) -> tuple[int, ...]:
    """The checkpoint's end tokens, and harmony's by name: some configurations lack <|call|>."""
    named = [tokenizer.special_tokens.get(name) for name in ("<|return|>", "<|call|>")]
    return tuple(dict.fromkeys([*config.eos_token_ids, *(i for i in named if i is not None)]))


def _parameters(slot: str, shape: tuple[int, ...]) -> int:
    if slot.endswith("_blocks"):
        return 2 * math.prod(shape)  # two 4-bit weights a byte
    return 0 if slot.endswith("_scales") else math.prod(shape)


def _check(options: Options) -> None:
    """Raises InvalidRequestError for the first option that has a wrong value."""
    if not isinstance(options.device, str):
        _refuse("device", "'auto', 'cpu', 'cuda' or 'cuda:N'", options.device)
    if options.device != "auto":
        gpu.device_index(options.device)
    for param, allowed in (
        ("load_format", get_args(LoadFormat)),
        ("precision", get_args(Precision)),
        ("kv_cache_dtype", get_args(KvCacheDtype)),
        ("prefix_cache", (True, False)),
        ("speculation", (True, False)),
    ):
        value = getattr(options, param)
        if not any(value is one or (isinstance(one, str) and value == one) for one in allowed):
            _refuse(param, f"one of {', '.join(map(repr, allowed))}", value)
    for param in ("max_context", "max_batch", "max_queue", "kv_cache_bytes", "threads"):
        bits = 63 if param == "kv_cache_bytes" else 31  # what the core counts with
        value = getattr(options, param)
        if value is None and param != "max_batch":
            continue
        is_integer = isinstance(value, Integral) and not isinstance(value, bool)
        if not is_integer or not 1 <= value < 1 << bits:
            _refuse(param, f"a positive integer below 2**{bits}", value)
    share = options.gpu_memory
    if isinstance(share, int) and not isinstance(share, bool):
        if share < 1:
            _refuse("gpu_memory", "a positive number of bytes or a part, 0 to 1", share)
    elif share is not None and not (isinstance(share, float) and 0 < share <= 1):
        _refuse("gpu_memory", "a positive number of bytes or a part, 0 to 1", share)
    value = options.target_itl
    if value is not None and not (_is_number(value) and 0 < value < math.inf):
        _refuse("target_itl", "a positive number of seconds", value)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _refuse(param: str, expected: str, found: object) -> NoReturn:
    raise InvalidRequestError(f"{param}: expected {expected}, found {found!r}", param=param)
