"""Python functions as tools: a JSON Schema from the signature, descriptions from the docstring."""

from __future__ import annotations

import enum
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union

from motet.harmony.messages import FunctionTool

_SCALARS: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
_EMPTY = inspect.Parameter.empty


def tool_from_function(function: Callable[..., Any]) -> FunctionTool:
    """A tool that calls `function` with keyword arguments.

    Parameters without annotation accept anything; `*args` and `**kwargs` are left out. The
    docstring's text before its "Args:" section describes the function, and that section's `name:
    text` lines its parameters.
    """
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError):  # annotations that name what is not importable here
        hints = {}
    about, notes = _docstring(inspect.getdoc(function) or "")
    properties: dict[str, Any] = {}
    required = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        schema = _schema(hints.get(name, _EMPTY))
        if name in notes:
            schema["description"] = notes[name]
        if parameter.default is _EMPTY:
            required.append(name)
        elif parameter.default is not None and _is_json(parameter.default):
            schema["default"] = parameter.default
        properties[name] = schema
    if not properties:
        return FunctionTool(function.__name__, about)
    parameters = {"type": "object", "properties": properties, "required": required}
    return FunctionTool(function.__name__, about, parameters)


def _schema(hint: Any) -> dict[str, Any]:
    if hint in _SCALARS:
        return {"type": _SCALARS[hint]}
    if hint is None or hint is type(None):
        return {"type": "null"}
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(arg) for arg in args]}
    if origin is Literal:
        return {"enum": list(args)}
    if origin is typing.Annotated:
        return _schema(args[0])
    container = origin or hint
    if not isinstance(container, type):
        return {}
    if issubclass(container, enum.Enum):
        return {"enum": [member.value for member in container]}
    if issubclass(container, Mapping):
        return {"type": "object"}
    if issubclass(container, Sequence | set | frozenset):
        return {"type": "array", "items": _schema(args[0])} if args else {"type": "array"}
    return {}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _docstring(text: str) -> tuple[str, dict[str, str]]:
    """A docstring's description, and its parameters' by name."""
    about, _, rest = re.sub(
        r"(?m)^(Args|Arguments|Parameters):\s*$", "\0", text, count=1
    ).partition("\0")
    notes: dict[str, str] = {}
    name, depth = "", None
    for line in rest.split("\n"):
        if line and not line[0].isspace():
            break  # the next section
        match = re.match(r"(\s+)(\w+)\s*(?:\([^)]*\))?:\s*(.*)", line)
        if match and depth in (None, match[1]):
            depth, name = match[1], match[2]
            notes[name] = match[3].strip()
        elif name and line.strip():
            notes[name] = f"{notes[name]} {line.strip()}".strip()
    return about.split("\nReturns:")[0].strip(), notes
