"""Token ids to messages, one token at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import Enum
from typing import Literal, NamedTuple

from motet.harmony.header import (
    HarmonyParseError,
    Header,
    parse_forgivingly,
    parse_strictly,
)
from motet.harmony.messages import Message, Role
from motet.harmony.tokens import HarmonyTokens, Tokenizer
from motet.harmony.utf8 import REPLACEMENT, Utf8Stream

DeltaKind = Literal["reasoning", "text", "tool_call", "other"]


class ParserState(Enum):
    """What is being read: the space before a <|start|>, a header, or a message's text."""

    EXPECT_START = "ExpectStart"
    HEADER = "Header"
    CONTENT = "Content"


class Delta(NamedTuple):
    """What one token added to a message.

    A message's first delta comes with its <|message|> and has no text yet; its last one has the
    finished `message` and perhaps a last piece of text. `kind` says whom the text is for,
    `recipient` whom a call goes to, e.g. "functions.get_weather". The texts of a message's deltas,
    joined, are the message's text.
    """

    kind: DeltaKind
    text: str = ""
    recipient: str | None = None
    message: Message | None = None


def kind_of(role: Role, channel: str | None, recipient: str | None) -> DeltaKind:
    """Whom a message is for.

    What the assistant addresses to a tool is a call on any channel: models also call on "analysis".
    Commentary to nobody is a preamble, which the format means for the user; so is text without a
    known channel, since refusals come without a header. What the model writes in another's name (an
    invented user or tool) is "other", for nobody.
    """
    if role != "assistant":
        return "other"
    if recipient not in (None, "", "all", "assistant", "user"):
        return "tool_call"
    return "reasoning" if channel == "analysis" else "text"


class _Name(str):
    """The name of a special token in a header, as opposed to text that spells it."""

    __slots__ = ()


class StreamParser:
    """Parses harmony as a model writes it.

    `role` is the author of the first message, where the prompt ended in `<|start|>` and that role.
    By default no output is an error: from malformed output come messages with `problems`, and all
    of its text is in their `text` and `header`. With `strict`, HarmonyParseError is raised where
    the published parser fails.
    """

    def __init__(
        self, tokenizer: Tokenizer, role: Role | None = None, *, strict: bool = False
    ) -> None:
        self._token_bytes = tokenizer.token_bytes
        self._tokens = HarmonyTokens.of(tokenizer)
        self._names = {token: name for name, token in tokenizer.special_tokens.items()}
        self._ends = {self._tokens.end, self._tokens.return_, self._tokens.call}
        self._strict = strict
        self._decoder = Utf8Stream()
        self._messages: list[Message] = []
        self._state = ParserState.EXPECT_START if role is None else ParserState.HEADER
        self._role = role  # the author, as far as known while the header is read
        self._raw: list[str] = []  # pieces of the header being read
        self._header = Header()
        self._header_text = ""
        self._kind: DeltaKind = "text"
        self._text: list[str] = []
        self._problems: list[str] = []  # of the message being read

    @classmethod
    def after_prompt(cls, tokenizer: Tokenizer, prompt: Sequence[int]) -> StreamParser:
        """A parser for what a model writes after a prompt, in the message the prompt opened."""
        tokens = HarmonyTokens.of(tokenizer)
        at = len(prompt) - 1
        while at >= 0 and prompt[at] not in (tokens.start, tokens.end, tokens.return_, tokens.call):
            at -= 1
        opened = list(prompt[at + 1 :]) if at >= 0 and prompt[at] == tokens.start else None
        if opened == tokenizer.encode("assistant"):
            return cls(tokenizer, "assistant")
        parser = cls(tokenizer)
        for token in [tokens.start, *opened] if opened is not None else ():
            parser.process(token)
        return parser

    @property
    def messages(self) -> list[Message]:
        """The messages finished so far."""
        return self._messages

    @property
    def state(self) -> ParserState:
        return self._state

    @property
    def current_role(self) -> Role | None:
        return self._header.role if self._state is ParserState.CONTENT else self._role

    @property
    def current_channel(self) -> str | None:
        return self._header.channel if self._state is ParserState.CONTENT else None

    @property
    def current_recipient(self) -> str | None:
        return self._header.recipient if self._state is ParserState.CONTENT else None

    @property
    def current_content_type(self) -> str | None:
        return self._header.content_type if self._state is ParserState.CONTENT else None

    @property
    def current_text(self) -> str:
        """The text so far of the message being read."""
        return "".join(self._text)

    @property
    def problems(self) -> tuple[str, ...]:
        """Problems that no finished message has (yet)."""
        return tuple(self._problems)

    def process(self, token: int) -> Delta | None:
        """Take the next token; what it added to a message, if anything."""
        name = self._names.get(token)
        if name is not None:
            if self._strict:
                return self._strict_special(token, name)
            return self._special(token, name)
        try:
            data = self._token_bytes(token)
        except (LookupError, ValueError, OverflowError):
            data = b""
        if not data:
            self._problem("a token outside the vocabulary")
            return None
        if self._state is ParserState.CONTENT:
            text = self._decoder.push(data)
            return self._add_text(text) if text else None
        if self._state is ParserState.EXPECT_START:
            self._open_unstarted(repr(data.decode("utf-8", "replace")))
        self._raw.append(self._decoder.push(data))
        return None

    def process_all(self, tokens: Iterable[int]) -> list[Message]:
        """Take all of a model's output and its end; the messages in it."""
        for token in tokens:
            self.process(token)
        self.finish()
        return self._messages

    def finish(self) -> Delta | None:
        """The output has ended, with or without an end token: finish the message being read.

        A text without an end token is no problem: a limit on tokens cuts it off as well.
        """
        if self._state is ParserState.CONTENT:
            return self._close()
        delta = None
        if self._state is ParserState.HEADER:
            if self._strict:
                raise HarmonyParseError("the output ends in the middle of a header")
            if self._role is None or self._take_header():
                delta = self._close_header("the output ends in the middle of a header")
        self._state = ParserState.EXPECT_START
        if self._messages:
            for problem in self._problems:
                self._problem_of_last(problem)
            self._problems = []
        return delta

    def _strict_special(self, token: int, name: str) -> Delta | None:
        if self._state is ParserState.EXPECT_START:
            if token != self._tokens.start:
                raise HarmonyParseError(f"{name} stands where <|start|> should")
            self._open_header(None)
        elif self._state is ParserState.HEADER:
            if token == self._tokens.message:
                return self._open_content()
            self._raw += [self._decoder.flush(), _Name(name)]
        elif token in self._ends:
            return self._close()
        else:
            return self._add_text(self._decoder.push(name.encode()))
        return None

    def _special(self, token: int, name: str) -> Delta | None:
        """A special token, made the best of."""
        ends = token in self._ends or name == "<|endoftext|>"
        if self._state is ParserState.EXPECT_START:
            if token == self._tokens.start:
                self._open_header(None)
                return None
            if ends:
                self._problem_of_last(f"{name} after the end of the message")
                return None
            self._open_unstarted(name)
        if self._state is ParserState.CONTENT:
            return self._special_in_text(token, name, ends)
        if token == self._tokens.message:
            return self._open_content()
        if ends or token == self._tokens.start:
            doubled = token == self._tokens.start and not self._take_header()
            problem = "<|start|> twice" if doubled else f"no <|message|> before {name}"
            delta = self._close_header(problem)
            if not ends:
                self._open_header(None)
            return delta
        self._raw.append(self._decoder.flush())
        if token in (self._tokens.channel, self._tokens.constrain):
            self._raw.append(_Name(name))
        else:
            self._problem(f"{name} in the header")
        return None

    def _special_in_text(self, token: int, name: str, ends: bool) -> Delta | None:
        if ends:
            if token not in self._ends:
                self._problem(f"ended by {name}")
            return self._close()
        self._problem(f"{name} in the text")
        if token == self._tokens.start:
            delta = self._close()
            self._open_header(None)
            return delta
        if token == self._tokens.channel:  # <|end|><|start|>assistant forgotten
            role = self._header.role
            delta = self._close()
            self._open_header(role)
            self._raw.append(_Name(name))
            return delta
        return self._add_text(self._decoder.flush())

    def _add_text(self, text: str) -> Delta | None:
        if not text:
            return None
        self._text.append(text)
        return Delta(self._kind, text, self._header.recipient)

    def _open_header(self, role: Role | None) -> None:
        self._state, self._role = ParserState.HEADER, role

    def _open_unstarted(self, found: str) -> None:
        """A header begins without its <|start|>; the model's own words are the assistant's."""
        if self._strict:
            raise HarmonyParseError(f"{found} stands where <|start|> should")
        self._problem(f"{found} stands where <|start|> should")
        self._open_header("assistant")

    def _take_header(self) -> str:
        """The header's text so far."""
        self._raw.append(self._decoder.flush())
        return "".join(self._raw)

    def _open_content(self) -> Delta:
        """<|message|>: the header is complete."""
        text, role = self._take_header(), self._role
        self._raw, self._role, self._state = [], None, ParserState.EXPECT_START
        if self._strict:
            if REPLACEMENT in text:
                raise HarmonyParseError("a header is not valid UTF-8")
            header = parse_strictly(text, role)
        else:
            header = parse_forgivingly(text, role, complete=True)
        return self._begin(header, text)

    def _begin(self, header: Header, text: str) -> Delta:
        self._header, self._header_text = header, text
        self._kind = kind_of(header.role, header.channel, header.recipient)
        self._state = ParserState.CONTENT
        return Delta(self._kind, "", header.recipient)

    def _close_header(self, problem: str) -> Delta | None:
        """A header ends without <|message|>: the text it ran into becomes the message's text."""
        text, role = self._take_header(), self._role
        pieces, self._raw, self._role = self._raw, [], None
        self._state = ParserState.EXPECT_START
        self._problem(problem)
        if not text:
            return None  # the next message tells of it
        header = parse_forgivingly(text, role, complete=False)
        at = len(text) - len(header.rest)
        self._begin(header, text[:at])
        for piece in pieces:
            if not isinstance(piece, _Name):
                self._text.append(piece[max(at, 0) :])
            at -= len(piece)
        delta = self._close()
        return delta._replace(text=self._messages[-1].text)

    def _close(self) -> Delta:
        """The message being read is finished."""
        tail = self._decoder.flush()
        self._text.append(tail)
        header = self._header
        message = Message(
            header.role,
            "".join(self._text),
            name=header.name,
            channel=header.channel,
            recipient=header.recipient,
            content_type=header.content_type,
            problems=(*self._problems, *header.problems),
            header=self._header_text,
        )
        self._messages.append(message)
        self._state, self._text, self._problems = ParserState.EXPECT_START, [], []
        return Delta(self._kind, tail, header.recipient, message)

    def _problem(self, problem: str) -> None:
        if problem not in self._problems:
            self._problems.append(problem)

    def _problem_of_last(self, problem: str) -> None:
        """Report what comes too late: on the last message, if there is one."""
        if not self._messages:
            self._problem(problem)
        elif problem not in self._messages[-1].problems:
            last = self._messages[-1]
            self._messages[-1] = replace(last, problems=(*last.problems, problem))
