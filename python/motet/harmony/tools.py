"""What a chat's `tools`, `tool_choice` and `response_format` arguments mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from motet.errors import InvalidRequestError
from motet.harmony.functions import tool_from_function
from motet.harmony.messages import FunctionTool, ResponseFormat

Tool = Mapping[str, Any] | FunctionTool | Callable[..., Any]
ToolChoice = Literal["auto", "none", "required"] | Mapping[str, Any]


def to_tools(tools: Sequence[Tool]) -> tuple[FunctionTool, ...]:
    """Function tools from OpenAI dicts, Python functions or FunctionTools.

    Raises InvalidRequestError with `param` like "tools[0].function.name".
    """
    if isinstance(tools, str | Mapping) or not isinstance(tools, Sequence):
        raise InvalidRequestError("tools must be a list", param="tools")
    out: list[FunctionTool] = []
    for index, raw in enumerate(tools):
        where = f"tools[{index}]"
        if isinstance(raw, FunctionTool):
            tool = raw
        elif isinstance(raw, Mapping):
            tool = _from_dict(raw, where)
        elif callable(raw):
            tool = tool_from_function(raw)
        else:
            raise InvalidRequestError(
                f"{where} must be a dict or a function, not {type(raw).__name__}", param=where
            )
        if not re.fullmatch(r"[\w.-]+", tool.name):
            raise InvalidRequestError(
                f"{where}: {tool.name!r} is no name for a function (letters, digits, _ . -)",
                param=f"{where}.function.name",
            )
        if any(tool.name == other.name for other in out):
            raise InvalidRequestError(
                f"{where}: there are two tools named {tool.name}", param=f"{where}.function.name"
            )
        out.append(tool)
    return tuple(out)


def _from_dict(raw: Mapping[str, Any], where: str) -> FunctionTool:
    if raw.get("type", "function") != "function":
        raise InvalidRequestError(
            f"{where}.type must be 'function', not {raw['type']!r}", param=f"{where}.type"
        )
    # The Responses API has the function's fields in the tool itself.
    function = raw.get("function", raw)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InvalidRequestError(
            f"{where} must have a function with a name", param=f"{where}.function.name"
        )
    description = function.get("description") or ""
    if not isinstance(description, str):
        raise InvalidRequestError(
            f"{where}.function.description must be a string", param=f"{where}.function.description"
        )
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise InvalidRequestError(
            f"{where}.function.parameters must be a JSON Schema",
            param=f"{where}.function.parameters",
        )
    return FunctionTool(function["name"], description, parameters)


def forced_function(tool_choice: ToolChoice, tools: Sequence[FunctionTool]) -> str | None:
    """The function that `tool_choice` names; "" when any one is required; None when the model may
    choose.

    Raises InvalidRequestError for an unknown choice or function, and for "required" without tools.
    """
    if isinstance(tool_choice, Mapping):
        function = tool_choice.get("function", tool_choice)
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(name, str) or all(tool.name != name for tool in tools):
            raise InvalidRequestError(
                f"tool_choice names {name!r}, which is not among the tools", param="tool_choice"
            )
        return name
    if tool_choice == "required":
        if not tools:
            raise InvalidRequestError(
                "tool_choice is 'required' without tools", param="tool_choice"
            )
        return ""
    if tool_choice not in ("auto", "none"):
        raise InvalidRequestError(
            f"tool_choice must be auto, none, required or a function, not {tool_choice!r}",
            param="tool_choice",
        )
    return None


def to_response_format(value: Mapping[str, Any] | type | None) -> ResponseFormat | None:
    """The schema the answer is to follow: an OpenAI dict, a JSON Schema or a pydantic class.

    Raises InvalidRequestError with `param` "response_format" for anything else.
    """
    if value is None:
        return None
    if isinstance(value, type):
        method = getattr(value, "model_json_schema", None)
        if method is None:
            raise InvalidRequestError(
                f"response_format {value.__name__} is no pydantic class", param="response_format"
            )
        return ResponseFormat(value.__name__, method())
    if not isinstance(value, Mapping):
        raise InvalidRequestError("response_format must be a dict", param="response_format")
    kind = value.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return ResponseFormat("json", {"type": "object"}, "A single JSON object and nothing else.")
    if kind != "json_schema":
        return ResponseFormat("response", value)
    entry = value.get("json_schema", value)
    schema = entry.get("schema") if isinstance(entry, Mapping) else None
    if not isinstance(schema, Mapping):
        raise InvalidRequestError(
            "response_format.json_schema.schema must be a JSON Schema",
            param="response_format.json_schema.schema",
        )
    for key in ("name", "description"):
        if not isinstance(entry.get(key), str | None):
            raise InvalidRequestError(
                f"response_format.json_schema.{key} must be a string",
                param=f"response_format.json_schema.{key}",
            )
    return ResponseFormat(entry.get("name") or "response", schema, entry.get("description"))
