"""Python functions as tools."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from motet.harmony import tool_from_function


class Unit(enum.Enum):
    CELSIUS = "celsius"
    KELVIN = "kelvin"


def forecast(  # type: ignore[no-untyped-def]
    city: str,
    days: int = 3,
    unit: Unit = Unit.CELSIUS,
    detail: Literal["low", "high"] | None = None,
    hours: list[float] | None = None,
    tags: Sequence[str] = (),
    extra: dict[str, Any] | None = None,
    note: Annotated[bool, "unused"] = True,
    anything=None,
    *args: int,
    **kwargs: int,
) -> str:
    """Forecast the weather.

    Uses several models.

    Args:
        city: Where; "City, Country"
            if it is ambiguous.
        days (int): How many days: at most ten.

    Returns:
        A text.
    """
    return city


def test_schema_from_signature_and_docstring() -> None:
    tool = tool_from_function(forecast)
    assert tool.name == "forecast"
    assert tool.description == "Forecast the weather.\n\nUses several models."
    assert tool.parameters is not None
    assert tool.parameters["required"] == ["city"]
    assert tool.parameters["properties"] == {
        "city": {"type": "string", "description": 'Where; "City, Country" if it is ambiguous.'},
        "days": {"type": "integer", "default": 3, "description": "How many days: at most ten."},
        "unit": {"enum": ["celsius", "kelvin"]},
        "detail": {"anyOf": [{"enum": ["low", "high"]}, {"type": "null"}]},
        "hours": {"anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "null"}]},
        "tags": {"type": "array", "items": {"type": "string"}, "default": ()},
        "extra": {"anyOf": [{"type": "object"}, {"type": "null"}]},
        "note": {"type": "boolean", "default": True},
        "anything": {},
    }


def test_a_function_without_anything() -> None:
    def now():  # type: ignore[no-untyped-def]
        pass

    tool = tool_from_function(now)
    assert (tool.name, tool.description, tool.parameters) == ("now", "", None)
