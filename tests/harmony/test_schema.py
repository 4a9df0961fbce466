"""JSON Schema as TypeScript, beyond what the vectors and the reference show.

Where the published renderers write `any`, we say what the schema says; the rest of the notation is
compared with the reference library in test_oracle.
"""

from __future__ import annotations

from typing import Any

import pytest

from motet.errors import InvalidRequestError
from motet.harmony.schema import parameters_type


def property_type(schema: dict[str, Any], **root: Any) -> str:
    """How a property `a` of this schema is shown."""
    text = parameters_type({"type": "object", "properties": {"a": schema}, **root})
    assert text.startswith("{\n")
    assert text.endswith("}")
    return text[2:-1]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "a?: string | null,\n"),
        (
            {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None, "description": "D"},
            "// D\na?: string | null, // default: null\n",
        ),
        (
            {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            "a?:\n | string\n | number\n,\n",
        ),
        (
            {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]},
            "a?:\n | string\n | number\n | null\n,\n",
        ),
        ({"const": "x"}, 'a?: "x",\n'),
        ({"const": 3}, "a?: 3,\n"),
        ({"enum": ["x", "y"]}, 'a?: "x" | "y",\n'),
        ({"enum": ["x", None]}, 'a?: "x" | null,\n'),
        ({"type": "integer", "enum": [1, 2], "default": 1}, "a?: 1 | 2, // default: 1\n"),
        ({"enum": ["x", 1, True, None]}, 'a?: "x" | 1 | true | null,\n'),
        ({"$ref": "#/$defs/P"}, "a?: {\n    x: number,\n    },\n"),
        (
            {"type": "array", "items": {"$ref": "#/$defs/P"}},
            "a?: {\n    x: number,\n    }[],\n",
        ),
        ({"$ref": "#/$defs/Color", "default": "red"}, 'a?: "red" | "blue", // default: red\n'),
        ({"$ref": "https://example.org/schema"}, "a?: any,\n"),
        ({"$ref": "#/$defs/Missing"}, "a?: any,\n"),
        (
            {"allOf": [{"$ref": "#/$defs/P"}], "description": "D"},
            "// D\na?:     // D\n{\n    x: number,\n    },\n",
        ),
        (
            {"allOf": [{"$ref": "#/$defs/P"}, {"properties": {"y": {"type": "string"}}}]},
            "a?: {\n    y?: string,\n    x: number,\n    },\n",
        ),
        ({"properties": {"y": {"type": "string"}}}, "a?: {\n    y?: string,\n    },\n"),
        (True, "a?: any,\n"),
        (
            {"type": "object", "nullable": True, "properties": {"y": {"type": ["null"]}}},
            "a?: {\n    y?: null,\n    } | null,\n",
        ),
    ],
)
def test_what_the_reference_writes_as_any(schema: Any, expected: str) -> None:
    point = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    color = {"enum": ["red", "blue"], "type": "string"}
    assert property_type(schema, **{"$defs": {"P": point, "Color": color}}) == expected


def test_recursive_references_end() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/N"}}}
    text = property_type({"$ref": "#/$defs/N"}, **{"$defs": {"N": node}})
    assert text == "a?: {\n    next?: any,\n    },\n"


def test_the_schema_itself_stays_as_it_is() -> None:
    schema = {"type": "object", "properties": {"a": {"const": 1}, "b": {"anyOf": [{}, {}]}}}
    before = repr(schema)
    parameters_type(schema)
    assert repr(schema) == before


def test_references_that_double_forever() -> None:
    definitions: dict[str, Any] = {
        f"d{i}": {"properties": {k: {"$ref": f"#/$defs/d{i + 1}"} for k in "ab"}} for i in range(60)
    }
    with pytest.raises(InvalidRequestError) as caught:
        property_type({"$ref": "#/$defs/d0"}, **{"$defs": definitions})
    assert caught.value.param == "tools"


def test_nesting_without_end() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for depth in range(5000):
        schema = {"type": "object", "properties": {"a": schema}}
        if depth in (350, 4999):
            with pytest.raises(InvalidRequestError):
                property_type(schema)
