"""What the path costs: an answer through three relays beside the same engine called directly.

Every node is a process of its own, as in life. All subjects answer the same prompt with the same
seed, in turn: a worker for free, one for credits that were bought before, and the engine. The
caller's clock is used for all, from the question to the piece in hand.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import trio

from inference import catalogue
from inference.engine import base
from inference.engine.base import (
    ChatMessage,
    Engine,
    Finished,
    Job,
    Loaded,
    Piece,
    Prepared,
    Prompt,
    Sampling,
)
from inference.protocol import nonce_of_seed
from scripts import parties, serving, settings
from scripts.api import client as control
from scripts.bench.report import Aim, Bench, Result, middle
from scripts.failure import Failed
from scripts.library import Library
from scripts.parties import Party, Plan

PROMPT: Final = "Write a short paragraph about moths and the silk they make."

TOKENS, RELAYS = 64, 3

ADDED_TTFT_MS, RATE_RATIO = 25.0, 0.95
"""The aims: milliseconds added to the first token, and share of the engine's own speed."""

ASKS: Final = 40
"""asks that are counted: a guard lets an unlisted link burst 50 circuits, then 10 a second"""

ASKERS, FAKES = 4, 3
"""Asks under way at once when they are counted, and workers to answer them: a worker makes no more
than 20 offers a second."""

FREE, PAID = "worker-1", "worker-2"
"""Those with the real model; the others cost nothing, in any sense."""

MODEL: Final = catalogue.builtin().base

PRICE: Final = "0.01"
"""TON for 1,000 tokens, of an answer and of a prompt: more than is usual, less than the cap."""

Subjects: TypeAlias = tuple["Round", "Round", "Round"]
"""One answer each: for free, for credits, and of the engine."""


@dataclass(slots=True)
class Round:
    """One answer as its caller saw it."""

    asked: float
    first: float | None = None
    last: float = 0.0
    pieces: list[str] = field(default_factory=list)
    tokens: int = 0

    def take(self, text: str) -> None:
        """Note a piece of text and when it came."""
        self.last = time.perf_counter()
        self.first = self.first or self.last
        self.pieces.append(text)

    @property
    def ttft_ms(self) -> float:
        """From the question to the first piece."""
        assert self.first is not None
        return (self.first - self.asked) * 1000.0

    @property
    def rate(self) -> float:
        """tokens/s between the first and the last piece."""
        assert self.first is not None
        return (self.tokens - 1) / (self.last - self.first)


def measure(quick: bool, say: Callable[[str], None]) -> Bench:
    """Run the benchmark; `say` gets a line of progress now and then."""
    rounds = 3 if quick else 9
    say(f"starting a chain, {RELAYS} relays, a mint, {2 + FAKES} workers and a client")
    with parties.running(_plan(), lambda line: say("  " + line)) as network:
        client = network.party("client")
        client.call("POST", "/credits/buy", {})
        ids = {name: _id(network.party(name)) for name in (FREE, PAID)}
        subjects = trio.run(_subjects, client, ids, rounds, say)
        say("counting asks with an engine that costs nothing")
        asks = _asks_per_second(client)
    return _bench(quick, subjects, asks)


def _plan() -> Plan:
    fake = 'worker.engine = "fake"\nworker.slots = 16\n'
    fakes = {f"worker-{number}": fake for number in range(3, 3 + FAKES)}
    paid = f'worker.price = "{PRICE}"\nworker.price_prompt = "{PRICE}"\n'
    config = {"client": fake, PAID: paid, **fakes}  # so the client knows the name `fake`
    return Plan(relays=RELAYS, workers=2 + FAKES, mints=1, config=config)


def _id(party: Party) -> str:
    node = party.call("GET", "/status")["node"]
    assert isinstance(node, Mapping)
    return str(node["id"])


def _bench(quick: bool, subjects: list[Subjects], asks: float) -> Bench:
    free, paid, direct = zip(*subjects, strict=True)
    added, added_paid = _added(free, direct), _added(paid, direct)
    ratio = middle([one.rate / other.rate for one, other in zip(free, direct, strict=True)])
    direct_ttft = middle([each.ttft_ms for each in direct])
    equal = all(len({"".join(each.pieces) for each in same}) == 1 for same in subjects)
    results = [
        _added_row("added_ttft_ms", added, direct_ttft),
        _added_row("added_ttft_ms_paid", added_paid, direct_ttft),
        Result(
            name="tokens_per_second",
            value=middle([each.rate for each in free]),
            unit="1/s",
            ratio=ratio,
            against="engine called directly",
        ),
        Result(name="asks_per_second", value=asks, unit="1/s"),
    ]
    aims = [
        Aim(name="added_ttft_ms", aim=f"<= {ADDED_TTFT_MS:g}", met=added <= ADDED_TTFT_MS),
        Aim(name="tokens_per_second", aim=f"ratio >= {RATE_RATIO:g}", met=ratio >= RATE_RATIO),
    ]
    answers = "the same text" if equal else "different texts: the comparison is void"
    notes = [
        f"all subjects gave {answers} in every round",
        "paid: credits are at hand; to set them aside, to have the mint lock them and to write all "
        "of it to disks is in the time",
    ]
    return Bench(
        bench="path", quick=quick, rounds=len(subjects), results=results, aims=aims, notes=notes
    )


def _added(through: Sequence[Round], direct: Sequence[Round]) -> float:
    """Milliseconds, the middle of all rounds."""
    pairs = zip(through, direct, strict=True)
    return middle([one.ttft_ms - other.ttft_ms for one, other in pairs])


def _added_row(name: str, added: float, direct: float) -> Result:
    return Result(
        name=name,
        value=added,
        unit="ms",
        ratio=round(added / direct, 3),
        against="time to first token of the engine called directly",
    )


async def _subjects(
    client: Party, workers: Mapping[str, str], rounds: int, say: Callable[[str], None]
) -> list[Subjects]:
    """The network twice and the engine, in turn, after one unmeasured answer of each."""
    subjects: list[Subjects] = []
    async with serving.opened(settings.Worker(), Library(client.home)) as (engine, _):
        loaded = await engine.load(base.Plan(context=2_048))
        if not isinstance(loaded, Loaded):
            raise Failed("failed", f"The engine did not load: {loaded.fault.name}.")
        for number in range(-1, rounds):
            free = await trio.to_thread.run_sync(_through, client, workers[FREE], number)
            paid = await trio.to_thread.run_sync(_through, client, workers[PAID], number)
            direct = await _direct(engine, number)
            if number >= 0:
                subjects.append((free, paid, direct))
                say(
                    f"round {number + 1}: first token {free.ttft_ms:.0f} ms through the path, "
                    f"{paid.ttft_ms:.0f} ms paid, {direct.ttft_ms:.0f} ms directly"
                )
    return subjects


def _through(client: Party, worker: str, seed: int) -> Round:
    question = control.question(PROMPT, model=MODEL, max_tokens=TOKENS)
    body = {**question, "seed": seed, "tussah": {"relays": RELAYS, "shaping": 0, "worker": worker}}
    began = Round(asked=time.perf_counter())
    document = control.ask(client.home.socket, body, began.take)
    usage = document["usage"]
    assert isinstance(usage, dict)
    began.tokens = int(usage["completion_tokens"])
    return began


async def _direct(engine: Engine, seed: int) -> Round:
    began = Round(asked=time.perf_counter())
    prepared = await engine.prepare(Prompt(messages=(ChatMessage(role="user", content=PROMPT),)))
    assert isinstance(prepared, Prepared)
    job = Job(
        id=seed + 2,
        tag=seed.to_bytes(16, "little", signed=True),
        tokens=prepared.tokens,
        max_tokens=TOKENS,
        sampling=Sampling(nonce=nonce_of_seed(seed)),
        stop=prepared.stop,
    )
    async with engine.generate(job) as events:
        async for event in events:
            match event:
                case Piece(text=text) if text:
                    began.take(text)
                case Finished(usage=usage):
                    began.tokens = usage.completion
                case _:
                    pass
    return began


def _asks_per_second(client: Party) -> float:
    """Asks of one token to an engine that costs nothing, `ASKERS` at once."""
    with ThreadPoolExecutor(ASKERS) as pool:
        began = time.monotonic()
        list(pool.map(lambda _: _ask_once(client), range(ASKS)))
        return round(ASKS / (time.monotonic() - began), 2)


def _ask_once(client: Party) -> None:
    body = control.question("Hello", model=serving.FAKE, relays=RELAYS, shaping=0, max_tokens=1)
    control.ask(client.home.socket, body, lambda text: None)
