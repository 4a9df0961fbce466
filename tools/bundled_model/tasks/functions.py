"""The functions that tool conversations declare, with spellings of names, questions and answers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks import values


@dataclass
class Parameter:
    """A parameter under one of several names; `enum` values are drawn from, others generated."""

    names: tuple[str, ...]
    kind: str
    description: str
    enum: tuple[str, ...] = ()


@dataclass
class Function:
    """Questions and answer are filled from arguments (a0, ...) and the result (r0, ...)."""

    names: tuple[str, ...]
    description: str
    parameters: tuple[Parameter, ...]
    questions: tuple[str, ...]
    result: tuple[tuple[str, str], ...]
    answer: str


CITY = Parameter(("city", "location", "place"), "city", "Name of the city")
UNIT = Parameter(("unit", "units"), "string", "Unit of the temperature", ("celsius", "fahrenheit"))
CURRENCIES = ("USD", "EUR", "GBP")
FUNCTIONS = (
    Function(
        ("get_weather", "current_weather", "weather"),
        "Gets the current weather in a city.",
        (CITY,),
        (
            "What is the weather in {a0}?",
            "What's the weather like in {a0}?",
            "How is the weather in {a0} today?",
            "Tell me the weather in {a0}.",
            "weather in {a0}",
        ),
        (("temperature", "number"), ("condition", "condition")),
        "The weather in {a0} is {r1} with a temperature of {r0} degrees.",
    ),
    Function(
        ("get_temperature", "temperature"),
        "Gets the temperature in a city.",
        (CITY, UNIT),
        (
            "What is the temperature in {a0} in {a1}?",
            "How many degrees {a1} is it in {a0}?",
            "Give me the temperature of {a0} in {a1}.",
        ),
        (("temperature", "number"),),
        "The temperature in {a0} is {r0} degrees {a1}.",
    ),
    Function(
        ("get_time", "current_time", "local_time"),
        "Gets the local time in a city.",
        (CITY,),
        (
            "What time is it in {a0}?",
            "What is the time in {a0}?",
            "Tell me the time in {a0}.",
            "time in {a0} now",
        ),
        (("time", "time"),),
        "It is {r0} in {a0}.",
    ),
    Function(
        ("convert_currency", "exchange"),
        "Converts an amount of money.",
        (
            Parameter(("amount", "value"), "integer", "Amount to convert"),
            Parameter(("from", "source"), "string", "Currency to convert from", CURRENCIES),
            Parameter(("to", "target"), "string", "Currency to convert to", CURRENCIES),
        ),
        (
            "Convert {a0} {a1} to {a2}.",
            "How much is {a0} {a1} in {a2}?",
            "What are {a0} {a1} worth in {a2}?",
        ),
        (("amount", "number"),),
        "{a0} {a1} are {r0} {a2}.",
    ),
    Function(
        ("send_email", "send_message"),
        "Sends a message to a person.",
        (
            Parameter(("to", "recipient"), "name", "Who gets the message"),
            Parameter(("text", "body", "message"), "phrase", "What to say"),
        ),
        ('Send a message to {a0} saying "{a1}".', 'Tell {a0} "{a1}".', 'Write to {a0}: "{a1}"'),
        (("status", "status"),),
        "I sent your message to {a0}. Status: {r0}.",
    ),
    Function(
        ("set_timer", "start_timer"),
        "Starts a timer.",
        (Parameter(("minutes", "duration"), "integer", "Number of minutes"),),
        (
            "Set a timer for {a0} minutes.",
            "Start a timer of {a0} minutes.",
            "Remind me in {a0} minutes.",
        ),
        (("id", "number"),),
        "Timer {r0} is set for {a0} minutes.",
    ),
    Function(
        ("search_flights", "find_flights"),
        "Finds the cheapest flight between two cities.",
        (
            Parameter(("from", "origin"), "city", "City of departure"),
            Parameter(("to", "destination"), "city", "City of arrival"),
        ),
        (
            "Find a flight from {a0} to {a1}.",
            "I need a flight from {a0} to {a1}.",
            "What does a flight from {a0} to {a1} cost?",
        ),
        (("price", "number"),),
        "The cheapest flight from {a0} to {a1} costs {r0}.",
    ),
    Function(
        ("get_price", "lookup_price"),
        "Gets the price of an item in the shop.",
        (Parameter(("item", "product"), "item", "Name of the item"),),
        ("How much is the {a0}?", "What is the price of the {a0}?", "What does a {a0} cost?"),
        (("price", "number"), ("in_stock", "boolean")),
        "The {a0} costs {r0}. In stock: {r1}.",
    ),
    Function(
        ("translate", "translate_word"),
        "Translates a word.",
        (
            Parameter(("word", "text"), "item", "Word to translate"),
            Parameter(
                ("language", "to"),
                "string",
                "Language to translate to",
                ("french", "german", "spanish", "italian"),
            ),
        ),
        ('Translate "{a0}" to {a1}.', 'What is "{a0}" in {a1}?', 'How do you say "{a0}" in {a1}?'),
        (("translation", "word"),),
        'The word "{a0}" in {a1} is "{r0}".',
    ),
    Function(
        ("book_table", "reserve_table"),
        "Books a table in a restaurant.",
        (
            Parameter(("name", "restaurant"), "name", "Name of the restaurant"),
            Parameter(("people", "guests"), "integer", "Number of guests"),
        ),
        (
            "Book a table at {a0} for {a1} people.",
            "Reserve a table for {a1} at {a0}.",
            "I want a table for {a1} people at {a0}.",
        ),
        (("time", "time"), ("status", "status")),
        "Your table for {a1} at {a0} is {r1} at {r0}.",
    ),
    Function(
        ("get_population", "population"),
        "Gets the number of people who live in a city.",
        (CITY,),
        ("How many people live in {a0}?", "What is the population of {a0}?"),
        (("population", "number"),),
        "{a0} has a population of {r0}.",
    ),
    Function(
        ("play_music", "play_song"),
        "Plays music.",
        (Parameter(("artist", "singer"), "name", "Who sings"),),
        ("Play music by {a0}.", "Play something by {a0}.", "I want to hear {a0}."),
        (("song", "word"),),
        "Now playing {r0} by {a0}.",
    ),
    Function(
        ("roll_dice", "roll"),
        "Rolls dice.",
        (
            Parameter(("count", "dice"), "integer", "Number of dice"),
            Parameter(("sides", "faces"), "integer", "Sides of each die"),
        ),
        ("Roll {a0} dice with {a1} sides.", "Roll {a0} dice of {a1} sides each."),
        (("total", "number"),),
        "You rolled a total of {r0}.",
    ),
    Function(
        ("add_item", "add_to_list"),
        "Adds an item to the shopping list.",
        (
            Parameter(("item", "name"), "item", "Item to add"),
            Parameter(("quantity", "count"), "integer", "How many"),
        ),
        ("Put {a1} {a0} on my shopping list.", "Add {a1} {a0} to the shopping list."),
        (("items", "number"),),
        "I added {a1} {a0}. Your list has {r0} items.",
    ),
    Function(
        ("get_joke", "tell_joke"),
        "Gets the number of a random joke.",
        (),
        ("Tell me a joke.", "Do you know a joke?", "I want to hear a joke.", "Make me laugh."),
        (("joke", "word"),),
        "Here is a joke: {r0}.",
    ),
)


def argument(rng: random.Random, parameter: Parameter, choices: Sequence[str]) -> str | int:
    """A value for a parameter; `choices` are its declared enum."""
    if choices:
        return rng.choice(choices)
    if parameter.kind == "integer":
        return values.number(rng)
    if parameter.kind == "phrase":
        return " ".join(values.item(rng) for _ in range(rng.randint(1, 3)))
    return {"city": values.city, "name": values.name, "item": values.item}[parameter.kind](rng)


def result_value(rng: random.Random, kind: str) -> Any:
    """A value in a function's result."""
    if kind == "number":
        return values.number(rng)
    if kind == "time":
        return f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}"
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "word":
        return values.syllables(rng, 2, 3)
    options = {
        "condition": ["sunny", "cloudy", "rainy", "windy", "foggy"],
        "status": ["ok", "confirmed", "done"],
    }
    return rng.choice(options[kind])


def invented(rng: random.Random) -> Function:
    """A function no list has; only its declaration tells how it is called."""
    verb = rng.choice(["get", "find", "check", "run", "load", "make", "open", "read"])
    noun = values.syllables(rng, 1, 2)
    pool = [
        Parameter(
            (rng.choice(["name", "label", "key", values.syllables(rng, 1, 2)]),),
            "item",
            "Text to use",
        ),
        Parameter(
            (rng.choice(["level", "size", "number", values.syllables(rng, 2, 2)]),),
            "integer",
            "Number to use",
        ),
    ]
    parameters = tuple(rng.sample(pool, rng.randint(1, 2)))
    ending = " and ".join(f"{p.names[0]} {{a{i}}}" for i, p in enumerate(parameters))
    question = rng.choice(
        [
            f"{verb.capitalize()} the {noun} with {ending}.",
            f"Call {verb}_{noun} with {ending}.",
            f"Please {verb} the {noun} for {ending}.",
        ]
    )
    kind = rng.choice(["number", "word", "status"])
    key = rng.choice(["result", "value", "output", "answer"])
    return Function(
        (f"{verb}_{noun}",),
        f"{verb.capitalize()}s the {noun}.",
        parameters,
        (question,),
        ((key, kind),),
        f"The {key} is {{r0}}.",
    )
