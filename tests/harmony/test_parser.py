"""The forgiving parser, one kind of malformed output at a time, on a vocabulary of our own."""

from __future__ import annotations

import pytest

from motet.errors import InvalidRequestError, MotetError
from motet.harmony import (
    Delta,
    HarmonyParseError,
    Message,
    Role,
    StreamParser,
    render_conversation_for_completion,
)
from tests.harmony.toy import ToyTokenizer

TOY = ToyTokenizer()
_FINAL = "<|channel|>final<|message|>"


def parse(text: str, role: Role | None = "assistant") -> list[Message]:
    return StreamParser(TOY, role).process_all(TOY.encode_special(text))


def final(text: str) -> Message:
    return Message("assistant", text, channel="final")


def call(text: str, content_type: str | None = "<|constrain|>json") -> Message:
    return Message(
        "assistant",
        text,
        channel="commentary",
        recipient="functions.f",
        content_type=content_type,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{_FINAL}hi<|end|>", [final("hi")]),
        (f"{_FINAL}hi<|return|>", [final("hi")]),
        (f"{_FINAL}hi", [final("hi")]),  # cut off by a limit on tokens
        (f"{_FINAL}<|end|>", [final("")]),
        (
            f"<|channel|>analysis<|message|>x<|end|><|start|>assistant{_FINAL}hi<|return|>",
            [Message("assistant", "x", channel="analysis"), final("hi")],
        ),
        (
            "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>",
            [call("{}")],
        ),
        (
            "<|channel|>commentary to=functions.f <|constrain|> json<|message|>{}<|call|>",
            [call("{}")],
        ),
        (
            " to=functions.f<|channel|>commentary json<|message|>{}<|call|>",
            [call("{}", "json")],
        ),
        (" to=functions.f<|channel|>commentary<|message|>{}<|call|>", [call("{}", None)]),
    ],
)
def test_well_formed_output_has_no_problems(text: str, expected: list[Message]) -> None:
    messages = parse(text)
    assert messages == expected
    assert [message.problems for message in messages] == [()] * len(messages)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("user<|message|>hi<|end|>", Message("user", "hi")),
        ("user:bob<|message|>hi<|end|>", Message("user", "hi", name="bob")),
        ("functions.f<|message|>hi<|end|>", Message("tool", "hi", name="functions.f")),
        (
            "functions.f to=assistant<|channel|>commentary<|message|>hi<|end|>",
            Message("tool", "hi", name="functions.f", recipient="assistant", channel="commentary"),
        ),
        ("python<|message|>hi<|end|>", Message("tool", "hi", name="python")),
    ],
)
def test_whole_conversations_parse_too(text: str, expected: Message) -> None:
    messages = parse(f"<|start|>{text}", None)
    assert messages == [expected]
    assert messages[0].problems == ()


@pytest.mark.parametrize(
    ("text", "expected", "problem"),
    [
        # a doubled <|start|>, after the prompt's and by itself
        (f"<|start|>assistant{_FINAL}hi<|end|>", [final("hi")], "<|start|> twice"),
        (
            f"{_FINAL}a<|end|><|start|><|start|>assistant{_FINAL}b<|end|>",
            [final("a"), final("b")],
            "<|start|> twice",
        ),
        # missing <|message|>: what can't be header is text
        ("hi there<|end|>", [Message("assistant", "hi there")], "no <|message|>"),
        (
            "<|channel|>analysis hi there<|end|>",
            [Message("assistant", "hi there", channel="analysis")],
            "no <|message|>",
        ),
        (
            '<|channel|>commentary to=functions.f <|constrain|>json{"a": 1}<|call|>',
            [call('{"a": 1}')],
            "no <|message|>",
        ),
        (
            f"hi there<|start|>assistant{_FINAL}x<|end|>",
            [Message("assistant", "hi there"), final("x")],
            "no <|message|>",
        ),
        ("hi there", [Message("assistant", "hi there")], "in the middle of a header"),
        # special tokens that spell into the text are taken out of it
        (
            "hi<|channel|> there<|end|>",
            [Message("assistant", "hi there")],
            "no <|message|>",
        ),
        # ends after the end
        (f"{_FINAL}hi<|end|><|return|>", [final("hi")], "<|return|> after the end"),
        (f"{_FINAL}hi<|call|><|end|>", [final("hi")], "<|end|> after the end"),
        # unknown and mangled roles
        (
            f"{_FINAL}a<|end|><|start|>xx{_FINAL}b<|end|>",
            [final("a"), final("b")],
            "unknown role 'xx'",
        ),
        (
            f"{_FINAL}a<|end|><|start|>assistantassistant{_FINAL}b<|end|>",
            [final("a"), final("b")],
            "unknown role",
        ),
        (
            f"{_FINAL}a<|end|><|start|>{_FINAL}b<|end|>",
            [final("a"), final("b")],
            "no role",
        ),
        (f"assistant{_FINAL}hi<|end|>", [final("hi")], "the role stands twice"),
        # headers with too little or too much
        ("<|channel|><|message|>hi<|end|>", [Message("assistant", "hi")], "no name after"),
        (
            "<|channel|>xx<|message|>hi<|end|>",
            [Message("assistant", "hi", channel="xx")],
            "unknown",
        ),
        ("final<|message|>hi<|end|>", [final("hi")], "no <|channel|> before 'final'"),
        (f"<|channel|>analysis{_FINAL}hi<|end|>", [final("hi")], "a second channel"),
        ("<|channel|>final hi there<|message|>x<|end|>", None, "unexpected 'there'"),
        (
            "<|channel|>commentary functions.f json<|message|>{}<|call|>",
            [call("{}", "json")],
            "no 'to='",
        ),
        (
            " to=functions<|channel|>commentary to=functions.f json<|message|>{}<|call|>",
            [call("{}", "json")],
            "a second recipient after 'functions'",
        ),
        ("<|channel|>analysis", [Message("assistant", "", channel="analysis")], "in the middle"),
        # text between messages, and a <|start|> forgotten
        (
            f"{_FINAL}a<|end|>hi there<|start|>assistant{_FINAL}b<|end|>",
            [final("a"), Message("assistant", "hi there"), final("b")],
            "'hi' stands where <|start|> should",
        ),
        (
            f"<|channel|>analysis<|message|>a<|end|>assistant{_FINAL}b<|end|>",
            [Message("assistant", "a", channel="analysis"), final("b")],
            "stands where <|start|> should",
        ),
        (
            f"<|channel|>analysis<|message|>a<|end|>{_FINAL}b<|end|>",
            [Message("assistant", "a", channel="analysis"), final("b")],
            "<|channel|> stands where <|start|> should",
        ),
        (
            "<|channel|>analysis<|message|>a<|end|>"
            "commentary to=functions.f json<|message|>{}<|call|>",
            [Message("assistant", "a", channel="analysis"), call("{}", "json")],
            "stands where <|start|> should",
        ),
        # an <|end|> forgotten
        (
            f"<|channel|>analysis<|message|>a<|start|>assistant{_FINAL}b<|end|>",
            [Message("assistant", "a", channel="analysis"), final("b")],
            "<|start|> in the text",
        ),
        (
            f"<|channel|>analysis<|message|>a{_FINAL}b<|end|>",
            [Message("assistant", "a", channel="analysis"), final("b")],
            "<|channel|> in the text",
        ),
        # special tokens in the text
        (f"{_FINAL}a<|message|>x<|end|>", [final("ax")], "<|message|> in the text"),
        (f"{_FINAL}a<|reserved_7|>x<|end|>", [final("ax")], "<|reserved_7|> in the text"),
        (f"{_FINAL}a<|endoftext|>", [final("a")], "ended by <|endoftext|>"),
    ],
)
def test_malformed_output(text: str, expected: list[Message] | None, problem: str) -> None:
    messages = parse(text)
    if expected is not None:
        assert messages == expected
    assert any(problem in found for message in messages for found in message.problems)


def test_the_header_is_kept_as_written() -> None:
    (message,) = parse("<|channel|>final xx yy<|message|>hi<|end|>")
    assert message.header == "<|channel|>final xx yy"


def test_nothing_at_all() -> None:
    parser = StreamParser(TOY, "assistant")
    assert parser.finish() is None
    assert parser.messages == []
    assert parser.problems == ()


def test_problems_without_any_message() -> None:
    parser = StreamParser(TOY)
    parser.process_all(TOY.encode_special("<|end|>"))
    assert parser.messages == []
    assert parser.problems == ("<|end|> after the end of the message",)


def test_tokens_outside_the_vocabulary() -> None:
    parser = StreamParser(TOY, "assistant")
    (message,) = parser.process_all([*TOY.encode_special(f"{_FINAL}hi"), 10**9, -1])
    assert message.text == "hi"
    assert message.problems == ("a token outside the vocabulary",)


def test_characters_are_never_split() -> None:
    parser = StreamParser(TOY, "assistant")
    for token in TOY.encode_special(_FINAL):
        parser.process(token)
    byte = {TOY.token_bytes(token): token for token in TOY.text_tokens}
    texts = []
    for value in "日".encode():
        delta = parser.process(byte[bytes([value])])
        texts.append(delta.text if delta else "")
    assert texts == ["", "", "日"]
    parser.process(byte[b"\xe6"])
    delta = parser.process(TOY.special_tokens["<|end|>"])
    assert delta == Delta("text", "\ufffd", None, final("日\ufffd"))


def test_deltas_say_whom_the_text_is_for() -> None:
    text = (
        "<|channel|>analysis<|message|>a<|end|>"
        "<|start|>assistant<|channel|>commentary<|message|>b<|end|>"
        "<|start|>assistant<|channel|>commentary to=functions.f<|message|>c<|call|>"
        "<|start|>assistant<|channel|>analysis to=python code<|message|>d<|call|>"
        "<|start|>functions.f to=assistant<|channel|>commentary<|message|>e<|end|>"
        f"<|start|>assistant{_FINAL}f<|return|>"
    )
    parser = StreamParser(TOY, "assistant")
    deltas = [parser.process(token) for token in TOY.encode_special(text)]
    assert [(d.kind, d.text, d.recipient) for d in deltas if d is not None and d.text] == [
        ("reasoning", "a", None),
        ("text", "b", None),
        ("tool_call", "c", "functions.f"),
        ("tool_call", "d", "python"),
        ("other", "e", "assistant"),
        ("text", "f", None),
    ]


def test_state_while_streaming() -> None:
    parser = StreamParser(TOY, "assistant")
    for token in TOY.encode_special("<|channel|>commentary to=functions.f json<|message|>hi"):
        parser.process(token)
    assert parser.current_role == "assistant"
    assert parser.current_channel == "commentary"
    assert parser.current_recipient == "functions.f"
    assert parser.current_content_type == "json"
    assert parser.current_text == "hi"


@pytest.mark.parametrize(
    "text",
    [
        f"{_FINAL}hi<|end|><|return|>",
        f"{_FINAL}hi<|end|>hi",
        "<|channel|><|message|>",
        "hi there",
        f"{_FINAL}a<|end|><|start|>xx<|message|>",
        "<|channel|>final a b c<|message|>",
    ],
)
def test_strict_raises(text: str) -> None:
    parser = StreamParser(TOY, "assistant", strict=True)
    with pytest.raises(HarmonyParseError) as caught:
        parser.process_all(TOY.encode_special(text))
    assert isinstance(caught.value, MotetError)


def test_after_prompt_goes_on_where_the_prompt_ends() -> None:
    prompt = render_conversation_for_completion(TOY, [Message("user", "hi")])
    parser = StreamParser.after_prompt(TOY, prompt)
    assert parser.process_all(TOY.encode_special(f"{_FINAL}x<|end|>")) == [final("x")]

    opened = prompt + TOY.encode_special(" to=functions.f<|channel|>commentary<|message|>")
    parser = StreamParser.after_prompt(TOY, opened)
    assert parser.process_all(TOY.encode_special("{}<|call|>")) == [call("{}", None)]

    parser = StreamParser.after_prompt(TOY, TOY.encode("hi there"))
    assert parser.process_all(TOY.encode_special(f"<|start|>assistant{_FINAL}x<|end|>")) == [
        final("x")
    ]


def test_a_vocabulary_without_harmony() -> None:
    tokenizer = ToyTokenizer()
    del tokenizer.special_tokens["<|channel|>"]
    with pytest.raises(InvalidRequestError, match=r"<\|channel\|>"):
        StreamParser(tokenizer)
