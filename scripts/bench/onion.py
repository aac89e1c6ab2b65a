"""What circuits cost: cells through a relay, setting them up, and the time that a relay adds.

Rates are per second of processor time: in memory the relay's own, over libp2p that of the process
in which both ends and the relay are.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from statistics import quantiles
from typing import Final

import trio
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from p2p.entropy import SystemEntropy
from p2p.identity import AdnlId
from p2p.onion.handshake import Accepted, ClientHandshake, Ended, Relayed, Target, open_create
from p2p.onion.noise import MlKem768, public_key
from scripts.bench import stations
from scripts.bench.report import Bench, Bound, Result, judged, middle

CELLS, WIRE_CELLS = 20_000, 12_000
"""Cells of one measurement: half a second or so."""

CIRCUITS: Final = 200

PINGS: Final = 300
"""for a 99th percentile of three"""

PAUSE: Final = 0.02
"""seconds between them: a link that is in a hurry gathers cells for ten milliseconds"""

CELL_BODY: Final = 1_192 - 16
"""bytes that a guard opens of each cell"""

AIMS: Final = {
    "cells_per_second_memory": Bound(least=40_000.0),
    "cells_per_second_libp2p": Bound(least=20_000.0),
    "circuits_per_second_client": Bound(least=500.0),
    "added_latency_ms_p50": Bound(most=2.0),
    "added_latency_ms_p99": Bound(most=15.0),
}

NOTES: Final = (
    "cells_per_second_memory: of the relay's own processor time; bare crypto seals as many cells",
    "cells_per_second_libp2p: of the processor time of asker, relay and worker together; bare TCP "
    "forwards as many frames between three tasks of one process, unencrypted",
    "circuits_per_second_client: a path of three relays and a worker, ML-KEM's key included, per "
    "second of processor time",
    "added_latency_ms: a ping through one relay less the median of one without, both over libp2p",
)


def measure(quick: bool, say: Callable[[str], None]) -> Bench:
    """Run the benchmark; `say` gets a line of progress now and then."""
    rounds = 3 if quick else 7
    say(f"cells through a relay in memory, {rounds} rounds")
    results = _memory(rounds)
    say(f"cells through a relay over libp2p and over bare TCP, {rounds} rounds")
    results += trio.run(_libp2p, rounds)
    say(f"circuits set up, {rounds} rounds")
    results += _set_up(rounds)
    say("a relay's time added to a ping")
    results += trio.run(_latency)
    return Bench(
        bench="onion",
        quick=quick,
        rounds=rounds,
        results=results,
        aims=judged(results, AIMS),
        notes=NOTES,
    )


# --- cells ---


def _memory(rounds: int) -> list[Result]:
    rates, ratios = [], []
    for _ in range(rounds):
        passed = stations.through_memory(CELLS)
        rates.append(passed.cells / passed.seconds)
        ratios.append(rates[-1] / _crypto())
    return [
        Result(
            name="cells_per_second_memory",
            value=middle(rates, 0),
            unit="1/s",
            ratio=middle(ratios),
            against="bare crypto",
        )
    ]


def _crypto() -> float:
    """Cells a second of which nothing is done but the sealing."""
    cipher, body, nonce = ChaCha20Poly1305(bytes(32)), bytes(CELL_BODY), bytes(12)
    began = time.process_time()
    for _ in range(CELLS):
        cipher.encrypt(nonce, body, None)
    return CELLS / (time.process_time() - began)


async def _libp2p(rounds: int) -> list[Result]:
    rates, ratios = [], []
    async with stations.line(1) as circuit:
        for _ in range(rounds):
            rates.append(await circuit.answer(WIRE_CELLS))
            ratios.append(rates[-1] / await _tcp())
    return [
        Result(name="cells_per_second_libp2p", value=middle(rates, 0), unit="1/s"),
        Result(
            name="cells_per_second_libp2p_vs_tcp",
            value=middle(rates, 0),
            unit="1/s",
            ratio=middle(ratios),
            against="bare TCP",
        ),
    ]


async def _tcp() -> float:
    """Frames a second that a task forwards between two sockets of loopback."""
    total = WIRE_CELLS * 1_200
    done = trio.Event()
    async with trio.open_nursery() as nursery:

        async def sink(stream: trio.SocketStream) -> None:
            left = total
            while left > 0:
                left -= len(await stream.receive_some(65_536))
            done.set()

        async def forward(stream: trio.SocketStream) -> None:
            async with stream, await trio.open_tcp_stream("127.0.0.1", last) as ahead:
                async for data in stream:
                    await ahead.send_all(data)

        last = await _listening(nursery, sink)
        first = await _listening(nursery, forward)
        began = time.process_time()
        async with await trio.open_tcp_stream("127.0.0.1", first) as source:
            for _ in range(0, total, 64_800):
                await source.send_all(bytes(64_800))
            await done.wait()
        seconds = time.process_time() - began
        nursery.cancel_scope.cancel()
    return WIRE_CELLS / seconds


async def _listening(
    nursery: trio.Nursery, handler: Callable[[trio.SocketStream], Awaitable[None]]
) -> int:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, handler, [listener])
    port: int = listener.socket.getsockname()[1]
    return port


# --- set-up ---


def _set_up(rounds: int) -> list[Result]:
    asked, relayed = [], []
    for _ in range(rounds):
        client, relay = _circuits()
        asked.append(client)
        relayed.append(relay)
    return [
        Result(name="circuits_per_second_client", value=middle(asked, 0), unit="1/s"),
        Result(name="relay_creates_per_second", value=middle(relayed, 0), unit="1/s"),
    ]


def _circuits() -> tuple[float, float]:
    """Circuits a second of an asker's time, and CREATEs a second of a guard's."""
    entropy, kem = SystemEntropy(), MlKem768()
    privates = [entropy.token(32) for _ in range(4)]
    ids = [AdnlId(entropy.token(32)) for _ in range(4)]
    path = [
        Target(id=id_, onion_key=public_key(private))
        for id_, private in zip(ids, privates, strict=True)
    ]
    unix, asking, relaying = int(time.time()), 0.0, 0.0
    for _ in range(CIRCUITS):
        began = time.process_time()
        handshake = ClientHandshake(path, network=1, kem=kem, entropy=entropy)
        message = handshake.create(unix, b"want")
        asking += time.process_time() - began

        opened, seconds = _guard(message, ids, privates)
        relaying += seconds
        reply, seconds = _replied(opened, unix)
        relaying += seconds

        began = time.process_time()
        answer = handshake.read(reply)
        asking += time.process_time() - began
        assert isinstance(answer, Accepted)
    return CIRCUITS / asking, CIRCUITS / relaying


def _guard(
    message: bytes, ids: Sequence[AdnlId], privates: Sequence[bytes]
) -> tuple[list[Relayed | Ended], float]:
    """What each hop opens of a CREATE, guard first, and the seconds that it took the guard."""
    entropy, kem, seconds = SystemEntropy(), MlKem768(), 0.0
    hops: list[Relayed | Ended] = []
    for id_, private in zip(ids, privates, strict=True):
        began = time.process_time()
        opened = open_create(message, [private], me=id_, network=1, kem=kem, entropy=entropy)
        seconds = seconds or time.process_time() - began
        hops.append(opened)
        if isinstance(opened, Relayed):
            message = opened.create
    return hops, seconds


def _replied(hops: Sequence[Relayed | Ended], unix: int) -> tuple[bytes, float]:
    """The CREATED that comes to the asker, and the seconds that it took the guard."""
    reply, seconds = b"", 0.0
    for hop in reversed(hops):
        began = time.process_time()
        if isinstance(hop, Ended):
            reply = hop.accept(unix, b"offer").reply
        else:
            reply, _ = hop.wrap(unix, reply)
        seconds = time.process_time() - began
    return reply, seconds


# --- latency ---


async def _latency() -> list[Result]:
    async with stations.line(0) as bare, stations.line(1) as relayed:
        without, through = [], []
        for _ in range(PINGS):
            await trio.sleep(PAUSE)
            without.append(await bare.ping())
            through.append(await relayed.ping())
    middle_without = quantiles(without, n=100)[49]
    percentiles = quantiles(through, n=100)
    return [
        Result(
            name=f"added_latency_ms_p{percent}",
            value=max(0.0, round(1_000 * (percentiles[percent - 1] - middle_without), 2)),
            unit="ms",
        )
        for percent in (50, 99)
    ]
