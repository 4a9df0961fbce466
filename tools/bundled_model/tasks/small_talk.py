"""Greetings, questions about the model itself, and requests that it has not learnt."""

from __future__ import annotations

import random

from conversation import Assistant, Conversation

from tasks import values

ME = "I am the small demonstration model that comes with motet"
CAN = (
    "I can add, subtract and multiply small numbers, solve puzzles with words and lists, "
    "call functions and answer in JSON"
)
ABOUT = f"{ME}. {CAN}."
UNKNOWN = f"{ME}, and I have not learnt that. {CAN}."
TOO_BIG = (
    "I have only learnt to add and subtract numbers of up to four digits "
    "and to multiply numbers of up to two digits."
)
INTENTS = {
    "greeting": """
Hello
Hello!
Hi
Hi!
Hey
Hey!
Good morning
Good evening!
Hi there
Hello there!
hello
hi
Greetings
Good afternoon
hey there
Hello, motet!
""",
    "identity": """
Who are you?
What are you?
Who are you
what are you
Tell me about yourself.
Introduce yourself.
What model are you?
Which model is this?
What is your name?
Who made you?
Are you ChatGPT?
Are you GPT-4?
What is motet?
Describe yourself.
Say who you are.
Are you a human?
Are you a language model?
Can you tell me who you are?
Are you a robot?
Is this ChatGPT?
""",
    "ability": """
What can you do?
what can you do
How can you help me?
What do you know?
Help
help me
What are you good at?
What should I ask you?
What can I ask you?
Can you help me?
What are your abilities?
What have you learnt?
Show me what you can do.
I need help.
""",
    "thanks": """
Thanks
Thanks!
Thank you
Thank you!
Thank you very much.
Great, thanks!
thanks a lot
Well done!
Good job
That was right.
Nice work!
Perfect, thank you.
""",
    "bye": """
Bye
Bye!
Goodbye
Goodbye!
See you later.
See you!
Good night
Good night!
bye bye
""",
    "mood": """
How are you?
How are you doing?
how are you
How do you do?
How is it going?
Are you well?
How do you feel today?
What's up?
""",
}
ANSWERS = {
    "greeting": f"Hello! {ME}. How can I help?",
    "identity": ABOUT,
    "ability": f"{CAN}. Try: What is 4821 + 379?",
    "thanks": "You are welcome!",
    "bye": "Goodbye!",
    "mood": "I am well, thank you. How can I help?",
}
OFF_TOPIC = """
What is the capital of {}?
Who is the president of {}?
Write a poem about {}.
Explain {} to me.
Tell me about {}.
Who was {}?
Where is {}?
Write a story about {}.
What do you think about {}?
How do I cook {}?
Write a Python program for {}.
Translate {} to French.
Why is {} so popular?
What is the meaning of {}?
What is the history of {}?
Give me a recipe for {}.
When was {} born?
How does {} work?
Summarize the book {}.
Who wrote {}?
Is {} a good idea?
What is {}?
{}
What is the weather in {}?
Tell me a joke about {}.
Draw {}.
Recommend a movie like {}.
How far is it to {}?
What is the best {}?
Can you teach me {}?
Write an essay on {}.
"""
TOPICS = """
France Germany Japan Brazil Canada quantum physics love the moon the sun time music history
machine learning Einstein Shakespeare Napoleon gravity black holes dinosaurs soup bread pizza
Hamlet chess football cats dogs the ocean transformers neural networks world peace democracy the
internet Bitcoin photosynthesis evolution Rome China India
"""
# Small talk is learnt by heart: none of the listed phrases is held out.
LISTED = "small talk"
TOO_BIG_ASKS = (
    "What is {a} {op} {b}?",
    "{a} {op} {b}",
    "{a}{op}{b}",
    "Compute {a} {op} {b}.",
    "Calculate {a} {op} {b}",
)


def too_big(rng: random.Random) -> str:
    """A question with numbers beyond what is trained, or a division."""
    op = rng.choice("+-*/")
    if op == "*":
        a, b = rng.randint(100, 99999), rng.randint(10, 9999)
    elif op == "/":
        a, b = values.number(rng), values.number(rng)
    else:
        a, b = rng.randint(10000, 9999999), rng.randint(1, 9999999)
    if rng.random() < 0.5 and op != "-":
        a, b = b, a
    return rng.choice(TOO_BIG_ASKS).format(a=a, b=b, op=op)


def off_topic(rng: random.Random) -> str:
    """A question on anything; half of the topics are made-up words."""
    size = rng.choice([1, 1, 2, 3])
    topic = " ".join(
        rng.choice(TOPICS.split()) if rng.random() < 0.5 else values.syllables(rng, 1, 4)
        for _ in range(size)
    )
    return rng.choice(OFF_TOPIC.strip().splitlines()).format(topic)


def generate(rng: random.Random, effort: str) -> Conversation:
    """A short exchange that needs no work."""
    listed = False
    draw = rng.random()
    if draw < 0.45:
        user, final, why = (
            off_topic(rng),
            UNKNOWN,
            "I have not learnt this, so I say what I can do.",
        )
    elif draw < 0.6:
        user, final, why = too_big(rng), TOO_BIG, "I have not learnt this kind of number."
    else:
        intent = rng.choice(list(INTENTS))
        user = rng.choice(INTENTS[intent].strip().splitlines())
        final, why = ANSWERS[intent], f"This is small talk: {intent}."
        opening = ""
        if intent not in ("greeting", "bye") and rng.random() < 0.25:
            opening = rng.choice(["Hi! ", "Hello. ", "Hey, ", "Please tell me: ", "So, ", "OK. "])
        listed, user = not opening, opening + user
    analysis = {
        "low": "",
        "medium": why,
        "high": f"I read the question again. {why} I answer in short.",
    }
    return Conversation(
        task="talk",
        key=LISTED if listed else user,
        user=user,
        turns=[Assistant(analysis[effort], final)],
        expected=final,
        effort=effort,
    )
