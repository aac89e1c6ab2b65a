"""What the path costs: an answer through three relays beside the same engine called directly.

Every node is a process of its own, as in life. Both subjects answer the same prompt with the same
seed, in turn; the caller's clock is used for both, from the question to the piece in hand.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import trio

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
from scripts.parties import Party, Plan

PROMPT: Final = "Write a short paragraph about moths and the silk they make."

TOKENS, RELAYS = 64, 3

ADDED_TTFT_MS, RATE_RATIO = 25.0, 0.95
"""The aims: milliseconds added to the first token, and share of the engine's own speed."""

ASKS: Final = 40
"""asks that are counted: a guard lets an unlisted link burst 50 circuits, then 10 a second"""

ASKERS, FAKES = 4, 4
"""Asks under way at once when they are counted, and workers to answer them: a worker makes no more
than 20 offers a second."""


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
    say(f"starting {RELAYS} relays, a worker and a client")
    with parties.running(Plan(relays=RELAYS, workers=1), lambda line: say("  " + line)) as network:
        pairs = trio.run(_pairs, network.party("client"), rounds, say)
    say("counting asks with an engine that costs nothing")
    asks = _asks_per_second()
    return _bench(quick, pairs, asks)


def _bench(quick: bool, pairs: list[tuple[Round, Round]], asks: float) -> Bench:
    added = middle([through.ttft_ms - direct.ttft_ms for through, direct in pairs])
    ratio = middle([through.rate / direct.rate for through, direct in pairs])
    direct_ttft = middle([direct.ttft_ms for _, direct in pairs])
    equal = all("".join(a.pieces) == "".join(b.pieces) for a, b in pairs)
    results = [
        Result(
            name="added_ttft_ms",
            value=added,
            unit="ms",
            ratio=round(added / direct_ttft, 3),
            against="time to first token of the engine called directly",
        ),
        Result(
            name="tokens_per_second",
            value=middle([through.rate for through, _ in pairs]),
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
        f"both subjects gave {answers} in every round",
        "added_ttft_ms_paid is left out: this version answers for free",
    ]
    return Bench(
        bench="path", quick=quick, rounds=len(pairs), results=results, aims=aims, notes=notes
    )


async def _pairs(
    client: Party, rounds: int, say: Callable[[str], None]
) -> list[tuple[Round, Round]]:
    """The network and the engine, in turn, after one unmeasured answer of each."""
    pairs = []
    async with serving.opened(settings.Worker()) as (engine, _):
        loaded = await engine.load(base.Plan(context=2_048))
        if not isinstance(loaded, Loaded):
            raise Failed("failed", f"The engine did not load: {loaded.fault.name}.")
        for number in range(-1, rounds):
            through = await trio.to_thread.run_sync(_through, client, number)
            direct = await _direct(engine, number)
            if number >= 0:
                pairs.append((through, direct))
                say(
                    f"round {number + 1}: first token {through.ttft_ms:.0f} ms through the path, "
                    f"{direct.ttft_ms:.0f} ms directly"
                )
    return pairs


def _through(client: Party, seed: int) -> Round:
    began = Round(asked=time.perf_counter())
    body = {**control.question(PROMPT, relays=RELAYS, max_tokens=TOKENS), "seed": seed}
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


def _asks_per_second() -> float:
    """Asks of one token to an engine that costs nothing, `ASKERS` at once."""
    config = dict.fromkeys(("worker", "client"), 'worker.engine = "fake"\nworker.slots = 16\n')
    with parties.running(Plan(relays=RELAYS, workers=FAKES, config=config)) as network:
        client = network.party("client")
        with ThreadPoolExecutor(ASKERS) as pool:
            began = time.monotonic()
            list(pool.map(lambda _: _ask_once(client), range(ASKS)))
            return round(ASKS / (time.monotonic() - began), 2)


def _ask_once(client: Party) -> None:
    body = control.question("Hello", relays=RELAYS, max_tokens=1)
    control.ask(client.home.socket, body, lambda text: None)
