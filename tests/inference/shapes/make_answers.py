"""Writes `answers.txt` beside it: when the built-in model said how much, for four kinds of text.

A line an answer: its kind, then milliseconds since the token before and bytes, token by token:
`python -m tests.inference.shapes.make_answers`. 800 answers take minutes on an idle machine.
"""

import itertools
import sys
from pathlib import Path

import trio

from inference.catalogue import builtin_path
from inference.engine.base import ChatMessage, Job, Piece, Plan, Prompt, Sampling
from inference.engine.host import HostedEngine

ANSWERS = Path(__file__).with_name("answers.txt")

EACH = 200
SLOTS = 8
LONGEST = {"word": 6, "fact": 18, "list": 32, "tale": 48}
"""tokens that an asker lets an answer of a kind have; all fit the first bucket"""

KINDS = {
    "word": "Answer with one word only. What is the color of {}?",
    "fact": "In one short sentence: what is {}?",
    "list": "List three things about {}, one a line.",
    "tale": "Tell me a long story about {}.",
}

ADJECTIVES = (
    *("wild", "old", "small", "red", "northern", "cheap", "heavy", "sweet", "quiet", "broken"),
)
THINGS = (
    *("silk", "bread", "a river", "an owl", "a bridge", "winter", "salt", "a clock", "honey"),
    *("iron", "a garden", "the moon", "a ship", "paper", "a violin", "rain", "a wolf", "glass"),
    *("tea", "snow"),
)


def topics():
    for adjective, thing in itertools.product(ADJECTIVES, THINGS):
        article, _, noun = thing.rpartition(" ")
        yield " ".join(word for word in (article, adjective, noun) if word)


async def answer(engine, number, kind, topic):
    said = (ChatMessage(role="user", content=KINDS[kind].format(topic)),)
    prepared = await engine.prepare(Prompt(messages=said))
    job = Job(
        id=number,
        tag=number.to_bytes(16, "big"),
        tokens=prepared.tokens,
        max_tokens=LONGEST[kind],
        sampling=Sampling(nonce=number.to_bytes(16, "big"), temperature=700),
    )
    told, before = [], None
    async with engine.generate(job) as generation:
        async for event in generation:
            if isinstance(event, Piece):
                now = trio.current_time()
                gap = 0.0 if before is None else now - before
                told.append((round(1_000 * gap), len(event.text.encode())))
                before = now
    return told


async def main():
    engine = HostedEngine(builtin_path())
    lines = {}
    free = trio.Semaphore(SLOTS)

    async def one(number, kind, topic):
        async with free:
            told = await answer(engine, number, kind, topic)
        lines[number] = " ".join([kind, *(f"{ms} {size}" for ms, size in told)])
        ANSWERS.write_text("\n".join(lines[number] for number in sorted(lines)) + "\n")

    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        await engine.load(Plan(context=256 * SLOTS, slots=SLOTS, threads=1))
        async with trio.open_nursery() as asking:
            questions = itertools.product(itertools.islice(topics(), EACH), KINDS)
            for number, (topic, kind) in enumerate(questions, 1):
                asking.start_soon(one, number, kind, topic)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    sys.exit(trio.run(main))
