"""What drafts and prompt chunks are worth, on made-up costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from motet import _core

StepCost = _core.sched.StepCost
Drafter = _core.sched.Drafter
PromptBudget = _core.sched.PromptBudget


def cost_of(base: float, each: float, sizes: Sequence[int] = (1, 2, 3, 5)) -> _core.sched.StepCost:
    cost = StepCost()
    for _ in range(20):
        for n in sizes:
            cost.observe(n, base + each * n)
    return cost


def decode(
    text: Sequence[int],
    prompt: Sequence[int],
    cost: _core.sched.StepCost,
    prediction: Sequence[int] = (),
) -> tuple[int, int]:
    """Generates `text`, whatever is proposed; the steps that took and the tokens proposed."""
    drafter = Drafter()
    drafter.expect(list(prediction))
    tokens = [*prompt, text[0]]  # a prompt's step gives the first one
    steps = proposed = 0
    while len(tokens) < len(prompt) + len(text):
        draft = drafter.propose(tokens, len(prompt), cost)
        left = text[len(tokens) - len(prompt) :]
        accepted = 0
        while accepted < min(len(draft), len(left) - 1) and draft[accepted] == left[accepted]:
            accepted += 1
        tokens += left[: accepted + 1]
        drafter.observe(len(draft), accepted)
        proposed += len(draft)
        steps += 1
    return steps, proposed


def test_step_cost_learns_a_line() -> None:
    cost = cost_of(0.1, 0.03)
    assert cost.seconds_per_token() == pytest.approx(0.03, rel=0.02)
    assert cost.seconds(8) == pytest.approx(0.34, rel=0.02)
    for _ in range(200):  # the machine got slower
        for n in (1, 4):
            cost.observe(n, 0.2 + 0.06 * n)
    assert cost.seconds(2) == pytest.approx(0.32, rel=0.02)


def test_one_size_of_step_leaves_what_is_usual() -> None:
    cost = cost_of(0.1, 0.0, sizes=(1,))
    assert cost.seconds_per_token() == pytest.approx(0.03, rel=0.01)


@pytest.fixture
def text() -> list[int]:
    return [int(i) for i in np.random.default_rng(0).integers(0, 200_000, 400)]


def test_a_replay_that_is_mostly_right_pays(text: list[int]) -> None:
    """80 % of the tokens right, a further token a quarter of a step's cost: 1.5 times and more."""
    rng = np.random.default_rng(1)
    replay = [t if rng.random() < 0.8 else 7 for t in text]
    base, each = 0.75, 0.25
    steps, proposed = decode(text, [1, 2, 3], cost_of(base, each), replay)
    spent = steps * (base + each) + proposed * each
    assert len(text) * (base + each) / spent > 1.5


def test_a_quotation_of_the_prompt_is_found(text: list[int]) -> None:
    prompt = [*text[100:200], 5, 6]
    answer = [9, *text[120:190], 9]
    steps, _ = decode(answer, prompt, cost_of(0.8, 0.2))
    assert steps < 25


@pytest.mark.parametrize("each", [0.0, 0.1, 0.3, 1.0])
def test_proposals_that_fail_end(text: list[int], each: float) -> None:
    """A prediction that never fits: its tries cost next to nothing in the long run."""
    wrong = [(t + 1) % 200_000 for t in text]
    base = 1 - each
    steps, proposed = decode(text, [1, 2, 3], cost_of(base, each), wrong)
    assert steps == len(text) - 1
    assert proposed * each / steps < 0.03


def test_unrelated_text_has_no_proposals(text: list[int]) -> None:
    assert decode(text, [1, 2, 3], cost_of(0.7, 0.3)) == (len(text) - 1, 0)


Seconds = Callable[[int, int], float]


@pytest.mark.parametrize(
    "seconds",
    [
        lambda generating, prompt: 0.1 + 0.01 * generating + 0.015 * prompt,
        # Experts are read as soon as one token needs them: the first tokens cost more than later.
        lambda generating, prompt: 0.1 + 0.3 * (1 - 0.88 ** (generating + prompt)) + 0.01 * prompt,
    ],
)
def test_prompts_fill_the_time_that_streams_leave(seconds: Seconds) -> None:
    decode_cost = StepCost()
    for _ in range(20):
        decode_cost.observe(2, seconds(2, 0))
    target = 3 * seconds(2, 0)
    budget = PromptBudget(target, 256)
    assert budget.tokens(0, decode_cost) == 256  # nobody waits
    times = []
    for _ in range(40):
        n = budget.tokens(2, decode_cost)
        times.append(seconds(2, n))
        budget.observe(2, n, times[-1], decode_cost)
    assert max(times) <= target
    assert np.mean(times[10:]) > 0.75 * target


def gaps(noise: Sequence[float]) -> tuple[list[float], list[int]]:
    """Times of steps beside two streams, of a target of 1, and their prompt tokens, when the
    machine takes `noise` times as long as it should."""
    decode_cost = StepCost()
    for _ in range(20):
        decode_cost.observe(2, 0.3)
    budget = PromptBudget(1.0, 1000)
    times, tokens = [], []
    for factor in noise:
        tokens.append(budget.tokens(2, decode_cost))
        times.append((0.3 + 0.002 * tokens[-1]) * factor)
        budget.observe(2, tokens[-1], times[-1], decode_cost)
    return times, tokens


@pytest.mark.parametrize("spread", [0.02, 0.1, 0.2])
def test_the_margin_follows_the_spread_of_step_times(spread: float) -> None:
    noise = np.exp(np.random.default_rng(2).normal(0, spread, 4000))
    times, tokens = gaps(noise.tolist())
    assert np.mean(np.array(times[:500]) > 1) < 0.03  # what is thought before may be wrong
    assert np.mean(np.array(times[500:]) > 1) <= 0.01
    # As many tokens as could be known to fit in 99 of 100 steps, nearly.
    ideal = (1 / np.exp(2.326 * spread) - 0.3) / 0.002
    assert np.mean(tokens[500:]) > 0.8 * ideal


def test_one_step_that_was_held_up_leaves_the_margin() -> None:
    noise = [1.0] * 700
    noise[300] = 5.0
    _, tokens = gaps(noise)
    assert tokens[299] >= 0.95 * 350  # nothing is wasted on a machine that keeps time
    assert tokens[330] >= 0.95 * tokens[299]
    noise[340] = 1.5  # more than one is its habit
    times, tokens = gaps(noise)
    assert max(times[341:540]) < 1 / 1.4
    assert tokens[699] >= 0.95 * 350  # till it is long ago


def test_without_a_target_prompts_take_whole_steps() -> None:
    assert PromptBudget(0, 256).tokens(5, StepCost()) == 256
