"""Whether level L3 agrees with level L1: the same experiment as processes and as a simulation.

    python -m simulations.agreement [--nodes N] [--seconds S] [--seed SEED]

Messages must agree within a twentieth; the median lookup within a tenth or 5 ms, and what the
machine itself is late by: a lookup of a round trip or two takes some eight wakes, each of which a
busy machine delays. How late a wake is, on average, is measured where datagrams are delayed.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from simulations import run
from simulations.experiment import Experiment, load
from simulations.run import Run

MESSAGES: Final = 0.05
LOOKUPS: Final = 0.1
"""shares by which they may differ"""

FLOOR: Final = 0.005
"""seconds that a median may differ by, however short it is"""

WAKES: Final = 8
"""of a lookup: to the network and out of it, at both nodes, twice"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Two runs side by side."""

    messages: tuple[float, float]
    """of the simulation and of the processes; so the others"""
    median_s: tuple[float, float]
    hops: tuple[float, float]
    found: tuple[float, float]
    late_s: float

    @property
    def allowed_s(self) -> float:
        """By how much the medians may differ."""
        return max(LOOKUPS * self.median_s[0], FLOOR) + WAKES * self.late_s

    @property
    def holds(self) -> bool:
        """Whether they agree."""
        simulated, real = self.messages
        few = abs(real - simulated) <= MESSAGES * simulated
        return few and abs(self.median_s[1] - self.median_s[0]) <= self.allowed_s

    def lines(self) -> Iterator[str]:
        """For people."""
        yield "                    L1        L3"
        yield f"messages      {self.messages[0]:8.0f}  {self.messages[1]:8.0f}"
        yield f"lookup p50 s  {self.median_s[0]:8.4f}  {self.median_s[1]:8.4f}"
        yield f"hops          {self.hops[0]:8.3f}  {self.hops[1]:8.3f}"
        yield f"closest       {self.found[0]:8.3f}  {self.found[1]:8.3f}"
        yield f"a wake of this machine was late by {1_000 * self.late_s:.2f} ms"
        yield f"they agree: {'yes' if self.holds else 'no'} ({self.allowed_s:.4f} s are allowed)"


def setting(nodes: int = 20, seconds: float = 20.0) -> Experiment:
    """A DHT that is looked into, with delays between regions and losses."""
    return load({"name": "loopback", "scenario": "dht"}).with_(
        {
            "run.nodes": nodes,
            "run.until": seconds,
            "run.warmup": 0.0,
            "network.latency": {"kind": "regions"},
            "network.loss": 0.01,
            "workload.lookups_per_node_s": 0.5,
        }
    )


def agreement(exp: Experiment, seed: int) -> Agreement:
    """Run it on both levels. Raises `RuntimeError` if either comes to no end."""
    simulated, real = (_run(exp.with_({"run.level": level}), seed) for level in ("L1", "L3"))
    return Agreement(
        messages=(_sum(simulated), _sum(real)),
        median_s=(_quantile(simulated, "lookup_s"), _quantile(real, "lookup_s")),
        hops=(simulated.metrics["lookup_hops"], real.metrics["lookup_hops"]),
        found=(simulated.metrics["lookup_closest"], real.metrics["lookup_closest"]),
        late_s=real.metrics["late_s"],
    )


def _run(exp: Experiment, seed: int) -> Run:
    done = run.run(exp, seed)
    if done.outcome != "ok":
        raise RuntimeError(done.detail)
    return done


def _sum(done: Run) -> float:
    return done.metrics["messages{dht}"]


def _quantile(done: Run, name: str) -> float:
    (found,) = (one for one in done.summaries if str(one.key) == name)
    return found.quantiles[50]


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module; 1 if they do not agree."""
    parser = argparse.ArgumentParser(prog="python -m simulations.agreement")
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    found = agreement(setting(options.nodes, options.seconds), options.seed)
    for line in found.lines():
        print(line)  # noqa: T201 - a program's answer
    return int(not found.holds)


if __name__ == "__main__":
    raise SystemExit(main())
