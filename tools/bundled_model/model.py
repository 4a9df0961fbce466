"""The gpt-oss architecture in plain torch; tensors are named as in the published checkpoints."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from mxfp4 import straight_through
from torch import nn


@dataclass
class Config:
    """Shapes of the model; everything that is not here has the published value."""

    vocab_size: int
    hidden: int = 192
    intermediate: int = 128
    layers: int = 4
    heads: int = 8
    kv_heads: int = 2
    head_dim: int = 32
    experts: int = 8
    experts_per_token: int = 2
    window: int = 128
    theta: float = 150000.0
    factor: float = 32.0
    original_positions: int = 4096
    swiglu_limit: float = 7.0
    eps: float = 1e-5


def rotary_table(config: Config, positions: int) -> tuple[torch.Tensor, torch.Tensor]:
    """YaRN's cos and sin, each [positions, head_dim / 2] (betas 32 and 1, not truncated)."""
    half = config.head_dim // 2
    frequency = config.theta ** (-torch.arange(half, dtype=torch.float64) / half)

    def bound(rotations: float) -> float:
        turns = math.log(config.original_positions / (rotations * 2 * math.pi))
        return config.head_dim * turns / (2 * math.log(config.theta))

    low, high = max(bound(32.0), 0.0), min(bound(1.0), config.head_dim - 1.0)
    ramp = ((torch.arange(half, dtype=torch.float64) - low) / (high - low)).clamp(0, 1)
    frequency = frequency * (1 - ramp) + frequency / config.factor * ramp
    angle = torch.arange(positions, dtype=torch.float64)[:, None] * frequency
    scale = 0.1 * math.log(config.factor) + 1
    return (angle.cos() * scale).float(), (angle.sin() * scale).float()


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """x [B, heads, T, head_dim]; element i turns with element i + head_dim / 2."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Rounding:
    """Whether weights are rounded in the forward pass as they will be in the exported file."""

    enabled = False


def dense(weight: torch.Tensor) -> torch.Tensor:
    """A bf16 tensor's value in the forward pass."""
    if not Rounding.enabled:
        return weight
    return weight + (weight.detach().bfloat16().float() - weight.detach())


class Norm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, (x.shape[-1],), dense(self.weight), self.eps)


class Projection(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, dense(self.weight), None if self.bias is None else dense(self.bias))


@dataclass
class Cache:
    """Keys and values of one layer while decoding, each [B, kv_heads, T, head_dim]."""

    keys: torch.Tensor | None = None
    values: torch.Tensor | None = None

    def append(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.keys is not None and self.values is not None:
            keys, values = torch.cat([self.keys, keys], 2), torch.cat([self.values, values], 2)
        self.keys, self.values = keys, values
        return keys, values


@dataclass
class Step:
    """What the layers share; masks are additive, [B or 1, T, keys + 1], column 0 the sink's."""

    cos: torch.Tensor
    sin: torch.Tensor
    masks: tuple[torch.Tensor, torch.Tensor]
    caches: list[Cache] | None = None
    balance: list[torch.Tensor] = field(default_factory=list)


class Attention(nn.Module):
    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.config, self.layer = config, layer
        query, shared = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.q_proj = Projection(config.hidden, query)
        self.k_proj = Projection(config.hidden, shared)
        self.v_proj = Projection(config.hidden, shared)
        self.o_proj = Projection(query, config.hidden)
        self.sinks = nn.Parameter(torch.zeros(config.heads))

    def forward(self, x: torch.Tensor, step: Step) -> torch.Tensor:
        c, (batch, length, _) = self.config, x.shape
        q = self.q_proj(x).view(batch, length, c.heads, c.head_dim).transpose(1, 2)
        k = self.k_proj(x).view(batch, length, c.kv_heads, c.head_dim).transpose(1, 2)
        v = self.v_proj(x).view(batch, length, c.kv_heads, c.head_dim).transpose(1, 2)
        q, k = rotate(q, step.cos, step.sin), rotate(k, step.cos, step.sin)
        if step.caches is not None:
            k, v = step.caches[self.layer].append(k, v)
        # The sink is one more key, of zeros: its score is the bias alone, its value adds nothing.
        k, v = F.pad(k, (0, 0, 1, 0)), F.pad(v, (0, 0, 1, 0))
        group = c.heads // c.kv_heads
        q = (q * c.head_dim**-0.5).reshape(batch, c.kv_heads, group * length, c.head_dim)
        scores = (q @ k.transpose(2, 3)).view(batch, c.heads, length, -1)
        at_sink = F.pad(dense(self.sinks)[:, None, None], (0, scores.shape[-1] - 1))
        scores = scores + (step.masks[self.layer % 2][:, None] + at_sink)
        mixed = scores.softmax(-1).view(batch, c.kv_heads, group * length, -1) @ v
        mixed = mixed.view(batch, c.heads, length, c.head_dim).transpose(1, 2)
        return torch.as_tensor(self.o_proj(mixed.reshape(batch, length, -1)))


class Experts(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        e, h, i = config.experts, config.hidden, config.intermediate
        self.limit = config.swiglu_limit
        self.gate_up_proj = nn.Parameter(torch.randn(e, 2 * i, h) * h**-0.5)
        self.gate_up_proj_bias = nn.Parameter(torch.zeros(e, 2 * i))
        self.down_proj = nn.Parameter(torch.zeros(e, h, i))
        self.down_proj_bias = nn.Parameter(torch.zeros(e, h))

    def forward(self, x: torch.Tensor, counts: list[int]) -> torch.Tensor:
        """x [rows, hidden] sorted by expert, counts[e] rows each."""
        up: torch.Tensor = self.gate_up_proj
        down: torch.Tensor = self.down_proj
        if Rounding.enabled:
            up, down = straight_through(up), straight_through(down)
        up_bias, down_bias = dense(self.gate_up_proj_bias), dense(self.down_proj_bias)
        wide = torch.cat(
            [torch.addmm(up_bias[e], r, up[e].t()) for e, r in enumerate(torch.split(x, counts))]
        )
        gate, linear = wide.view(*wide.shape[:-1], -1, 2).unbind(-1)
        gate, linear = gate.clamp(max=self.limit), linear.clamp(-self.limit, self.limit)
        inner = (linear + 1) * gate * torch.sigmoid(1.702 * gate)
        return torch.cat(
            [
                torch.addmm(down_bias[e], r, down[e].t())
                for e, r in enumerate(torch.split(inner, counts))
            ]
        )


class Moe(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.top = config.experts_per_token
        self.router = Projection(config.hidden, config.experts)
        self.experts = Experts(config)

    def forward(self, x: torch.Tensor, step: Step) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        logits = self.router(flat)
        best, index = logits.topk(self.top, -1)
        order = index.reshape(-1).argsort()
        counts = torch.bincount(index.reshape(-1), minlength=logits.shape[1])
        rows = order // self.top
        out = self.experts(flat[rows], counts.tolist()) * best.softmax(-1).reshape(-1, 1)[order]
        if self.training:  # the usual load-balancing loss: shares of rows times mean probabilities
            share = counts.float() / counts.sum()
            step.balance.append(logits.shape[1] * (share * logits.softmax(-1).mean(0)).sum())
        return torch.zeros_like(flat).index_add(0, rows, out).view_as(x)


class Layer(nn.Module):
    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.input_layernorm = Norm(config.hidden, config.eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = Norm(config.hidden, config.eps)
        self.mlp = Moe(config)

    def forward(self, x: torch.Tensor, step: Step) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x), step)
        return torch.as_tensor(x + self.mlp(self.post_attention_layernorm(x), step))


class Body(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden)
        self.layers = nn.ModuleList(Layer(config, i) for i in range(config.layers))
        self.norm = Norm(config.hidden, config.eps)


class GptOss(nn.Module):
    def __init__(self, config: Config, positions: int = 1024) -> None:
        super().__init__()
        self.config, self.model = config, Body(config)
        self.lm_head = Projection(config.hidden, config.vocab_size, bias=False)
        self.cos, self.sin = rotary_table(config, positions)
        for name, parameter in self.named_parameters():
            if name.endswith(("o_proj.weight", "_proj.bias")) or name == "lm_head.weight":
                nn.init.zeros_(parameter)
            elif parameter.ndim == 2 and "experts" not in name and "embed" not in name:
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)

    def step(
        self, first: int, length: int, padding: torch.Tensor | None, caches: list[Cache] | None
    ) -> Step:
        """Positions from `first` on; padding [B] counts the masked columns left of each row."""
        rows, columns = (
            torch.arange(first, first + length)[:, None],
            torch.arange(first + length)[None],
        )
        hidden = (columns > rows)[None]
        if padding is not None:
            hidden = hidden | (columns < padding[:, None])[:, None]
        both = (hidden | (columns <= rows - self.config.window), hidden)
        masks = [F.pad(torch.zeros(m.shape).masked_fill_(m, -1e9), (1, 0)) for m in both]
        window = slice(first, first + length)
        return Step(self.cos[window], self.sin[window], (masks[0], masks[1]), caches)

    def hidden(self, ids: torch.Tensor, step: Step) -> torch.Tensor:
        """ids [B, T] -> the last norm's output [B, T, hidden]."""
        x = F.embedding(ids, dense(self.model.embed_tokens.weight))
        for layer in self.model.layers:
            x = layer(x, step)
        return torch.as_tensor(self.model.norm(x))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """ids [B, T] -> logits [B, T, vocab]."""
        return torch.as_tensor(
            self.lm_head(self.hidden(ids, self.step(0, ids.shape[1], None, None)))
        )
