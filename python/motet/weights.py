"""A checkpoint's tensors bound to the core's named slots, dtypes and shapes checked."""

from __future__ import annotations

import dataclasses
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from motet import _core
from motet.checkpoint import Checkpoint, TensorInfo
from motet.config import ModelConfig
from motet.errors import CheckpointError

# Rotary frequencies that some savers store: derived from the configuration, so safe to ignore. Any
# other tensor without a slot (layers beyond the configured ones, adapters) would be part of another
# model: wrong answers, if ignored.
_HARMLESS_SUFFIX = ".inv_freq"
_NAN_SCALE = 255  # E8M0, the format of MXFP4's scales, has no infinity and this one NaN

# What the core takes as it is, without a pass in which it would notice numbers that are not finite.
# (So it does the embedding: a gigabyte that is read as its rows are asked for.)
_SMALL = ("norm.weight", "bias", "sinks", "router.weight")
_MAY_BE_NEVER = ("sinks", "router.bias")  # minus infinity: no sink, an expert that is not chosen
_BF16_INFINITY, _BF16_MINUS_INFINITY = 0x7F80, 0xFF80

WeightArray = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


def core_config(config: ModelConfig) -> _core.ModelConfig:
    """The core's view of the configuration (it needs no end-of-sequence ids)."""
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    del fields["eos_token_ids"]
    return _core.ModelConfig(**fields)


def load_weights(checkpoint: Checkpoint, config: ModelConfig) -> dict[str, WeightArray]:
    """Map the checkpoint: exactly the core's slots, read-only, BF16 as uint16 bit patterns.

    Raises CheckpointError naming file, tensor, expected and found: missing or unexpected tensors,
    another dtype or shape, NaN among MXFP4 scales or, as far as the core does not look, weights.
    """
    slots = _core.weight_slots(core_config(config))
    for name, dtype, shape in slots:
        info = checkpoint.tensors.get(name)
        if info is None:
            raise CheckpointError(
                "missing tensor",
                file=str(checkpoint.source),
                tensor=name,
                expected=f"{dtype} {list(shape)}",
                found=f"no such tensor among {len(checkpoint.tensors)}",
            )
        if (info.dtype, info.shape) != (dtype, tuple(shape)):
            raise CheckpointError(
                "unexpected dtype or shape",
                file=str(info.file),
                tensor=name,
                expected=f"{dtype} {list(shape)}",
                found=f"{info.dtype} {list(info.shape)}",
            )
    _refuse_unexpected(checkpoint, {name for name, _, _ in slots}, config)
    arrays = {name: checkpoint.array(name) for name, _, _ in slots}
    for name, array in arrays.items():
        if name.endswith("_scales"):
            _check_scales(checkpoint.tensors[name], name, array)
        elif name.endswith(_SMALL):
            _check_finite(checkpoint.tensors[name], name, array)
    return arrays


def _refuse_unexpected(checkpoint: Checkpoint, known: set[str], config: ModelConfig) -> None:
    for name, info in checkpoint.tensors.items():
        if name not in known and not name.endswith(_HARMLESS_SUFFIX):
            raise CheckpointError(
                "unexpected tensor",
                file=str(info.file),
                tensor=name,
                expected=f"only tensors of the {config.num_layers} layers in config.json",
                found=f"{info.dtype} {list(info.shape)}",
            )


def _check_scales(info: TensorInfo, name: str, scales: WeightArray) -> None:
    if int(scales.max()) != _NAN_SCALE:  # one vectorised pass, without a temporary of its size
        return
    found = f"{_NAN_SCALE} (NaN)"
    _refuse(info, name, "invalid MXFP4 scale", "bytes 0..254", found, scales == _NAN_SCALE)


def _check_finite(info: TensorInfo, name: str, array: WeightArray) -> None:
    bad = (array & 0x7FFF) >= _BF16_INFINITY
    if name.endswith(_MAY_BE_NEVER):
        bad &= array != _BF16_MINUS_INFINITY
    if bad.any():
        _refuse(info, name, "invalid weight", "finite numbers", "NaN or infinity", bad)


def _refuse(
    info: TensorInfo, name: str, problem: str, expected: str, found: str, bad: npt.NDArray[np.bool_]
) -> NoReturn:
    """Names the first element that is `bad`."""
    where = [int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape)]
    raise CheckpointError(
        problem, file=str(info.file), tensor=name, expected=expected, found=f"{found} at {where}"
    )
