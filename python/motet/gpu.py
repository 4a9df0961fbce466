"""Which device a model runs on, and how a GPU's memory is shared out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from motet import _core
from motet.errors import InvalidRequestError, MotetError, OutOfMemoryError

if TYPE_CHECKING:
    from motet.config import ModelConfig
    from motet.loading import Options

CPU = -1
DEFAULT_SHARE = 0.9  # of a GPU's memory; the rest is for the driver and other programs
_SPARE_BYTES = 256 << 20  # of what is free: modules, graphs and what the allocator rounds up


def device_index(device: str) -> int:
    """CPU, or the index of a GPU, from "cpu", "cuda" or "cuda:1"."""
    match = re.fullmatch(r"cpu|cuda(?::(\d{1,3}))?", device)
    if not match:
        raise InvalidRequestError(
            f"device: expected 'auto', 'cpu', 'cuda' or 'cuda:N', found {device!r}", param="device"
        )
    return CPU if device == "cpu" else int(match[1] or 0)


def choose(options: Options, config: ModelConfig, core: _core.ModelConfig) -> int:
    """The device that the options name; for "auto" the first GPU if the model fits there."""
    if options.device != "auto":
        return device_index(options.device)
    if options.precision == "f32" or not _core.cuda_devices():
        return CPU
    try:
        cache_budget(options, config, core, 0)
    except MotetError:  # a card or a driver that is too old, or too little memory
        return CPU
    return 0


def cache_budget(
    options: Options, config: ModelConfig, core: _core.ModelConfig, device: int
) -> int:
    """Bytes of a GPU that weights and work space leave for the KV cache.

    Raises OutOfMemoryError where they leave too little for one request.
    """
    longest = options.max_context or config.max_position_embeddings
    plan = _core.cuda_memory(core, options.precision, device, longest, options.max_batch)
    allowed = _allowed(options.gpu_memory, plan["total"])
    usable = min(allowed, plan["free"] - _SPARE_BYTES)
    needed = plan["weights"] + plan["workspace"]
    cache = options.kv_cache_bytes or _minimal_cache(options, core, device)
    if needed + cache > usable:
        raise OutOfMemoryError(
            f"cuda:{device}: weights {_gb(plan['weights'])}, work space {_gb(plan['workspace'])}"
            f" and a KV cache of {_gb(cache)} are {_gb(needed + cache)};"
            f" gpu_memory allows {_gb(allowed)} of {_gb(plan['total'])}, of which"
            f" {_gb(plan['free'])} are free. {_advice(plan, cache)}"
        )
    return options.kv_cache_bytes or usable - needed


def _minimal_cache(options: Options, core: _core.ModelConfig, device: int) -> int:
    context = options.max_context or 1  # otherwise it is chosen to fit
    return _core.kv_cache_bytes(
        core, options.precision, context, options.max_batch, options.kv_cache_dtype, device
    )


def _allowed(gpu_memory: float | int | None, total: int) -> int:
    if isinstance(gpu_memory, int):
        return gpu_memory
    return int(total * (DEFAULT_SHARE if gpu_memory is None else gpu_memory))


def _advice(plan: dict[str, int], cache: int) -> str:
    needed = plan["weights"] + plan["workspace"] + cache
    if needed + _SPARE_BYTES <= plan["free"]:
        return f"gpu_memory={needed} would do."
    if needed + _SPARE_BYTES <= plan["total"]:
        return "It would fit once other programs have freed the card."
    if plan["weights"] + plan["workspace"] + _SPARE_BYTES < plan["total"]:
        return "A smaller max_context, max_batch or kv_cache_bytes may fit."
    return f"It takes a card with {_gb(needed + _SPARE_BYTES)}, or device='cpu'."


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2f} GB"
