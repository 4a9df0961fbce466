"""Addition, subtraction and two-digit multiplication, worked out column by column in the analysis.

Every step is a copy or a one-digit table look-up at a fixed distance, which a very small model can
do without errors: numbers are padded to four digits, columns run from the ones upwards and name
both digits and the carry (or borrow).
    4821+0379: 1+9+0=10, 2+7+1=10, 8+3+1=12, 4+0+1=05. 05200
"""

from __future__ import annotations

import random

from conversation import Assistant, Conversation

NAMES = {"+": "add", "-": "sub", "*": "mul"}
PHRASES = {
    "+": """
What is {a} + {b}?
What is {a}+{b}?
{a} + {b}
{a}+{b}
{a} + {b} = ?
{a}+{b}=
Add {a} and {b}.
add {a} to {b}
Compute {a} + {b}.
Calculate {a} + {b}
What's {a} plus {b}?
what is {a} plus {b}
Please add {a} and {b}.
Find the sum of {a} and {b}.
How much is {a} + {b}?
What is the sum of {a} and {b}?
Can you work out {a} + {b} for me?
Tell me what {a} + {b} is.
""",
    "-": """
What is {a} - {b}?
What is {a}-{b}?
{a} - {b}
{a}-{b}
{a} - {b} = ?
{a}-{b}=
Subtract {b} from {a}.
Take {b} away from {a}.
Compute {a} - {b}.
Calculate {a} - {b}
What's {a} minus {b}?
what is {a} minus {b}
Please subtract {b} from {a}.
How much is {a} - {b}?
What is the difference {a} - {b}?
Can you work out {a} - {b} for me?
Tell me what {a} - {b} is.
""",
    "*": """
What is {a} * {b}?
What is {a}*{b}?
{a} * {b}
{a}*{b}
{a} * {b} = ?
{a} x {b}
{a}x{b}
Multiply {a} by {b}.
Multiply {a} and {b}
Compute {a} * {b}.
Calculate {a} * {b}
What's {a} times {b}?
what is {a} times {b}
How much is {a} x {b}?
What is {a} \u00d7 {b}?
What is the product of {a} and {b}?
Can you work out {a} * {b} for me?
Find {a} times {b}.
""",
}
STORIES = {
    "+": """
Tom has {a} {things} and gets {b} more. How many {things} does he have now?
There are {a} {things} in one box and {b} in another. How many {things} are there in total?
A shop sold {a} {things} on Monday and {b} on Tuesday. How many did it sell altogether?
""",
    "-": """
Tom has {a} {things} and gives away {b}. How many {things} are left?
A shop had {a} {things} and sold {b}. How many {things} remain?
There were {a} {things} and {b} were lost. How many are left?
""",
    "*": """
There are {a} boxes with {b} {things} each. How many {things} are there in total?
A shop sells {a} bags of {b} {things}. How many {things} is that?
Tom buys {a} packs of {b} {things} each. How many {things} does he have?
""",
}
THINGS = "apples books coins cards stamps pencils marbles cookies tickets shells"


def column_sum(a: int, b: int, op: str, brief: bool) -> tuple[str, str]:
    """(the columns, carry or borrow and then their digits) of a+b or a-b, each padded to four.

    Brief: no columns beyond the longer number. All else is as without, so that both are one skill.
    """
    carry, steps, digits = 0, [], ""
    for place in range(len(str(max(a, b))) if brief else 4):
        x, y = a // 10**place % 10, b // 10**place % 10
        total = x + y + carry if op == "+" else x - y - carry
        before, carry, digit = carry, int(total > 9 or total < 0), total % 10
        steps.append(f"{x}{op}{y}{op}{before}={carry}{digit}")
        digits = f"{digit}{digits}"
    return f"{a:04d}{op}{b:04d}: " + ", ".join(steps), f"{carry}{digits}"


def sum_analysis(a: int, b: int, op: str, brief: bool) -> str:
    """The scratchpad of a sum or difference; a borrow left over means a negative result."""
    text, result = column_sum(a, b, op, brief)
    if op == "-" and result[0] == "1":
        swapped, result = column_sum(b, a, op, brief)
        return f"{text}. Negative. {swapped}. -{result}"
    return f"{text}. {result}"


def product_analysis(a: int, b: int, brief: bool) -> str:
    """The scratchpad of a product: one row for each digit of b, then the sum of both rows."""
    rows, steps = [], []
    for place in range(2):
        y = b // 10**place % 10
        low, high = a % 10 * y, a // 10 * y
        carried = high + low // 10
        steps.append(f"{a % 10}*{y}={low:02d}, {a // 10}*{y}={high:02d}+{low // 10}={carried:02d}")
        rows.append((carried * 10 + low % 10) * 10**place)
    return f"{a:02d}*{b:02d}: {'; '.join(steps)}; {sum_analysis(rows[0], rows[1], '+', brief)}"


def value(a: int, b: int, op: str) -> int:
    """The right answer."""
    return a + b if op == "+" else a - b if op == "-" else a * b


def analysis(a: int, b: int, op: str, effort: str) -> str:
    """Short at low effort, with a second computation as a check at high effort."""
    brief = effort == "low"
    text = product_analysis(a, b, brief) if op == "*" else sum_analysis(a, b, op, brief)
    if effort != "high":
        return text
    if op == "*":
        return f"{text}. Check: {product_analysis(b, a, False)}"
    if op == "+":
        return f"{text}. Check: {sum_analysis(b, a, '+', False)}"
    low, high = min(a, b), max(a, b)
    return f"{text}. Check: {sum_analysis(high - low, low, '+', False)}"


def operands(rng: random.Random, op: str) -> tuple[int, int]:
    """Both operands; their numbers of digits are drawn first, so that short ones are not rare."""
    if op == "*":
        if rng.random() < 0.12:
            return rng.randint(0, 99), rng.randint(0, 9)
        return rng.randint(10, 99), rng.randint(10, 99)
    sizes = [rng.choice([1, 2, 2, 3, 3, 3, 4, 4, 4, 4]) for _ in range(2)]
    a, b = (rng.randint(10 ** (n - 1) if n > 1 else 0, 10**n - 1) for n in sizes)
    if op == "-" and a < b and rng.random() < 0.7:
        a, b = b, a
    if op == "-" and rng.random() < 0.04:
        b = max(0, a - rng.randint(0, 12))
    return a, b


def generate(rng: random.Random, op: str, effort: str) -> Conversation:
    """One arithmetic question; its key is the operation and the operands, whatever the phrasing."""
    a, b = operands(rng, op)
    story = rng.random() < 0.12 and (op != "-" or a >= b)
    template = rng.choice((STORIES if story else PHRASES)[op].strip().splitlines())
    user = template.format(a=a, b=b, things=rng.choice(THINGS.split()))
    if "add {a} to" in template:
        a, b = b, a
    first, second = sorted((a, b)) if op != "-" else (a, b)
    answer = value(a, b, op)
    return Conversation(
        task=NAMES[op],
        key=f"{first}{op}{second}",
        user=user,
        turns=[Assistant(analysis(a, b, op, effort), f"{a} {op} {b} = {answer}")],
        expected=str(answer),
        effort=effort,
    )
