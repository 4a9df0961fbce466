"""Live comparison with OpenAI's harmony library where it is installed: random chats, streams."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from motet.harmony import (
    DeveloperContent,
    FunctionTool,
    HarmonyParseError,
    Message,
    Role,
    StreamParser,
    SystemContent,
    ToolNamespace,
    render_conversation,
    render_conversation_for_training,
)
from tests.harmony.reference import Reference
from tests.harmony.support import PublishedTokenizer

_PIECES = (
    *("a", "to", "get", "weather", "x1", "2", "functions", "_", ".", " ", "\n", "日", "é", "😀"),
    *("'s", "123", "A", "=", "-", ":", "json", "\n\n", "  ", "//", "}", "<|end|>", '"'),
)


@pytest.fixture(scope="module")
def reference(tokenizer: PublishedTokenizer, tmp_path_factory: Any) -> Reference:
    module = pytest.importorskip("openai_harmony", reason="the reference library is not installed")
    folder: Path = tmp_path_factory.mktemp("vocabulary")
    return Reference(module, tokenizer, folder)


class _Random:
    """Random messages and schemas, odd enough to hit every rule of the notation."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def text(self, pieces: int = 6) -> str:
        return "".join(self.rng.choice(_PIECES) for _ in range(self.rng.randint(0, pieces)))

    def maybe(self, chance: float = 0.5) -> bool:
        return self.rng.random() < chance

    def schema(self, depth: int = 0) -> dict[str, Any]:
        """Without what we render on purpose where the reference writes `any` (see test_schema)."""
        scalars = ("string", "number", "integer", "boolean")
        kind = self.rng.choice(
            scalars if depth > 2 else (*scalars, "array", "object", "list", "or")
        )
        out: dict[str, Any] = {}
        if kind == "list":
            names = (*scalars, "object", "null")
            out["type"] = [self.rng.choice(names) for _ in range(self.rng.randint(0, 3))]
        elif kind == "or":
            out["oneOf"] = [self.schema(depth + 1) for _ in range(self.rng.randint(0, 3))]
        else:
            out["type"] = kind
        if kind == "string" and self.maybe(0.4):
            out["enum"] = [self.text(3) for _ in range(self.rng.randint(0, 3))]
        if kind == "array" and self.maybe(0.8):
            out["items"] = self.schema(depth + 1)
        if kind == "object":
            out |= self.object(depth + 1)
        for key in ("description", "title"):
            if self.maybe(0.25):
                out[key] = self.text()
        if kind in scalars and self.maybe(0.2):  # the reference forgets it on what contains a null
            out["nullable"] = self.maybe(0.8)
        if self.maybe(0.2):
            values: tuple[Any, ...] = (
                self.text(),
                1,
                2.5,
                None,
                True,
                [1, "a"],
                {"k": {"b": []}},
                1e30,
                1e-7,
                1e16,
            )
            out["default"] = self.rng.choice(values)
        if self.maybe(0.15):
            out["examples"] = [self.rng.choice([self.text(), 1]) for _ in range(2)]
        return out

    def object(self, depth: int) -> dict[str, Any]:
        properties = {self.text(3): self.schema(depth) for _ in range(self.rng.randint(0, 4))}
        required = [name for name in properties if self.maybe()]
        return {"type": "object", "properties": properties, "required": required}

    def namespaces(self, *names: str) -> tuple[ToolNamespace, ...]:
        chosen = self.rng.sample(names, self.rng.randint(0, len(names)))
        return tuple(
            ToolNamespace(
                name,
                tuple(self.function() for _ in range(self.rng.randint(0, 2))),
                self.text() if self.maybe() else None,
            )
            for name in chosen
        )

    def function(self) -> FunctionTool:
        parameters = self.schema() if self.maybe(0.2) else self.object(1)
        return FunctionTool(self.text(3), self.text(), parameters if self.maybe(0.85) else None)

    def optional(self) -> str | None:
        return self.text() if self.maybe() else None

    def message(self) -> Message:
        role: Role = self.rng.choice(
            ("system", "developer", "user", "tool", "assistant", "assistant")
        )
        content: Any = self.text(10)
        if role == "system":
            content = SystemContent(
                self.optional(),
                self.optional(),
                self.optional(),
                self.rng.choice(("low", "medium", "high")),
                tuple(self.text(2) for _ in range(self.rng.randint(0, 3))),
                self.maybe(),
                self.namespaces("browser", "python", "z"),
            )
        elif role == "developer":
            content = DeveloperContent(self.optional(), self.namespaces("functions", "browser"))
        if self.maybe(0.2):
            content = (content, self.text())
        return Message(
            role,
            content,
            name=self.text(3) if role == "tool" or self.maybe(0.3) else None,
            channel=self.rng.choice((None, "analysis", "final", "commentary", self.text(3))),
            recipient=self.rng.choice((None, None, "all", "functions.f", "assistant", self.text())),
            content_type=self.rng.choice((None, "json", "<|constrain|>json", self.text(3))),
        )


@pytest.mark.parametrize("seed", range(60))
def test_rendering_equals_the_reference(
    tokenizer: PublishedTokenizer, reference: Reference, seed: int
) -> None:
    source = _Random(seed)
    messages = [source.message() for _ in range(source.rng.randint(1, 6))]
    for drop in (True, False):
        expected = reference.render(messages, drop=drop)
        ids = render_conversation(tokenizer, messages, auto_drop_analysis=drop)
        assert tokenizer.decode(ids) == tokenizer.decode(expected)
        assert ids == expected
        expected = reference.render(messages, drop=drop, training=True)
        ids = render_conversation_for_training(tokenizer, messages, auto_drop_analysis=drop)
        assert ids == expected


_VALID = (
    "<|start|>assistant<|channel|>final<|message|>hi<|end|>",
    "<|start|>functions.f to=assistant<|channel|>commentary<|message|>x<|end|>",
    "<|start|>assistant to=functions.f<|channel|>commentary <|constrain|>json<|message|>{}<|call|>",
    "",
)
_INSERTED = (
    *("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|call|>", "<|return|>"),
    *("<|constrain|>", "<|endoftext|>", "assistant", "user", "functions.f", " to=functions.f"),
    *(" to=a", "to=b", "analysis", "final", "commentary", " json", "code", " ", "\n", " hello"),
    *("é", "tool", " to=", "=", "a.b"),
)


def _stream(tokenizer: PublishedTokenizer, rng: random.Random) -> list[int]:
    ids = tokenizer.encode_special(rng.choice(_VALID)) * rng.randint(1, 2)
    halves = tokenizer.encode("日")[:1] + [
        token for token in range(300) if tokenizer.token_bytes(token) in (b"\xe2", b"\xff", b"\x9f")
    ]
    for _ in range(rng.randint(0, 7)):
        at = rng.randint(0, len(ids))
        piece = tokenizer.encode_special(rng.choice(_INSERTED))
        ids[at:at] = piece if rng.random() < 0.9 else [rng.choice(halves)]
        if rng.random() < 0.2:
            del ids[rng.randrange(len(ids))]
    return ids


@pytest.mark.parametrize("seed", range(40))
def test_strict_parsing_equals_the_reference(
    tokenizer: PublishedTokenizer, reference: Reference, seed: int
) -> None:
    """The same step-by-step state, the same messages, and an error at the same token."""
    rng = random.Random(seed)
    for _ in range(30):
        ids = _stream(tokenizer, rng)
        role = rng.choice([None, "assistant"])
        theirs = reference.parser(role)
        ours = StreamParser(tokenizer, "assistant" if role else None, strict=True)
        for token in [*ids, None]:
            try:
                _ = theirs.process_eos() if token is None else theirs.process(token)
            except Exception:  # the reference library's own error type, or whatever it raises
                with pytest.raises(HarmonyParseError):
                    _ = ours.finish() if token is None else ours.process(token)
                break
            delta = ours.finish() if token is None else ours.process(token)
            if token is not None:
                text = delta.text if delta is not None and delta.message is None else None
                assert (text or None) == theirs.last_content_delta
                assert ours.current_role == (theirs.current_role and theirs.current_role.value)
                assert ours.current_channel == theirs.current_channel
                assert ours.current_recipient == theirs.current_recipient
                assert ours.current_content_type == theirs.current_content_type
                assert ours.state.name == theirs.state.name
        found = [
            (m.role, m.name, m.channel, m.recipient, m.content_type, m.text) for m in ours.messages
        ]
        assert found == [
            (
                message.author.role.value,
                message.author.name,
                message.channel,
                message.recipient,
                message.content_type,
                "".join(part.text for part in message.content),
            )
            for message in theirs.messages
        ]
