"""What ADNL costs, beside the bare cryptography, and how far it is to a value in the DHT.

Rates without a socket are per second of one core's own time, with both ends on it; what crosses a
socket is by the clock.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

import trio

from p2p.adnl import box
from p2p.identity import Identity
from p2p.tl import pack
from p2p.ton import DhtPing
from scripts.bench import downloads, lookups, served, siege
from scripts.bench.ends import START, Client, Node
from scripts.bench.report import Bench, Bound, Result, judged, middle

QUERIES, HANDSHAKES, PACKETS = 5_000, 500, 20_000
"""Operations of one measurement: about half a second."""

QUERY: Final = pack(DhtPing(7))

PACKET: Final = 112
"""bytes of a packet with such a query or its answer, as it is sealed"""

AIMS: Final = {
    "queries_served_per_second": Bound(least=5_000.0),
    "core_queries_per_second": Bound(least=12_000.0),
    "handshakes_per_second": Bound(least=333.0),
    "rldp2_mb_per_second": Bound(least=10.0),
    "honest_p99_ratio_under_fuzz": Bound(most=2.0),
    "dht_lookup_hops_200": Bound(most=round(lookups.theory() + 1.0, 2)),
}

NOTES: Final = (
    "core_queries_per_second and handshakes_per_second are per second of processor time, both ends "
    "together; queries_served_per_second is by the clock, the row of_processor of the node's time",
    f"pytoniq is a process of its own with {served.IN_FLIGHT} queries on their way: how fast it is "
    "bounds what is served by the clock",
    f"honest_p99_ratio_under_fuzz: the 99th percentile of the processor time of {siege.QUERIES} "
    f"queries, {siege.JUNK} broken datagrams before each, over that of a node left in peace; the "
    "time that the junk itself takes is not in it",
    "bare packet crypto: the seals and openings of packets that the same work cannot do without",
    f"rldp2 carries {downloads.SIZE / 2**20:g} MiB between two processes; bare raptorq codes as "
    f"much, and decodes it without one symbol in {downloads.LOST}",
)


def measure(quick: bool, say: Callable[[str], None]) -> Bench:
    """Run the benchmark; `say` gets a line of progress now and then."""
    rounds = 3 if quick else 9
    say(f"packets, queries and handshakes, {rounds} rounds")
    results = _in_memory(rounds)
    say(f"queries of pytoniq over UDP, {rounds} rounds")
    results += trio.run(_over_udp, rounds)
    say(f"downloads by RLDP2, {rounds} rounds")
    results.append(trio.run(downloads.measure, rounds))
    say(f"an honest peer's queries among junk, {rounds} rounds")
    results.append(_besieged(rounds))
    say(f"lookups among {lookups.NODES} nodes in virtual time")
    results.append(lookups.measure())
    return Bench(
        bench="adnl",
        quick=quick,
        rounds=rounds,
        results=results,
        aims=judged(results, AIMS),
        notes=NOTES,
    )


# --- without a socket ---


def _in_memory(rounds: int) -> list[Result]:
    queries, ratios, handshakes = [], [], []
    for _ in range(rounds):
        queries.append(_rate(_queries()))
        ratios.append(queries[-1] / (_rate(_packets) / 2))
        handshakes.append(_rate(_handshakes()))
    return [
        Result(
            name="core_queries_per_second",
            value=middle(queries, 1),
            unit="1/s",
            ratio=middle(ratios),
            against="bare packet crypto",
        ),
        Result(name="handshakes_per_second", value=middle(handshakes, 1), unit="1/s"),
    ]


def _rate(work: Callable[[], int]) -> float:
    began = time.process_time()
    done = work()
    return done / (time.process_time() - began)


def _queries() -> Callable[[], int]:
    """One client that has a channel."""
    client = Client(1, Node(Identity(b"s" * 32), START))
    client.ask(QUERY)

    def work() -> int:
        for _ in range(QUERIES):
            client.ask(QUERY)
        return QUERIES

    return work


def _handshakes() -> Callable[[], int]:
    """Clients that the server has never seen; each is answered one query."""
    server = Node(Identity(b"s" * 32), START)

    def work() -> int:
        for number in range(HANDSHAKES):
            Client(number, server).ask(QUERY)
        return HANDSHAKES

    return work


def _packets() -> int:
    """Packets sealed and opened."""
    secret, plain = bytes(range(32)), bytes(PACKET)
    for _ in range(PACKETS):
        box.unseal(secret, box.seal(secret, plain), 0)
    return PACKETS


def _besieged(rounds: int) -> Result:
    ratios = [siege.measure() for _ in range(rounds)]
    return Result(name="honest_p99_ratio_under_fuzz", value=middle(ratios), unit="x")


# --- over UDP ---


async def _over_udp(rounds: int) -> list[Result]:
    rates = await served.measure(rounds, lambda: _rate(_packets))
    by_clock = [rate.by_clock for rate in rates]
    by_processor = [rate.by_processor for rate in rates]
    return [
        _served("queries_served_per_second", by_clock, [rate.bare for rate in rates]),
        _served("queries_served_per_second_of_processor", by_processor, [r.bare for r in rates]),
    ]


def _served(name: str, ours: Sequence[float], bare: Sequence[float]) -> Result:
    """A node opens one packet of a query and seals another: the bare work of one whole packet."""
    ratio = middle([a / b for a, b in zip(ours, bare, strict=True)])
    return Result(
        name=name,
        value=middle(ours, 1),
        unit="1/s",
        ratio=ratio,
        against="bare packet crypto",
    )
