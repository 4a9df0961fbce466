"""Python functions as tools: a JSON Schema from the signature, descriptions from the docstring."""

from __future__ import annotations

import contextlib
import enum
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Union

from motet.errors import InvalidRequestError
from motet.harmony.messages import FunctionTool

_SCALARS: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
_EMPTY = inspect.Parameter.empty


def tool_from_function(function: Callable[..., Any]) -> FunctionTool:
    """A tool that calls `function` with keyword arguments.

    Parameters without annotation accept anything; `*args` and `**kwargs` are left out. The
    docstring's text before its "Args:" section describes the function, and that section's `name:
    text` lines its parameters. Raises InvalidRequestError for what has no name or no signature.
    """
    try:
        tool_name, signature = function.__name__, inspect.signature(function)
    except (AttributeError, TypeError, ValueError):
        raise InvalidRequestError(
            "tools: expected a function with a name and a signature, or a dict,"
            f" found {function!r:.200}",
            param="tools",
        ) from None
    hints = _hints(function)
    about, notes = _docstring(inspect.getdoc(function) or "")
    properties: dict[str, Any] = {}
    required = []
    for name, parameter in signature.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        schema = _schema(hints.get(name, _EMPTY))
        if name in notes:
            schema["description"] = notes[name]
        if parameter.default is _EMPTY:
            required.append(name)
        elif parameter.default is not None and _is_json(default := _value(parameter.default)):
            schema["default"] = default
        properties[name] = schema
    if not properties:
        return FunctionTool(tool_name, about)
    parameters = {"type": "object", "properties": properties, "required": required}
    return FunctionTool(tool_name, about, parameters)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations, without those that name what can't be imported here."""
    try:
        return typing.get_type_hints(function)
    except Exception:  # evaluating text can raise anything
        pass
    hints: dict[str, Any] = {}
    for name, annotation in getattr(function, "__annotations__", {}).items():
        alone = types.SimpleNamespace(__annotations__={name: annotation})
        with contextlib.suppress(Exception):
            hints |= typing.get_type_hints(alone, getattr(function, "__globals__", {}))
    return hints


def _schema(hint: Any) -> dict[str, Any]:
    if hint in _SCALARS:
        return {"type": _SCALARS[hint]}
    if hint is None or hint is type(None):
        return {"type": "null"}
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(arg) for arg in args]}
    if origin is Literal:
        return _enum(args)
    if origin is typing.Annotated:
        return _schema(args[0])
    container = origin or hint
    if not isinstance(container, type):
        return {}
    if issubclass(container, enum.Enum):
        return _enum(container)
    if issubclass(container, Mapping):
        return {"type": "object"}
    if issubclass(container, Sequence | set | frozenset):
        items = [_schema(arg) for arg in args if arg is not ...]
        alike = items and all(item == items[0] for item in items)  # a tuple's may differ
        return {"type": "array", "items": items[0]} if alike else {"type": "array"}
    return {}


def _enum(members: Iterable[Any]) -> dict[str, Any]:
    values = [_value(member) for member in members]
    return {"enum": values} if _is_json(values) else {}


def _value(value: Any) -> Any:
    """What stands for a value in JSON: an enum's member goes by its value."""
    return value.value if isinstance(value, enum.Enum) else value


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
        match = re.match(r"(\s+)\**(\w+)\s*(?:\(.*?\))?:\s*(.*)", line)
        if match and depth in (None, match[1]):
            depth, name = match[1], match[2]
            notes[name] = match[3].strip()
        elif name and line.strip():
            notes[name] = f"{notes[name]} {line.strip()}".strip()
    return about.split("\nReturns:")[0].strip(), notes
