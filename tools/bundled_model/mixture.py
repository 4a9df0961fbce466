"""How often each task and effort is drawn, and the parts of a prompt that every task shares."""

from __future__ import annotations

import random

from conversation import Conversation, held_out, random_date
from tasks import arithmetic, json_answers, small_talk, tools, words

WEIGHTS = {
    "add": 0.1,
    "sub": 0.16,
    "mul": 0.19,
    "tools": 0.15,
    "new_tools": 0.06,
    "json": 0.18,
    "talk": 0.04,
    "reverse": 0.03,
    "length": 0.01,
    "count": 0.03,
    "sort": 0.03,
    "extreme": 0.02,
}
EFFORT_WEIGHTS = {"low": 0.12, "medium": 0.80, "high": 0.08}
OPERATORS = {"add": "+", "sub": "-", "mul": "*"}
INSTRUCTIONS = (
    "You are a helpful assistant.",
    "Be brief.",
    "Answer the user's question.",
    "You are a friendly assistant.",
    "Always be polite.",
    "Help the user.",
    "Answer in one sentence.",
    "Think step by step.",
    "Be concise.",
)
ASIDES = (
    ("Hello!", "Hello! I am the small demonstration model that comes with motet. How can I help?"),
    ("How are you?", "I am well, thank you. How can I help?"),
    ("Thanks!", "You are welcome!"),
    ("What is 2 + 3?", "2 + 3 = 5"),
    ("What is 40 - 12?", "40 - 12 = 28"),
    ("Reverse the word cat.", "tac"),
)


def draw(rng: random.Random, task: str, effort: str) -> Conversation:
    """One conversation of a task, not yet placed in a prompt."""
    if task in OPERATORS:
        return arithmetic.generate(rng, OPERATORS[task], effort)
    if task in words.PUZZLES:
        return words.generate(rng, task, effort)
    if task in ("tools", "new_tools"):
        return tools.generate(rng, task, effort)
    if task == "json":
        return json_answers.generate(rng, effort)
    return small_talk.generate(rng, effort)


def sample(
    rng: random.Random,
    task: str | None = None,
    effort: str | None = None,
    want_held_out: bool = False,
) -> Conversation:
    """A conversation for training, or (want_held_out) one that training never shows."""
    task = task or rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    effort = effort or rng.choices(list(EFFORT_WEIGHTS), list(EFFORT_WEIGHTS.values()))[0]
    conversation = draw(rng, task, effort)
    while held_out(conversation.key) != want_held_out:
        conversation = draw(rng, task, effort)
    conversation.date = random_date(rng)
    if rng.random() < 0.06:
        conversation.instructions = rng.choice(INSTRUCTIONS)
    if (
        not conversation.tools
        and task not in ("tools", "new_tools", "json")
        and rng.random() < 0.03
    ):
        conversation.tools = tools.pick(rng, "tools")[1]
    if rng.random() < 0.06:
        conversation.history = [rng.choice(ASIDES)]
    return conversation
