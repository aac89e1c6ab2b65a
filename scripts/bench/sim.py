"""What a simulated node costs: a DHT at two sizes, and full nodes, beside loops that only wake.

The workload is the one of the design: warm nodes on the message seam, as many lookups as nodes and
five publications of 256 bytes in ten virtual seconds, one datagram in a hundred lost. The bare
loops do nothing but wake: what is above them is the price of doing something.
"""

import gc
import heapq
import resource
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

import trio
from trio.testing import MockClock

from p2p.entropy import seeded
from p2p.transport.fabric import EPOCH
from scripts.bench.report import Bench, Bound, Result, judged, middle
from simulations import scenarios
from simulations.experiment import Experiment, load
from simulations.log import EventLog
from simulations.metrics import Meter
from simulations.scenarios import Setting

SMALL, LARGE = 1_000, 10_000
"""nodes"""

SECONDS: Final = 10.0
"""virtual seconds of a run"""

LARGE_SECONDS: Final = 3.0
"""of one at 10,000 nodes: it is the rate that is asked for"""

FULL: Final = 30
"""nodes with the whole stack, each of which stands for seven of them that ask"""

FULL_LARGE_SECONDS: Final = 2.0
"""virtual seconds of a thousand of them, who join; docs/reports/full-nodes.md has them at work"""

WAKES: Final = 100_000
"""wakes of a bare loop"""

AIMS: Final = {
    "cpu_seconds_per_virtual_second_10000": Bound(most=2.0),
    "peak_mb_10000": Bound(most=1_000.0),
    "build_seconds_10000": Bound(most=3.0),
}

NOTES: Final = (
    "events are records of the log: datagrams, wakes and commands of cores that did something",
    "the time of a run is its processor time; building the network is not in it",
    "peak_mb is of the whole process, after the run with most nodes in it",
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One run."""

    build_s: float
    run_s: float
    records: int
    virtual_s: float

    @property
    def rate(self) -> float:
        """Records a second of processor time."""
        return self.records / self.run_s

    @property
    def cost(self) -> float:
        """Processor seconds of a virtual second."""
        return self.run_s / self.virtual_s


def measure(quick: bool, say: Callable[[str], None]) -> Bench:
    """Run the benchmark; `say` gets a line of progress now and then."""
    rounds = 3
    say(f"{rounds} runs of {SMALL} nodes for {SECONDS:g} virtual seconds, bare loops between them")
    small, loops = _small(rounds)
    results = _rates(small, loops)
    say(f"{FULL} full nodes for {SECONDS:g} virtual seconds")
    done = run(_town(FULL, SECONDS))
    results.append(
        Result(name="full_node_events_per_cpu_second_30", value=round(done.rate, 1), unit="1/s")
    )
    notes = [*NOTES, *_absent(loops)]
    if quick:
        notes.append(f"{LARGE} nodes, and {SMALL} full ones, are left out: --quick")
    else:
        say(f"{LARGE} nodes for {LARGE_SECONDS:g} virtual seconds")
        results += _large(loops["heapq"])
        say(f"{SMALL} full nodes for {FULL_LARGE_SECONDS:g} virtual seconds")
        results += _full()
    return Bench(
        bench="sim",
        quick=quick,
        rounds=rounds,
        results=results,
        aims=judged(results, AIMS),
        notes=notes,
    )


def _small(rounds: int) -> tuple[list[Measured], dict[str, list[float]]]:
    runs: list[Measured] = []
    loops: dict[str, list[float]] = {}
    for _ in range(rounds):
        runs.append(run(_dht(SMALL, SECONDS)))
        for name, loop in _loops().items():
            loops.setdefault(name, []).append(_rate(loop))
    return runs, loops


def _rates(runs: list[Measured], loops: dict[str, list[float]]) -> list[Result]:
    rates = [one.rate for one in runs]
    ratios = [rate / loop for rate, loop in zip(rates, loops["heapq"], strict=True)]
    return [
        Result(
            name="events_per_cpu_second_1000",
            value=middle(rates, 1),
            unit="1/s",
            ratio=middle(ratios),
            against="bare heapq loop",
        ),
        Result(
            name="cpu_seconds_per_virtual_second_1000",
            value=middle([one.cost for one in runs]),
            unit="s",
        ),
        *(
            Result(name=f"bare_{name}_wakes_per_cpu_second", value=middle(of, 1), unit="1/s")
            for name, of in loops.items()
        ),
    ]


def _large(loop: list[float]) -> list[Result]:
    done = run(_dht(LARGE, LARGE_SECONDS))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [
        Result(
            name="events_per_cpu_second_10000",
            value=round(done.rate, 1),
            unit="1/s",
            ratio=round(done.rate / middle(loop, 1), 4),
            against="bare heapq loop",
        ),
        Result(name="cpu_seconds_per_virtual_second_10000", value=round(done.cost, 3), unit="s"),
        Result(name="build_seconds_10000", value=round(done.build_s, 2), unit="s"),
        Result(name="peak_mb_10000", value=round(peak, 1), unit="MB"),
    ]


def _full() -> list[Result]:
    done = run(_town(SMALL, FULL_LARGE_SECONDS))
    return [
        Result(name="events_per_cpu_second_1000_full", value=round(done.rate, 1), unit="1/s"),
        Result(
            name="cpu_seconds_per_virtual_second_1000_full", value=round(done.cost, 3), unit="s"
        ),
        Result(name="build_seconds_1000_full", value=round(done.build_s, 2), unit="s"),
    ]


def _town(nodes: int, seconds: float) -> Experiment:
    return load({"name": "bench-town", "scenario": "town"}).with_(
        {"run.nodes": nodes, "run.until": seconds}
    )


# --- one run ---


def run(exp: Experiment) -> Measured:
    """Build and run an experiment, with a log and a meter, as `tussah sim run` does."""
    log = EventLog()
    gc.collect()
    began = time.process_time()
    scenario = scenarios.build(
        Setting(exp=exp, entropy=seeded(1), meter=Meter(lambda: EPOCH), log=log)
    )
    built = time.process_time()
    scenario.run(EPOCH + exp.run.until)
    ended = time.process_time()
    return Measured(built - began, ended - built, log.records, exp.run.until)


def _dht(nodes: int, seconds: float) -> Experiment:
    return load({"name": "bench", "scenario": "dht"}).with_(
        {
            "run.nodes": nodes,
            "run.until": seconds,
            "network.loss": 0.01,
            "network.uplink_mbps": "none",
            "network.downlink_mbps": "none",
            "workload.lookups_per_node_s": 1.0 / SECONDS,
            "workload.publishes_per_s": 0.5,
        }
    )


# --- bare loops ---


def _loops() -> dict[str, Callable[[], int]]:
    loops: dict[str, Callable[[], int]] = {"heapq": _heap, "trio": _trio}
    if find_spec("simpy") is not None:
        loops["simpy"] = _simpy
    return loops


def _rate(loop: Callable[[], int]) -> float:
    began = time.process_time()
    wakes = loop()
    return wakes / (time.process_time() - began)


def _heap() -> int:
    """A thousand sleepers on a heap of their own."""
    heap = [(n * 0.001, n) for n in range(SMALL)]
    for _ in range(WAKES):
        when, sleeper = heap[0]
        heapq.heapreplace(heap, (when + 1.0, sleeper))
    return WAKES


def _trio() -> int:
    """The same as tasks of trio under its mock clock."""
    trio.run(_sleepers, clock=MockClock(autojump_threshold=0))
    return WAKES // 10


async def _sleepers() -> None:
    async with trio.open_nursery() as nursery:
        for n in range(SMALL):
            nursery.start_soon(_sleep, n * 0.001, WAKES // 10 // SMALL)


async def _sleep(first: float, times: int) -> None:
    await trio.sleep(first)
    for _ in range(times - 1):
        await trio.sleep(1.0)


def _simpy() -> int:
    """The same as processes of simpy."""
    import simpy

    environment = simpy.Environment()

    def sleeper(first: float) -> Generator[simpy.Event, None, None]:
        yield environment.timeout(first)
        while True:
            yield environment.timeout(1.0)

    for n in range(SMALL):
        environment.process(sleeper(n * 0.001))
    environment.run(until=WAKES / SMALL)
    return WAKES


def _absent(loops: dict[str, list[float]]) -> tuple[str, ...]:
    return () if "simpy" in loops else ("simpy is not installed: no figure beside ours",)
