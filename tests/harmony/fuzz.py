"""Fuzzes the forgiving parser: `python -m tests.harmony.fuzz --streams 1000000`.

Streams are random tokens, and rendered conversations with tokens deleted, doubled, swapped,
replaced, inserted or cut off. For each: no exception; no text lost or invented (found again without
the parser, see `plain_text`); the deltas of a message are its text; what breaks the format is
reported, and what keeps it is not.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections import Counter
from collections.abc import Iterator

from motet.harmony import Message, StreamParser, render_conversation
from tests.harmony.toy import ToyTokenizer

TOY = ToyTokenizer()
_SPECIAL = {i: name for name, i in TOY.special_tokens.items()}
_HARMONY = [TOY.special_tokens[f"<|{n}|>"] for n in ("start", "channel", "message", "end", "call")]
_OUTSIDE = [-1, 50, 10**6, 2**70]
_CLASS = {
    "<|start|>": "S",
    "<|message|>": "M",
    "<|channel|>": "C",
    "<|constrain|>": "K",
    "<|end|>": "E",
    "<|call|>": "E",
    "<|return|>": "E",
}
_WELL_FORMED = re.compile(r"(S[tCK]*Mt*E)*(S[tCK]*Mt*)?")


def streams(rng: random.Random, count: int) -> Iterator[tuple[str, bool, list[int]]]:
    """Kind of stream, whether the prompt ended in the assistant's <|start|>, and ids."""
    for _ in range(count):
        kind = rng.choices(("random", "mutated", "valid"), (3, 6, 1))[0]
        opened = rng.random() < 0.6
        if kind == "random":
            yield kind, opened, [_any_token(rng) for _ in range(rng.randint(0, 16))]
            continue
        ids = render_conversation(TOY, _conversation(rng, opened), auto_drop_analysis=False)
        if opened:
            ids = ids[1 + len(TOY.encode("assistant")) :]
        if kind == "mutated":
            for _ in range(rng.randint(1, 4)):
                _mutate(rng, ids)
        yield kind, opened, ids


def _any_token(rng: random.Random) -> int:
    chance = rng.random()
    if chance < 0.4:
        return rng.choice(_HARMONY)
    if chance < 0.75:
        return rng.choice(TOY.words)
    if chance < 0.93:
        return rng.choice(TOY.text_tokens)
    return rng.choice([*_SPECIAL, *_OUTSIDE])


def _conversation(rng: random.Random, opened: bool) -> list[Message]:
    """A few messages as models write them; the first by the assistant if the prompt `opened` it."""
    out = []
    for index in range(rng.randint(1, 3)):
        text = rng.choice(["", "hi", "x there é日😀", '{"a": 1}', "hi\n there"])
        kind = rng.randint(0, 4) if not (opened and index == 0) else rng.randint(0, 2)
        if kind == 0:
            out.append(Message("assistant", text, channel=rng.choice(["analysis", "final"])))
        elif kind == 1:
            out.append(Message("assistant", text, channel="commentary"))
        elif kind == 2:
            form = rng.choice(["<|constrain|>json", "json", "code", None])
            recipient = rng.choice(["functions.f", "browser.search", "python"])
            message = Message(
                "assistant", text, channel="commentary", recipient=recipient, content_type=form
            )
            out.append(message)
        elif kind == 3:
            out.append(Message("tool", text, name="functions.f", recipient="assistant"))
        else:
            out.append(Message("user", text, name=rng.choice([None, "bob"])))
    return out


def _mutate(rng: random.Random, ids: list[int]) -> None:
    if not ids:
        return
    at, action = rng.randrange(len(ids)), rng.randint(0, 5)
    if action == 0:
        del ids[at]
    elif action == 1:
        ids.insert(at, ids[at])
    elif action == 2:
        other = rng.randrange(len(ids))
        ids[at], ids[other] = ids[other], ids[at]
    elif action == 3:
        ids[at] = _any_token(rng)
    elif action == 4:
        ids.insert(at, _any_token(rng))
    else:
        del ids[at:]


def plain_text(ids: list[int]) -> str:
    """All ordinary text of a stream: runs between special tokens, decoded each by itself."""
    texts, run = [], bytearray()
    for token in ids:
        if token in _SPECIAL:
            texts.append(run.decode("utf-8", "replace"))
            run.clear()
        elif token not in _OUTSIDE:
            run += TOY.token_bytes(token)
    return "".join(texts) + run.decode("utf-8", "replace")


def check(opened: bool, ids: list[int]) -> list[Message]:
    """Parse a stream and assert all that must hold; the messages."""
    parser = StreamParser(TOY, "assistant" if opened else None)
    pieces: list[str] = []
    finished = 0
    for token in [*ids, None]:
        delta = parser.finish() if token is None else parser.process(token)
        if delta is not None:
            pieces.append(delta.text)
            if delta.message is not None:
                finished += 1
                assert "".join(pieces) == delta.message.text, "deltas differ from the message"
                pieces.clear()
    messages = parser.messages
    assert finished == len(messages), "a message without its delta"
    headers = [re.sub(r"<\|(channel|constrain)\|>", "", message.header) for message in messages]
    found = "".join(h + m.text for h, m in zip(headers, messages, strict=True))
    assert found == plain_text(ids), f"text lost or invented: {found!r}"
    reported = parser.problems or any(message.problems for message in messages)
    classes = "".join(
        _CLASS.get(_SPECIAL[token], "x") if token in _SPECIAL else "x" if token in _OUTSIDE else "t"
        for token in ids
    )
    whole = ("S" if opened and classes else "") + classes
    assert reported or _WELL_FORMED.fullmatch(whole), "a breach of the format is not reported"
    return messages


def run(count: int, seed: int) -> Counter[str]:
    """Check `count` streams; statistics. AssertionError or any other error tells the stream."""
    counts: Counter[str] = Counter()
    for kind, opened, ids in streams(random.Random(seed), count):
        try:
            messages = check(opened, ids)
            clean = not any(message.problems for message in messages)
            assert kind != "valid" or clean, "a valid stream is reported as broken"
        except Exception as error:
            error.add_note(f"seed {seed}, opened {opened}, stream {ids}")
            raise
        counts[kind] += 1
        counts["tokens"] += len(ids)
        counts["messages"] += len(messages)
        counts["with problems"] += not clean
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description="Fuzz the harmony parser.")
    parser.add_argument("--streams", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    start = time.process_time()
    counts = run(arguments.streams, arguments.seed)
    seconds = time.process_time() - start
    print(f"{arguments.streams} streams in {seconds:.0f} CPU seconds: no exception, no text lost")
    print(", ".join(f"{name} {count}" for name, count in counts.items()))


if __name__ == "__main__":
    main()
