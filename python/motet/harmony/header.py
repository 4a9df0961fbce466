"""The header of a message: what stands between <|start|> and <|message|>.

Headers are parsed as text in which special tokens appear by name, e.g.
`assistant<|channel|>commentary to=functions.f <|constrain|>json`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from motet.errors import MotetError
from motet.harmony.messages import DEFAULT_CHANNELS, FUNCTIONS, ROLES, Role

_CHANNEL, _CONSTRAIN = "<|channel|>", "<|constrain|>"
_CHANNELS = "|".join(DEFAULT_CHANNELS)


class HarmonyParseError(MotetError, ValueError):
    """Output that is not well-formed harmony; only a strict parser raises it."""


@dataclass(slots=True)
class Header:
    """A parsed header. `rest` is the end of its text that belongs to no field."""

    role: Role = "assistant"
    name: str | None = None
    channel: str | None = None
    recipient: str | None = None
    content_type: str | None = None
    problems: list[str] = field(default_factory=list)
    rest: str = ""


def parse_strictly(text: str, role: Role | None) -> Header:
    """The header's fields as the published parser reads them; HarmonyParseError where that fails.

    `role` is the author's role where the header has none, after a prompt that ends in it.
    """
    header = Header()
    before, marker, after = text.partition(_CHANNEL)
    if marker:
        value = re.match(r"[^\s<]*", after)
        header.channel = value[0] if value else ""
        if not header.channel:
            raise HarmonyParseError("a header has <|channel|> without a channel's name")
        after = after[len(header.channel) :]
    words = (before + after).replace(_CONSTRAIN, f" {_CONSTRAIN}").split()
    if role is not None:
        header.role = role
        words = words[1:] if words[:1] == [role] else words
    elif not words:
        raise HarmonyParseError("a header has no role")
    else:
        author = words.pop(0)
        roles = [known for known in ROLES if known == author]
        if roles and author != "tool":
            header.role = roles[0]
        elif roles or words or author.startswith("to="):
            header.role, header.name = "tool", author
        else:
            raise HarmonyParseError(f"a header has the unknown role {author!r}")
    if words:
        last = words.pop()
        if words and not last.startswith("to="):
            header.content_type = last
            last = words.pop()
        header.recipient = last.removeprefix("to=")
    if words:
        raise HarmonyParseError(f"a header has {words[0]!r}, which belongs to no field")
    return header


_AUTHOR = re.compile(r"\s*([^\s<]*)")
_TOOL = re.compile(r"python|browser|[\w-]+(\.[\w-]+)+")
_CONTENT_TYPE = re.compile(r"[\w./+-]+")
# What may follow the author, tried in this order at each place. `call` is a recipient that lacks
# its "to=", `bare` the name of a channel without its marker.
_FIELDS = re.compile(
    rf"""(?P<space>\s+)
    | {re.escape(_CHANNEL)} \s* (?P<channel>(?:{_CHANNELS})(?=to=) | [\w-]*)
    | to= \s* (?P<recipient>[^\s<{{]+)
    | {re.escape(_CONSTRAIN)} \s* (?P<constrain>[\w./+-]*)
    | (?P<call>{FUNCTIONS}\.[^\s<{{]+)
    | (?P<bare>{_CHANNELS}) (?=to=|\s*<|\s+to=|\s*$)
    | (?P<kind>json|code) (?![\w])
    | (?P<role>{"|".join(ROLES)}) (?=\s|<|$)
    | (?P<word>[^\s<]+ | .)
    """,
    re.VERBOSE | re.DOTALL,
)


def parse_forgivingly(text: str, role: Role | None, *, complete: bool) -> Header:
    """The header's fields as far as they can be made out; what is wrong goes into `problems`.

    `complete` says that <|message|> followed. Where it is missing, the message's text has run into
    the header: everything from the first thing that can't be a field is `rest`.
    """
    header = Header()
    at = _author(text, role, header, complete)
    unexpected: list[str] = []
    while at < len(text):
        match = _FIELDS.match(text, at)
        if match is None:  # the last alternative takes any character
            break
        if not _accept(match, header, complete):
            if not complete:
                header.rest = text[at:]
                return header
            unexpected.append(match[0])
        at = match.end()
    if unexpected:
        header.problems.append(f"unexpected {' '.join(unexpected)[:80]!r} in the header")
    if header.channel is not None and header.channel not in DEFAULT_CHANNELS:
        header.problems.append(f"unknown channel {header.channel!r}")
    return header


def _author(text: str, role: Role | None, header: Header, complete: bool) -> int:
    """Reads who wrote the message; returns where the other fields start."""
    match = _AUTHOR.match(text)
    word = match[1] if match else ""
    end = match.end() if match else 0
    if role is not None:
        header.role = role
        if word == role and (complete or end < len(text)):
            header.problems.append("the role stands twice")
            return end
        return 0
    head, _, name = word.partition(":")
    known = next((known for known in ROLES if known == head), None)
    if known is not None:
        header.role, header.name = known, name or None
        return end
    if complete and _TOOL.fullmatch(word):
        header.role, header.name = "tool", word
        return end
    known = next((known for known in ROLES if word.startswith(known)), None)
    if known is not None:  # "assistantanalysis": what follows the role was to be something else
        header.role = known
        header.problems.append(f"unknown role {word!r}")
        return end - len(word) + len(known)
    header.problems.append(f"unknown role {word!r}" if word else "no role")
    return end if complete else end - len(word)


def _accept(match: re.Match[str], header: Header, complete: bool) -> bool:
    """Stores one field; False when it can't be one here."""
    kind, value = str(match.lastgroup), match[str(match.lastgroup)]
    problem = ""
    if kind == "channel":
        if not value:
            problem = "no name after <|channel|>"
        elif header.channel is not None:
            problem = f"a second channel after {header.channel!r}"
        header.channel = value or header.channel
    elif kind == "bare":
        if header.channel is not None or not complete:
            return False
        problem = f"no <|channel|> before {value!r}"
        header.channel = value
    elif kind in ("recipient", "call"):
        if kind == "call":
            problem = f"no 'to=' before {value!r}"
        elif header.recipient is not None:
            problem = f"a second recipient after {header.recipient!r}"
        header.recipient = value
    elif kind == "constrain":
        if header.content_type is not None:
            problem = f"a second content type after {header.content_type!r}"
        header.content_type = _CONSTRAIN + value
    elif kind in ("kind", "word"):
        # Without <|message|> it may be the text's first word; without channel or recipient, too.
        placed = header.recipient or (complete and header.channel)
        if header.content_type is not None or not placed:
            return False
        if kind == "word" and not (complete and _CONTENT_TYPE.fullmatch(value)):
            return False
        header.content_type = value
    elif kind == "role":
        if not complete:
            return False
        problem = f"the role {value!r} stands in the middle of the header"
    if problem:
        header.problems.append(problem)
    return True
