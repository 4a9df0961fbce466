"""Trains the bundled model on generated conversations for a given number of minutes.

usage: train.py FOLDER --minutes 80 [--resume FOLDER/model.pt]
FOLDER holds tokenizer.json (see tokenizer.py); model.pt and log.txt are written there.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import time
from pathlib import Path

import parallel
import torch
import torch.distributed as dist
import torch.nn.functional as F
from batches import batch
from decode import replies
from mixture import WEIGHTS, sample
from model import Config, GptOss, Rounding
from optimizer import Optimizer
from scoring import is_right
from tokenizers import Tokenizer

BALANCE = 0.01
Batch = list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]


def schedule(progress: float, step: int) -> float:
    """Warm-up, constant, then down to zero over the last 85 % of the time."""
    return min(1.0, (step + 1) / 40) * min(1.0, max(0.0, (1 - progress) / 0.85))


def add_gradients(model: GptOss, groups: Batch) -> tuple[float, int]:
    """Adds the gradients of the summed loss; returns that loss and the number of trained tokens."""
    total, n_trained = 0.0, 0
    for inputs, targets, trained in groups:
        step = model.step(0, inputs.shape[1], None, None)
        logits = model.lm_head(model.hidden(inputs, step)[trained])
        loss = F.cross_entropy(logits, targets[trained], reduction="sum")
        balance = torch.stack(step.balance).mean() * len(logits)
        (loss + BALANCE * balance).backward()  # type: ignore[no-untyped-call]
        total, n_trained = total + loss.item(), n_trained + len(logits)
    return total, n_trained


def average(model: GptOss, loss: float, n_trained: int, minutes: float) -> tuple[float, float]:
    """Mean gradients over all tokens; returns the mean loss and the first process's clock."""
    clock = minutes if dist.get_rank() == 0 else 0.0
    shared = torch.tensor([loss, float(n_trained), clock])
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    parallel.sum_all([*gradients, shared])
    for gradient in gradients:
        gradient.div_(shared[1])
    return float(shared[0] / shared[1]), float(shared[2])


def accuracies(model: GptOss, tokenizer: Tokenizer, n: int, seed: int) -> dict[str, float]:
    """Share of right replies to n held-out prompts of each task at medium effort."""
    model.eval()
    result = {}
    for task in list(WEIGHTS)[dist.get_rank() :: dist.get_world_size()]:
        rng = random.Random(f"{seed} {task}")
        conversations = [sample(rng, task, "medium", True) for _ in range(n)]
        answers = replies(model, tokenizer, conversations)
        result[task] = sum(map(is_right, conversations, answers)) / n
    model.train()
    return parallel.collect(result)


class Log:
    """Prints, and appends to FOLDER/log.txt, in the first process only."""

    def __init__(self, folder: Path) -> None:
        self.file = (folder / "log.txt").open("a") if dist.get_rank() == 0 else None

    def say(self, text: str) -> None:
        if self.file is not None:
            print(text, flush=True)
            print(text, file=self.file, flush=True)


def save(model: GptOss, optimizer: Optimizer, path: Path) -> None:
    """Everything that `--resume` needs."""
    if dist.get_rank() == 0:
        state = {"model": model.state_dict(), "optimizer": optimizer.state()}
        torch.save({"config": dataclasses.asdict(model.config), **state}, path)


def shares(found: dict[str, float]) -> str:
    """add 99.0  sub 98.0 ..."""
    return "  ".join(f"{task} {100 * found[task]:.0f}" for task in WEIGHTS)


def work(rank: int, options: argparse.Namespace) -> None:
    """One process's whole training run."""
    torch.manual_seed(options.seed)
    rng = random.Random(f"{options.seed} {rank}")
    tokenizer = Tokenizer.from_file(str(options.folder / "tokenizer.json"))
    model = GptOss(Config(tokenizer.get_vocab_size()))
    optimizer = Optimizer(model)
    if options.resume:
        saved = torch.load(options.resume)
        model.load_state_dict(saved["model"])
        optimizer.load(saved["optimizer"])
    log = Log(options.folder)
    log.say(f"{sum(p.numel() for p in model.parameters())} parameters")
    begin, minutes, next_eval, step, smooth = time.time(), 0.0, options.eval_minutes, 0, 0.0
    while minutes < options.minutes:
        progress = minutes / options.minutes
        Rounding.enabled = progress > 0.3 or options.round
        groups = batch(rng, tokenizer, options.batch // dist.get_world_size(), 4)
        loss, n_trained = add_gradients(model, groups)
        loss, minutes = average(model, loss, n_trained, (time.time() - begin) / 60)
        optimizer.step(options.rate * schedule(progress, step))
        smooth = loss if step == 0 else 0.95 * smooth + 0.05 * loss
        step += 1
        if step % 25 == 0:
            log.say(f"{minutes:.1f} min  step {step}  loss {smooth:.4f}")
        if minutes >= next_eval:
            next_eval += options.eval_minutes
            log.say("  " + shares(accuracies(model, tokenizer, 24, step)))
            save(model, optimizer, options.folder / "model.pt")
    Rounding.enabled = True
    save(model, optimizer, options.folder / "model.pt")
    log.say("end  " + shares(accuracies(model, tokenizer, 64, 0)))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--minutes", type=float, required=True)
    arguments.add_argument("--resume", type=Path, help="continue from this model.pt")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    arguments.add_argument("--batch", type=int, default=48, help="conversations a step")
    arguments.add_argument("--eval-minutes", type=float, default=10.0)
    arguments.add_argument("--round", action="store_true", help="round weights from the start")
    arguments.add_argument("--rate", type=float, default=1.0, help="multiplies the learning rates")
    options = arguments.parse_args()
    parallel.run(work, options.workers, options)


if __name__ == "__main__":
    main()
