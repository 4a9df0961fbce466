"""Single-threaded training processes: on a CPU they waste less than one with many threads."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn


def _start(rank: int, work: Callable[..., None], workers: int, folder: str, options: Any) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=workers)
    work(rank, options)
    dist.destroy_process_group()


def run(work: Callable[..., None], workers: int, options: Any) -> None:
    """Calls work(rank, options) in each process and waits for all."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with tempfile.TemporaryDirectory() as folder:
        arguments = (work, workers, folder, options)
        spawn(_start, args=arguments, nprocs=workers)  # type: ignore[no-untyped-call]


def sum_all(tensors: Sequence[torch.Tensor]) -> None:
    """Adds up each tensor over all processes, in place."""
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, part in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def collect(value: dict[str, float]) -> dict[str, float]:
    """The union of every process's entries."""
    found: list[dict[str, float] | None] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return {key: share for part in found if part for key, share in part.items()}
