"""Plain chats render as by the checkpoint's own chat_template.jinja, where jinja2 is installed.

Where the two published renderers differ we follow the library: no blank lines after instructions
without tools, one comma before a default, <|constrain|> before "json", arguments and results as
they are instead of quoted.
"""

from __future__ import annotations

from typing import Any

import pytest

from motet.harmony import render_chat
from tests.harmony.support import SPEC, PublishedTokenizer

_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Gets the weather.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "The city"},
                "unit": {"type": "string", "enum": ["c", "f"]},
                "days": {"type": "array", "items": {"type": "integer"}},
            },
            "required": ["city"],
        },
    },
}
_TURNS = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "Hello!", "thinking": "A greeting."},
    {"role": "user", "content": "Weather in Paris?"},
]


@pytest.mark.parametrize(
    ("messages", "options"),
    [
        ([{"role": "user", "content": "What is 2 + 2?"}], {}),
        ([{"role": "user", "content": "What is 2 + 2?"}], {"reasoning_effort": "high"}),
        ([{"role": "user", "content": "hi"}], {"builtin_tools": ["browser", "python"]}),
        ([{"role": "system", "content": "Be brief."}, *_TURNS], {"tools": [_TOOL]}),
        ([{"role": "developer", "content": "Be brief."}, *_TURNS], {"tools": [_TOOL]}),
        (_TURNS, {"tools": [_TOOL], "reasoning_effort": "low", "builtin_tools": ["python"]}),
    ],
)
def test_equals_the_published_template(
    tokenizer: PublishedTokenizer, messages: list[dict[str, Any]], options: dict[str, Any]
) -> None:
    jinja2 = pytest.importorskip("jinja2", reason="jinja2 is not installed")
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["strftime_now"] = lambda _: "2026-01-02"
    source = (SPEC / "tokenizer" / "chat_template.jinja").read_text("utf-8")
    template = environment.from_string(source)
    expected = template.render(messages=messages, add_generation_prompt=True, **options)
    ids = render_chat(tokenizer, messages, date="2026-01-02", **options)
    assert tokenizer.decode(ids) == expected
