"""MXFP4 on torch tensors: rounding for training, and the published checkpoints' packed form."""

from __future__ import annotations

import torch

BLOCK = 32
LEVELS = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])


def split(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(blocks [..., cols/32, 32] scaled into e2m1's range, float32 exponents [..., cols/32, 1])."""
    blocks = weight.view(*weight.shape[:-1], -1, BLOCK)
    largest = blocks.abs().amax(-1, keepdim=True).clamp_min(2.0**-60)
    exponents = torch.ceil(torch.log2(largest / 6.0))
    return blocks * torch.exp2(-exponents), exponents


def rounded(weight: torch.Tensor) -> torch.Tensor:
    """The nearest MXFP4 values of float32 weights [..., cols], cols a multiple of 32."""
    blocks, exponents = split(weight)
    size = blocks.abs()
    step = torch.where(size < 2, 0.5, torch.where(size < 4, 1.0, 2.0))
    return (torch.round(blocks / step) * step * torch.exp2(exponents)).flatten(-2)


def straight_through(weight: torch.Tensor) -> torch.Tensor:
    """Rounded values whose gradient passes to the unrounded weights."""
    return weight + (rounded(weight.detach()) - weight.detach())


def pack(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(blocks uint8 [..., cols/32, 16], even columns low; scales uint8 [..., cols/32])."""
    blocks, exponents = split(weight)
    size = blocks.abs()
    step = torch.where(size < 2, 0.5, torch.where(size < 4, 1.0, 2.0))
    magnitude = torch.round(size / step) * step
    codes = torch.searchsorted(LEVELS, magnitude.contiguous())
    codes = (codes + 8 * ((blocks < 0) & (codes > 0))).to(torch.uint8)
    packed = codes[..., 0::2] | (codes[..., 1::2] << 4)
    return packed.contiguous(), (exponents.squeeze(-1) + 127).to(torch.uint8)
