"""Conversations that call a declared function and use what it returns."""

from __future__ import annotations

import json
import random
from typing import Any

from conversation import Assistant, Conversation, declaration

from tasks.functions import FUNCTIONS, Function, argument, invented, result_value


def declared(rng: random.Random, function: Function, usual: bool) -> dict[str, Any]:
    """The OpenAI-style declaration, with the usual or with any spelling of each name."""
    properties: dict[str, Any] = {}
    with_descriptions = rng.random() < 0.3
    for parameter in function.parameters:
        kind = "integer" if parameter.kind == "integer" else "string"
        schema: dict[str, Any] = {"type": kind}
        if with_descriptions:
            schema["description"] = parameter.description
        if parameter.enum:
            schema["enum"] = list(parameter.enum)
        free = [name for name in parameter.names if name not in properties]
        properties[free[0] if usual else rng.choice(free)] = schema
    about: dict[str, Any] = {
        "name": function.names[0] if usual else rng.choice(function.names),
        "description": function.description,
    }
    if properties:
        about["parameters"] = {
            "type": "object",
            "properties": properties,
            "required": list(properties),
        }
    return {"type": "function", "function": about}


def pick(rng: random.Random, task: str) -> tuple[list[Function], list[dict[str, Any]]]:
    """One to three functions and their declarations, no two of them alike.

    `tools` declares functions that are trained on, under their usual names; `new_tools` declares
    these under other names, and functions made up on the spot.
    """
    usual = task == "tools"
    functions: list[Function] = []
    for _ in range(rng.choice([1, 1, 2, 2, 3])):
        function = invented(rng) if not usual and rng.random() < 0.5 else rng.choice(FUNCTIONS)
        if function not in functions:
            functions.append(function)
    return functions, [declared(rng, function, usual) for function in functions]


def tool_result(rng: random.Random, function: Function) -> tuple[str, list[str]]:
    """(the tool message's text, the values in it as an answer writes them)."""
    result = {key: result_value(rng, kind) for key, kind in function.result}
    shown = [
        {True: "yes", False: "no"}[v] if isinstance(v, bool) else str(v) for v in result.values()
    ]
    if len(result) == 1 and rng.random() < 0.25:
        return shown[0], shown
    separators = (",", ":") if rng.random() < 0.3 else None
    return json.dumps(result, separators=separators), shown


def reason(tool: dict[str, Any], effort: str) -> str:
    """The chosen declaration, word for word: names are then copied and not remembered."""
    text = declaration(tool)
    if effort == "low":
        return text.split(" = ")[0]
    return f"{text}\nThe user gives all arguments." if effort == "high" else text


def generate(rng: random.Random, task: str, effort: str) -> Conversation:
    """A question that one of the declared functions answers."""
    functions, tools = pick(rng, task)
    index = rng.randrange(len(functions))
    function, schema = functions[index], tools[index]["function"]
    properties = schema.get("parameters", {}).get("properties", {})
    choices = [properties[key].get("enum", []) for key in properties]
    given = [
        argument(rng, parameter, enum)
        for parameter, enum in zip(function.parameters, choices, strict=True)
    ]
    arguments = dict(zip(properties, given, strict=True))
    slots = {f"a{i}": value for i, value in enumerate(given)}
    user = rng.choice(function.questions).format(**slots)
    if rng.random() < 0.1:
        user = rng.choice(["Please help me. ", "Hi! ", "Hello. "]) + user
    result, shown = tool_result(rng, function)
    answer = function.answer.format(**slots, **{f"r{i}": value for i, value in enumerate(shown)})
    turns = [
        Assistant(reason(tools[index], effort), call=(schema["name"], arguments)),
        Assistant("" if effort == "low" else "I can answer now.", answer),
    ]
    return Conversation(
        task=task,
        key=user,
        user=user,
        turns=turns,
        tools=tools,
        tool_result=result,
        expected={"name": schema["name"], "arguments": arguments, "values": shown},
        effort=effort,
    )
