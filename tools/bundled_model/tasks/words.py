"""Puzzles on words and short lists; letters are numbered or counted in the analysis."""

from __future__ import annotations

import random

from conversation import Assistant, Conversation

WORDS = """
planet garden window silver monkey orange rabbit summer winter bridge castle dragon forest guitar
hammer island jacket kitten ladder market needle parrot pepper pillow pocket purple rocket saddle
school shadow spider spring station stream street string tomato travel tunnel turtle velvet violin
yellow bottle branch butter button camera candle carpet cheese cherry circle coffee copper cotton
danger desert dinner doctor donkey feather finger flower friend frozen ginger hello world apple
banana strawberry mississippi python music river stone table chair house mouse tiger zebra lemon
melon grape bread water light night cloud storm ocean beach sugar honey level radar letter balloon
"""
ASK_REVERSE = """
Reverse the word {}.
Reverse {}
Spell {} backwards.
Write the word {} backwards.
What is {} spelled backwards?
Can you reverse {}?
reverse the word {}
"""
ASK_LENGTH = """
How many letters are in {}?
How long is the word {}?
Count the letters in {}.
How many letters does {} have?
"""
ASK_COUNT = """
How many times does {} appear in {}?
How many {} are in {}?
Count the letter {} in {}.
How many times does the letter {} appear in the word {}?
How many {}'s are in the word {}?
"""
ASK_SORT = """
Sort these numbers: {}
Sort the list {}
Put these numbers in order: {}
Sort {} in ascending order.
Sort {}
Arrange {} from smallest to largest.
"""
ASK_EXTREME = """
What is the {} number in {}?
Find the {} of {}.
Which number is the {}: {}?
What is the {} of {}?
"""
QUOTES = ['"{}"', '"{}"', "'{}'", "{}"]


def some_word(rng: random.Random) -> str:
    """A listed word, or letters that no list has, so that spelling cannot be learnt by heart."""
    if rng.random() < 0.35:
        return rng.choice(WORDS.split())
    consonants, vowels = "bcdfghjklmnpqrstvwxyz", "aeiou"
    size = rng.randint(3, 9)
    return "".join(rng.choice(vowels if rng.random() < 0.4 else consonants) for _ in range(size))


def numbered(word: str) -> str:
    """1p2l3a4n5e6t"""
    return "".join(f"{i}{letter}" for i, letter in enumerate(word, 1))


def reverse(rng: random.Random) -> tuple[str, str, str, str]:
    word = some_word(rng)[:9]
    quoted = rng.choice(QUOTES).format(word)
    user = rng.choice(ASK_REVERSE.strip().splitlines()).format(quoted)
    pairs = list(enumerate(word, 1))
    backwards = "".join(f"{i}{letter}" for i, letter in reversed(pairs))
    return user, f"{numbered(word)}; {backwards}", word[::-1], word[::-1]


def length(rng: random.Random) -> tuple[str, str, str, str]:
    word = some_word(rng)[:9]
    quoted = rng.choice(QUOTES).format(word)
    user = rng.choice(ASK_LENGTH.strip().splitlines()).format(quoted)
    return user, numbered(word), f"{word} has {len(word)} letters.", str(len(word))


def count(rng: random.Random) -> tuple[str, str, str, str]:
    word = some_word(rng)
    letter = rng.choice(word) if rng.random() < 0.8 else rng.choice("abcdefghijklmnopqrstuvwxyz")
    if rng.random() < 0.3:
        word = "".join(letter if rng.random() < 0.3 else x for x in word)
    style = rng.choice(QUOTES)
    user = rng.choice(ASK_COUNT.strip().splitlines()).format(
        style.format(letter), style.format(word)
    )
    running, total = "", 0
    for x in word:
        total += x == letter
        running += f"{x}{total}"
    return (
        user,
        f"{letter}: {running}",
        f"The letter {letter} appears {total} times in {word}.",
        str(total),
    )


def some_list(rng: random.Random) -> list[int]:
    top = rng.choice([9, 20, 99, 99])
    return rng.sample(range(top + 1), rng.randint(3, 5))


def listed(rng: random.Random, numbers: list[int]) -> str:
    text = rng.choice([", ", ", ", ",", " "]).join(map(str, numbers))
    return f"[{text}]" if "," in text and rng.random() < 0.3 else text


def sort(rng: random.Random) -> tuple[str, str, str, str]:
    numbers = some_list(rng)
    user = rng.choice(ASK_SORT.strip().splitlines()).format(listed(rng, numbers))
    left, steps = list(numbers), []
    while left:
        steps.append(", ".join(f"{x:02d}" for x in left) + f": {min(left):02d}")
        left.remove(min(left))
    answer = ", ".join(map(str, sorted(numbers)))
    return user, "; ".join(steps), answer, answer


def extreme(rng: random.Random) -> tuple[str, str, str, str]:
    numbers = some_list(rng)
    biggest = rng.random() < 0.5
    adjective = rng.choice(
        ["largest", "biggest", "maximum", "greatest"] if biggest else ["smallest", "minimum"]
    )
    user = rng.choice(ASK_EXTREME.strip().splitlines()).format(adjective, listed(rng, numbers))
    best, steps = numbers[0], []
    for x in numbers:
        best = max(best, x) if biggest else min(best, x)
        steps.append(f"{x:02d}: {best:02d}")
    kind = "max" if biggest else "min"
    answer = max(numbers) if biggest else min(numbers)
    return user, f"{kind} {', '.join(steps)}", f"The {adjective} number is {answer}.", str(answer)


PUZZLES = {"reverse": reverse, "length": length, "count": count, "sort": sort, "extreme": extreme}


def generate(rng: random.Random, kind: str, effort: str) -> Conversation:
    """One puzzle of the named kind."""
    user, analysis, final, expected = PUZZLES[kind](rng)
    if effort == "high":
        analysis = f"{analysis}. Check: {analysis}"
    elif effort == "low" and kind in ("extreme",):
        analysis = ""
    return Conversation(
        task=kind,
        key=user,
        user=user,
        turns=[Assistant(analysis, final)],
        expected=expected,
        effort=effort,
    )
