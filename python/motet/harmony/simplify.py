"""Rewrites JSON Schema so that the little that harmony's notation can say is enough for it.

`$ref`s into the schema itself are followed, `allOf` is merged, `anyOf` becomes `oneOf`, `X or null`
becomes a nullable X, `const` an enum of one, and an enum of other things than strings gets a type
of our own, LITERAL.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from motet.errors import InvalidRequestError

LITERAL = "literal"
# Far more than any real tool needs; a few $refs that each name the next twice would otherwise never
# end.
_MAX_NODES = 20_000
_NOTES = ("title", "description", "default", "examples", "nullable")

_Schema = dict[str, Any]


def simplified(schema: Mapping[str, Any]) -> _Schema:
    """The schema, rewritten; the argument stays as it is. Recursive $refs end in one for anything.

    Raises InvalidRequestError for a schema that is too large once its $refs are followed.
    """
    result = _Rewriter(schema).rewrite(schema, ())
    return result if isinstance(result, dict) else {}


def is_string_list(value: Any) -> bool:
    """Whether an enum is one that the notation knows."""
    return isinstance(value, list) and any(isinstance(entry, str) for entry in value)


class _Rewriter:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._nodes = 0

    def rewrite(self, schema: Any, seen: tuple[str, ...]) -> Any:
        """A schema rewritten, or anything else as it is; `seen` are the $refs being followed."""
        if not isinstance(schema, Mapping):
            return schema
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise InvalidRequestError(
                f"the JSON Schema has more than {_MAX_NODES} parts", param="tools"
            )
        out: _Schema = dict(schema)
        reference = out.pop("$ref", None)
        if isinstance(reference, str):
            if reference in seen:
                return {key: out[key] for key in _NOTES if key in out}
            target = self._resolve(reference)
            if isinstance(target, Mapping):
                return self.rewrite({**target, **out}, (*seen, reference))
        all_of = out.pop("allOf", None)
        for part in all_of if isinstance(all_of, list) else ():
            out = _merged(out, self.rewrite(part, seen))
        if isinstance(out.get("anyOf"), list) and "oneOf" not in out:
            out["oneOf"] = out.pop("anyOf")
        if isinstance(out.get("oneOf"), list):
            out = self._alternatives(out, seen)
        _rewrite_enum(out)
        properties = out.get("properties")
        if isinstance(properties, Mapping):
            out["properties"] = {
                name: self.rewrite(value, seen) for name, value in properties.items()
            }
            out.setdefault("type", "object")
        if "items" in out:
            out["items"] = self.rewrite(out["items"], seen)
        return out

    def _resolve(self, reference: str) -> Any:
        """The part of the schema that a `#/...` JSON pointer names, or None."""
        if not reference.startswith("#"):
            return None
        node: Any = self._root
        for key in reference[1:].split("/")[1:]:
            key = key.replace("~1", "/").replace("~0", "~")
            if not isinstance(node, Mapping) or key not in node:
                return None
            node = node[key]
        return node

    def _alternatives(self, schema: _Schema, seen: tuple[str, ...]) -> _Schema:
        """A oneOf with its alternatives rewritten; `X or null` becomes a nullable X."""
        variants = [self.rewrite(variant, seen) for variant in schema["oneOf"]]
        rest = [v for v in variants if not (isinstance(v, Mapping) and v.get("type") == "null")]
        if len(rest) == len(variants):
            return {**schema, "oneOf": variants}
        if len(rest) == 1 and isinstance(rest[0], Mapping):
            outer = {key: value for key, value in schema.items() if key != "oneOf"}
            return {**rest[0], **outer, "nullable": True}
        return {**schema, "oneOf": [*rest, {"type": ["null"]}]}


def _merged(left: _Schema, right: Any) -> _Schema:
    """Both schemas at once: properties and required are united, of all else the left one wins."""
    if not isinstance(right, Mapping):
        return left
    out = {**right, **left}
    if isinstance(left.get("properties"), Mapping) and isinstance(right.get("properties"), Mapping):
        out["properties"] = {**right["properties"], **left["properties"]}
    if isinstance(left.get("required"), list) and isinstance(right.get("required"), list):
        out["required"] = [*right["required"], *left["required"]]
    return out


def _rewrite_enum(schema: _Schema) -> None:
    """Type an enum of strings as such (null in it means nullable), any other one as LITERAL."""
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    values = schema.get("enum")
    kind = schema.get("type")
    if not isinstance(values, list) or not values or "oneOf" in schema:
        return
    if kind in ("object", "array", "string"):
        return
    if any(isinstance(v, str) for v in values) and all(
        v is None or isinstance(v, str) for v in values
    ):
        schema["type"] = "string"
        if None in values:
            schema["nullable"] = True
    else:
        schema["type"] = LITERAL
