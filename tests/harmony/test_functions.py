"""Python functions as tools."""

from __future__ import annotations

import enum
import functools
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pytest

from motet.errors import InvalidRequestError
from motet.harmony import tool_from_function
from motet.harmony.schema import parameters_type


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
        "unit": {"enum": ["celsius", "kelvin"], "default": "celsius"},
        "detail": {"anyOf": [{"enum": ["low", "high"]}, {"type": "null"}]},
        "hours": {"anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "null"}]},
        "tags": {"type": "array", "items": {"type": "string"}, "default": ()},
        "extra": {"anyOf": [{"type": "object"}, {"type": "null"}]},
        "note": {"type": "boolean", "default": True},
        "anything": {},
    }


class Color(str, enum.Enum):  # noqa: UP042  # they print another way
    RED = "red"
    BLUE = "blue"


class Opaque(enum.Enum):
    A = object()


def test_enum_members_are_their_values() -> None:
    def paint(
        color: Color = Color.RED,
        unit: Unit = Unit.KELVIN,
        only: Literal[Unit.KELVIN, 3] = 3,
        opaque: Opaque = Opaque.A,
    ) -> None:
        pass

    tool = tool_from_function(paint)
    assert tool.parameters is not None
    assert tool.parameters["properties"] == {
        "color": {"enum": ["red", "blue"], "default": "red"},
        "unit": {"enum": ["celsius", "kelvin"], "default": "kelvin"},
        "only": {"enum": ["kelvin", 3], "default": 3},
        "opaque": {},
    }
    assert "default: red" in parameters_type(tool.parameters)


@pytest.mark.parametrize("unknown", ["NotImported", "os.no_such_type", "not an expression"])
def test_an_annotation_that_can_not_be_resolved_costs_no_other(unknown: str) -> None:
    """As with names imported only under TYPE_CHECKING: often the result's alone."""

    def search(query: str, limit: int = 3, where: Any = None) -> None:
        pass

    search.__annotations__ |= {"query": "str", "where": unknown, "return": unknown}
    tool = tool_from_function(search)
    assert tool.parameters is not None
    assert tool.parameters["properties"] == {
        "query": {"type": "string"},
        "limit": {"type": "integer", "default": 3},
        "where": {},
    }


class _Searcher:
    def __call__(self, query: str) -> str:
        return query


@pytest.mark.parametrize("tool", [functools.partial(forecast, "Paris"), _Searcher(), dict])
def test_what_has_no_name_or_no_signature_is_refused(tool: Any) -> None:
    with pytest.raises(InvalidRequestError, match="expected a function") as caught:
        tool_from_function(tool)
    assert caught.value.param == "tools"


def test_tuples() -> None:
    def f(pair: tuple[int, int], many: tuple[int, ...], mixed: tuple[int, str]) -> None:
        pass

    tool = tool_from_function(f)
    assert tool.parameters is not None
    assert tool.parameters["properties"] == {
        "pair": {"type": "array", "items": {"type": "integer"}},
        "many": {"type": "array", "items": {"type": "integer"}},
        "mixed": {"type": "array"},
    }


def test_docstring_with_types_in_brackets_and_starred_parameters() -> None:
    def f(where, how, *args, **options):  # type: ignore[no-untyped-def]
        """Find.

        Args:
            where (dict(str, int)): The place (or: places).
            how (Callable[[int], str], optional): The way.
            *args: The rest.
            **options: Those of open().
        """

    tool = tool_from_function(f)
    assert tool.parameters is not None
    assert tool.parameters["properties"] == {
        "where": {"description": "The place (or: places)."},
        "how": {"description": "The way."},
    }


def test_a_function_without_anything() -> None:
    def now():  # type: ignore[no-untyped-def]
        pass

    tool = tool_from_function(now)
    assert (tool.name, tool.description, tool.parameters) == ("now", "", None)
