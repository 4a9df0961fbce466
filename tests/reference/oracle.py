"""Logits by an independent implementation: Hugging Face transformers, float32, eager, CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt


def oracle_logits(
    directory: Path, token_ids: Sequence[int]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Logits [n, vocab], MXFP4 dequantised: plain, and with the rounding of motet's exact mode.

    That keeps keys (after RoPE) and values in half precision and takes the inputs of products, but
    the router's, and dense weights to fixed point; what is left is the order of float32 sums.
    """
    import torch
    from transformers import GptOssForCausalLM
    from transformers.models.gpt_oss import modeling_gpt_oss
    from transformers.utils.quantization_config import Mxfp4Config

    options: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "eager"}
    if "mxfp4" in (directory / "config.json").read_text():
        options["quantization_config"] = Mxfp4Config(dequantize=True)
    # Some versions leave experts in bf16 that were MXFP4.
    model = GptOssForCausalLM.from_pretrained(directory, **options).float()
    ids = torch.tensor(list(token_ids))[None]
    with torch.no_grad():
        plain = model(ids).logits[0].numpy()
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                for rows in module.weight.data.split(4096):  # all of lm_head in double is too much
                    rows.copy_(_fixed_point(rows))
                module.register_forward_pre_hook(lambda _, args: (_fixed_point(args[0]), *args[1:]))
        if "quantization_config" not in options:
            for layer in model.model.layers:  # [E, inputs, outputs]
                for weight in (layer.mlp.experts.gate_up_proj, layer.mlp.experts.down_proj):
                    weight.data = _fixed_point(weight.data.mT).mT
        experts = type(model.model.layers[0].mlp.experts)
        attend = _attend_rounded(modeling_gpt_oss.eager_attention_forward)
        with (
            mock.patch.object(experts, "forward", _experts_rounded),
            mock.patch.object(modeling_gpt_oss, "eager_attention_forward", attend),
        ):
            rounded = model(ids).logits[0].numpy()
    return plain, rounded


def _fixed_point(x: Any) -> Any:
    """As tests.reference.model.fixed_point, which this shares no code with."""
    import torch

    padded = torch.nn.functional.pad(x.double(), (0, -x.shape[-1] % 32))
    blocks = padded.unflatten(-1, (-1, 32))
    _, exponent = torch.frexp(blocks.abs().amax(-1, keepdim=True))  # largest < 2^exponent
    step = torch.ldexp(torch.ones_like(blocks[..., :1]), exponent - 15)
    squares = (blocks / step).square().sum(-1, keepdim=True)
    step = torch.where(squares > 511 * 2.0**22, 2 * step, step)
    step = torch.where(squares > 511 * 2.0**24, 2 * step, step)
    steps = torch.round(blocks / step).clamp(max=32767)
    return (steps * step).flatten(-2)[..., : x.shape[-1]].float()


def _attend_rounded(attend: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(module: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        return attend(module, query, key.half().float(), value.half().float(), *args, **kwargs)

    return wrapped


def _experts_rounded(
    self: Any, hidden_states: Any, router_indices: Any = None, routing_weights: Any = None
) -> Any:
    """Stands in for the experts' forward: the inputs of both products are rounded."""
    import torch

    x = _fixed_point(hidden_states.reshape(-1, hidden_states.shape[-1]))
    chosen = router_indices.reshape(len(x), -1)
    weights = routing_weights.reshape(len(x), -1)
    by_slot = weights.shape == chosen.shape  # otherwise one weight an expert
    out = torch.zeros_like(x)
    for expert in range(self.num_experts):
        token, slot = torch.where(chosen == expert)
        if len(token) == 0:
            continue
        both = x[token] @ self.gate_up_proj[expert] + self.gate_up_proj_bias[expert]
        gate = both[:, 0::2].clamp(max=self.limit)
        up = both[:, 1::2].clamp(-self.limit, self.limit)
        act = _fixed_point((up + 1) * gate * torch.sigmoid(self.alpha * gate))
        y = act @ self.down_proj[expert] + self.down_proj_bias[expert]
        weight = weights[token, slot] if by_slot else weights[token, expert]
        out.index_add_(0, token, y * weight[:, None])
    return out.reshape(hidden_states.shape)
