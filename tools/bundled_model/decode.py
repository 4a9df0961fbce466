"""Batched greedy decoding in torch, for accuracies while training."""

from __future__ import annotations

import torch
from conversation import Conversation, prompt_text, tool_text
from model import Cache, GptOss
from scoring import Reply, parse_reply
from tokenizers import Tokenizer


@torch.no_grad()
def greedy(model: GptOss, prompts: list[list[int]], stops: set[int], limit: int) -> list[list[int]]:
    """The continuation of each prompt, up to a stop token (included) or `limit` tokens."""
    width = max(map(len, prompts))
    padding = torch.tensor([width - len(p) for p in prompts])
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    caches = [Cache() for _ in range(model.config.layers)]
    out: list[list[int]] = [[] for _ in prompts]
    running = set(range(len(prompts)))
    position = 0
    for _ in range(limit):
        step = model.step(position, ids.shape[1], padding, caches)
        position += ids.shape[1]
        best = model.lm_head(model.hidden(ids, step)[:, -1]).argmax(-1)
        for i in list(running):
            out[i].append(int(best[i]))
            if out[i][-1] in stops:
                running.remove(i)
        if not running:
            break
        ids = best[:, None]
    return out


def replies(
    model: GptOss, tokenizer: Tokenizer, conversations: list[Conversation], limit: int = 320
) -> list[Reply]:
    """What the model answers, its function calls followed by the conversation's tool result."""
    stops = {int(tokenizer.token_to_id(token) or 0) for token in ("<|return|>", "<|call|>")}
    texts = [prompt_text(c) for c in conversations]
    for turn in range(2):
        waiting = [i for i, c in enumerate(conversations) if turn == 0 or "<|call|>" in texts[i]]
        if turn == 1:
            waiting = [i for i in waiting if conversations[i].tool_result]
            for i in waiting:
                name, _ = conversations[i].turns[0].call or ("", {})
                texts[i] += tool_text(name, conversations[i].tool_result)
        if not waiting:
            break
        prompts = [tokenizer.encode(texts[i]).ids for i in waiting]
        for i, ids in zip(waiting, greedy(model, prompts, stops, limit), strict=True):
            texts[i] += tokenizer.decode(ids, skip_special_tokens=False)
    return [
        parse_reply(text[len(prompt_text(c)) :])
        for c, text in zip(conversations, texts, strict=True)
    ]
