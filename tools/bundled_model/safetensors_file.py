"""Writes safetensors as the published checkpoints have it: BF16 and U8 only, no metadata."""

from __future__ import annotations

import json
from pathlib import Path

import torch

NAMES = {torch.bfloat16: "BF16", torch.uint8: "U8"}


def write(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Tensors in sorted order, data aligned to 8 bytes as the format asks."""
    header: dict[str, object] = {}
    offset = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        size = tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in sorted(tensors):
            file.write(tensors[name].contiguous().view(torch.uint8).numpy().tobytes())
