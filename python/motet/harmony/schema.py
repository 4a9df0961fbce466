"""JSON Schema to the TypeScript-like notation in which harmony shows functions to the model.

The notation is what the models were trained on, so its quirks are kept: indentation of nested
objects, the place of default comments, descriptions of objects written twice. Where the published
renderers give up and write `any` (anyOf, $ref, const, enums that are not strings), `simplified`
first rewrites the schema into one that has a notation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from motet.errors import InvalidRequestError
from motet.harmony.simplify import LITERAL, is_string_list, simplified

_SCALARS = {"string": "string", "number": "number", "integer": "number", "boolean": "boolean"}


def parameters_type(schema: Mapping[str, Any]) -> str:
    """The type of a function's argument, e.g. `{ city: string, }` over three lines.

    Raises InvalidRequestError for a schema that is too large or too deeply nested.
    """
    try:
        return _type(simplified(schema), indent="")
    except RecursionError:
        raise InvalidRequestError("the JSON Schema is nested too deeply", param="tools") from None


def compact_json(value: Any, param: str) -> str:
    """JSON without spaces; InvalidRequestError for a schema's value that has no JSON."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        found = "one nested too deeply"
    except (TypeError, ValueError) as error:  # also a circle, and an integer too long to write
        found = str(error)
    raise InvalidRequestError(f"{param}: expected a JSON Schema, found {found}", param=param)


def _type(schema: Any, indent: str) -> str:
    """The type of a schema; lines after the first start with `indent`."""
    if not isinstance(schema, Mapping):
        return "any"
    kind = schema.get("type")
    if isinstance(schema.get("oneOf"), list):
        return "".join(_variants(schema["oneOf"], indent, None))
    if isinstance(kind, list):
        names = [_SCALARS.get(name, name) for name in kind if isinstance(name, str)]
        return " | ".join(names) or "any"
    if kind == "object":
        return _object(schema, indent)
    if kind == "array":
        return _type(schema["items"], indent) + "[]" if "items" in schema else "Array<any>"
    if kind == LITERAL:
        return " | ".join(_json(value) for value in schema["enum"])
    values = _string_enum(schema)
    if values:
        return " | ".join(f'"{value}"' for value in values)
    return _SCALARS.get(kind, "any") if isinstance(kind, str) else "any"


def _object(schema: Mapping[str, Any], indent: str) -> str:
    lines = []
    description = schema.get("description")
    if isinstance(description, str):
        lines.append(f"{indent}// {description}\n")
    lines.append("{\n")
    properties = schema.get("properties")
    required = schema.get("required")
    for name, value in properties.items() if isinstance(properties, Mapping) else ():
        optional = not (isinstance(required, list) and name in required)
        lines.append(_property(f"{name}{'?' if optional else ''}", value, indent))
    lines.append(f"{indent}}}")
    return "".join(lines)


def _property(name: str, schema: Any, indent: str) -> str:
    """One property with its comments, ending in a newline."""
    if not isinstance(schema, Mapping):
        return f"{indent}{name}: any,\n"
    title, description = schema.get("title"), schema.get("description")
    one_of = schema.get("oneOf")
    lines = [f"{indent}// {title}\n{indent}//\n"] if isinstance(title, str) else []
    about = [f"{indent}// {description}\n"] if isinstance(description, str) else []
    examples = _examples(schema, indent)
    if not isinstance(one_of, list):
        default = f", // default: {_default(schema)}" if "default" in schema else ","
        kind = _nullable(schema, _type(schema, indent + "    "))
        return "".join([*lines, *about, *examples, f"{indent}{name}: {kind}{default}\n"])
    if one_of and isinstance(one_of[0], Mapping) and one_of[0].get("description") == description:
        about = []
    lines += examples + about
    if "default" in schema:
        lines.append(f"{indent}// default: {_default(schema)}\n")
    lines.append(f"{indent}{name}:")
    lines += _variants(one_of, indent, description if isinstance(description, str) else None)
    return "".join([*lines, f"\n{indent},\n"])


def _variants(one_of: list[Any], indent: str, outer: str | None) -> list[str]:
    """The alternatives of a oneOf, each on a line of its own that starts with a newline.

    Below a property with a description (`outer`), the first alternative's description and
    repetitions of the property's are left out.
    """
    lines = []
    for index, variant in enumerate(one_of):
        line = f"\n{indent} | {_nullable(variant, _type(variant, indent + '   '))}"
        if isinstance(variant, Mapping):
            notes = []
            description = variant.get("description")
            if isinstance(description, str) and (outer is None or (index and description != outer)):
                notes.append(description)
            if "default" in variant:
                notes.append(f"default: {_default(variant)}")
            line += f" // {' '.join(notes)}" if notes else ""
        lines.append(line)
    return lines


def _nullable(schema: Any, kind: str) -> str:
    nullable = isinstance(schema, Mapping) and schema.get("nullable") is True
    return f"{kind} | null" if nullable and "null" not in kind.split(" | ") else kind


def _examples(schema: Mapping[str, Any], indent: str) -> list[str]:
    examples = schema.get("examples")
    if not isinstance(examples, list) or not examples:
        return []
    values = [value for value in examples if isinstance(value, str)]
    return [f"{indent}// Examples:\n", *(f'{indent}// - "{value}"\n' for value in values)]


def _string_enum(schema: Mapping[str, Any]) -> list[str]:
    values = schema.get("enum")
    if schema.get("type") != "string" or not isinstance(values, list):
        return []
    return [value for value in values if isinstance(value, str)]


def _default(schema: Mapping[str, Any]) -> str:
    """A default as its comment shows it: values of an enum bare, other strings in quotes."""
    value = schema["default"]
    if not isinstance(value, str):
        return _json(value)
    return value if is_string_list(schema.get("enum")) else f'"{value}"'


def _json(value: Any) -> str:
    """Compact JSON; exponents in the short form (1e30, 1e-7) of the published renderer."""
    text = compact_json(value, "tools")
    return re.sub(r"e([+-])0*(\d)", _exponent, text) if isinstance(value, float) else text


def _exponent(match: re.Match[str]) -> str:
    return ("e-" if match[1] == "-" else "e") + match[2]
