"""What the local API's server costs for each event of an answer, and how many answers it holds.

One application under three servers, each a process of its own: ours on trio, uvicorn and hypercorn
on asyncio. The processor time is the server's own, from the first event to the last.
"""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Final

from scripts.bench.report import Bench, Bound, Result, judged, middle
from scripts.failure import Failed

OURS: Final = "ours"
OTHERS: Final = ("uvicorn", "hypercorn")

EVENTS: Final = 20_000
"""of one measurement: about a second"""

STREAMS: Final = 250
"""answers at once: a few less than the connections that our server takes"""

PATIENCE: Final = 60.0
"""seconds without a byte before a server counts as stuck"""

AIMS: Final = {
    "cpu_us_per_chunk": Bound(most=1.2, of_ratio=True),
    "streams_held": Bound(least=200.0),
}


def measure(quick: bool, say: Callable[[str], None]) -> Bench:
    """Run the benchmark; `say` gets a line of progress now and then."""
    rounds = 3 if quick else 9
    names = [OURS, *(name for name in OTHERS if find_spec(name))]
    with ExitStack() as stack:
        ports = {name: stack.enter_context(_serving(name)) for name in names}
        taken: dict[str, list[float]] = {name: [] for name in names}
        for number in range(-1, rounds):  # the first is not counted
            for name in names:
                spent = _spent_us(ports[name])
                if number >= 0:
                    taken[name].append(spent)
        say(", ".join(f"{name} {middle(each, 1)} us" for name, each in taken.items()))
        held = _held(ports[OURS])
    return _bench(quick, rounds, taken, held)


def _bench(quick: bool, rounds: int, taken: Mapping[str, Sequence[float]], held: int) -> Bench:
    costs = {name: middle(each, 2) for name, each in taken.items()}
    others = {name: cost for name, cost in costs.items() if name != OURS}
    best = min(others, key=lambda name: others[name], default=None)
    notes = [f"{name} is not installed" for name in OTHERS if name not in taken]
    results = [
        Result(
            name="cpu_us_per_chunk",
            value=costs[OURS],
            unit="us",
            ratio=None if best is None else round(costs[OURS] / others[best], 3),
            against=best,
        ),
        Result(name="streams_held", value=float(held), unit="streams"),
    ]
    bounds = AIMS if best is not None else {"streams_held": AIMS["streams_held"]}
    return Bench(
        bench="api",
        quick=quick,
        rounds=rounds,
        results=results,
        aims=judged(results, bounds),
        notes=notes,
    )


@contextmanager
def _serving(name: str) -> Iterator[int]:
    """A server in a process of its own; the port it listens on."""
    module = ["scripts.bench.streaming"] if name == OURS else ["scripts.bench.other_servers", name]
    words = [sys.executable, "-m", *module]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:  # noqa: S603 - our own
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise Failed("failed", f"The server {name} ended before it served.")
            yield int(line)
        finally:
            process.kill()


def _spent_us(port: int) -> float:
    """Processor time of the server for each event of one answer."""
    with _asked(port, f"/{EVENTS}") as connection:
        last = b""
        while piece := connection.recv(1 << 20):
            last = last[-64:] + piece
    spent = last.partition(b"spent ")[2].split(b"\r")[0]
    return float(spent) / EVENTS * 1e6


def _held(port: int) -> int:
    """Answers that stand open at once, each with an event arrived."""
    with ExitStack() as stack:
        streams = [stack.enter_context(_asked(port, "/hold")) for _ in range(STREAMS)]
        return sum(_has_event(stream) for stream in streams)


def _has_event(stream: socket.socket) -> bool:
    received = b""
    while b"data: " not in received:
        piece = stream.recv(4_096)
        if not piece:
            return False
        received += piece
    return True


@contextmanager
def _asked(port: int, path: str) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        yield connection
