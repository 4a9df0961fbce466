"""Answers in JSON: facts taken from a sentence, with the keys that were asked for, and lists."""

from __future__ import annotations

import json
import random
from typing import Any

from conversation import Assistant, Conversation

from tasks import values

KEYS = ("name", "age", "city", "job", "color", "item", "price", "quantity")
# How a text of the keys and their values alone is written: one pair, what is between two, the end.
PLAIN = (
    ("The {} is {}.", " ", ""),
    ("{} {}", ", ", "."),
    ("{}: {}", ", ", ""),
    ("the {} is {}", " and ", "."),
)
SENTENCES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("{name} is {age} years old and lives in {city}.", ("name", "age", "city")),
    ("{name} lives in {city} and is {age} years old.", ("name", "age", "city")),
    ("{name} is a {job} from {city}.", ("name", "job", "city")),
    ("{name}, {age}, works as a {job}.", ("name", "age", "job")),
    ("The price of the {item} is {price}.", ("item", "price")),
    ("A {item} is {price} in {city}.", ("item", "price", "city")),
)
ASK = """
Return JSON with the keys {keys}: {text}
Give me a JSON object with {keys} for this: {text}
{text} Answer in JSON with the keys {keys}.
Extract {keys} as JSON: {text}
Write this as JSON with {keys}: {text}
{text} Reply with a JSON object that has {keys}.
Turn this into JSON with the fields {keys}: {text}
"""
ASK_LIST = """
Write these words as a JSON list: {text}
Give me a JSON array of {text}
Return {text} as a JSON array.
Turn this list into JSON: {text}
"""


def fact(rng: random.Random, key: str) -> Any:
    """A value for one of the keys."""
    if key in ("age", "price", "quantity"):
        return values.number(rng)
    options = {"job": values.JOBS.split(), "color": values.COLORS.split()}
    if key in options:
        return rng.choice(options[key])
    return {"name": values.name, "city": values.city, "item": values.item}[key](rng)


def joined(rng: random.Random, words: list[str]) -> str:
    """name, age and city"""
    if len(words) == 1 or rng.random() < 0.3:
        return ", ".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def extract(rng: random.Random) -> tuple[str, Any, dict[str, Any] | None]:
    """(question, right object, its schema if the response format and not the question says it)."""
    if rng.random() < 0.5:
        sentence, known = rng.choice(SENTENCES)
        facts = {key: fact(rng, key) for key in known}
        text = sentence.format(**facts)
    else:
        known = tuple(rng.sample(KEYS, rng.randint(1, 3)))
        facts = {key: fact(rng, key) for key in known}
        pair, between, end = rng.choice(PLAIN)
        text = between.join(pair.format(key, facts[key]) for key in known) + end
    keys = rng.sample(list(known), rng.randint(max(1, len(known) - 1), len(known)))
    answer = {key: facts[key] for key in keys}
    if rng.random() < 0.3:
        kinds = {
            key: {"type": "integer" if isinstance(facts[key], int) else "string"} for key in keys
        }
        schema = {"type": "object", "properties": kinds, "required": keys}
        ask = rng.choice(["{}", "{} Answer in JSON.", "Extract the facts: {}"])
        return ask.format(text), answer, schema
    return (
        rng.choice(ASK.strip().splitlines()).format(keys=joined(rng, keys), text=text),
        answer,
        None,
    )


def array(rng: random.Random) -> tuple[str, Any]:
    """A list of words or numbers."""
    size = rng.randint(2, 4)
    if rng.random() < 0.5:
        found: list[Any] = [values.number(rng) for _ in range(size)]
    else:
        found = [values.item(rng) for _ in range(size)]
    return rng.choice(ASK_LIST.strip().splitlines()).format(
        text=joined(rng, [str(x) for x in found])
    ), found


def response_format(
    rng: random.Random, schema: dict[str, Any] | None, answer: Any
) -> tuple[str, dict[str, Any]] | None:
    """How the developer message asks for JSON: with the schema, as any object, or not at all."""
    if schema is not None:
        return rng.choice(["answer", "response", "facts", "item", "person", "output"]), schema
    return (
        ("json", {"type": "object"}) if isinstance(answer, dict) and rng.random() < 0.15 else None
    )


def generate(rng: random.Random, effort: str) -> Conversation:
    """One question whose final answer is JSON and nothing else."""
    schema = None
    if rng.random() < 0.8:
        user, answer, schema = extract(rng)
        wanted = "Keys: " + ", ".join(answer)
    else:
        user, answer = array(rng)
        wanted = "A list"
    analysis = {
        "low": "",
        "medium": f"{wanted}.",
        "high": f"The user wants JSON. {wanted}. I copy each value.",
    }
    return Conversation(
        task="json",
        key=user,
        user=user,
        turns=[Assistant(analysis[effort], json.dumps(answer))],
        expected=answer,
        effort=effort,
        response_format=response_format(rng, schema, answer),
    )
