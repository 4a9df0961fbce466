"""Made-up names and other values; most are random, so that the model copies and not remembers."""

from __future__ import annotations

import random

NAMES = """
Anna Ben Carl Diana Emma Frank Grace Hugo Iris Jack Kate Leo Mia Nora Oscar Paul Rosa Sam Tina
Victor Wendy Yusuf Zoe Alice Bob Clara David Elena Felix
"""
CITIES = """
Paris London Berlin Madrid Rome Vienna Tokyo Lisbon Oslo Dublin Prague Warsaw Athens Cairo Lima
Delhi Seoul Boston Chicago Denver Sydney Toronto Geneva Zurich Munich Milan Kyoto Austin
"""
COLORS = """
red blue green yellow black white orange purple brown pink
"""
ITEMS = """
lamp chair table pen notebook phone bag cup shirt hat clock desk bike ring cake knife mirror towel
blanket radio camera kettle basket bottle
"""
JOBS = """
teacher doctor nurse baker pilot farmer lawyer painter driver cook
"""


def syllables(rng: random.Random, least: int = 1, most: int = 3) -> str:
    """A pronounceable made-up word."""
    word = ""
    for _ in range(rng.randint(least, most)):
        word += rng.choice("bdfgklmnprstvz") + rng.choice("aeiou")
        word += rng.choice(["", "", "n", "r", "s", "l", "t"])
    return word


def name(rng: random.Random) -> str:
    return rng.choice(NAMES.split()) if rng.random() < 0.8 else syllables(rng, 1, 2).capitalize()


def city(rng: random.Random) -> str:
    return rng.choice(CITIES.split()) if rng.random() < 0.8 else syllables(rng, 2, 2).capitalize()


def item(rng: random.Random) -> str:
    return rng.choice(ITEMS.split()) if rng.random() < 0.8 else syllables(rng, 1, 2)


def number(rng: random.Random) -> int:
    return rng.randint(1, 10 ** rng.choice([1, 2, 2, 3]) - 1)
