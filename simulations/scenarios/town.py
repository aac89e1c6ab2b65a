"""Full nodes: the whole stack of production over simulated links and datagrams, which ask.

Relays, workers and clients by `nodes.mix` join through the first relay, fetch the directory of a
dev network, and clients ask through three relays as `workload.arrivals` says, once they can; a
worker answers with the prompt. Measured are how asks end and how long they take, and what is sent.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, final

from p2p.entropy import Entropy, choice, exponential
from p2p.stack import Stack
from p2p.transport.fabric import EPOCH
from simulations.experiment import Experiment
from simulations.log import EventLog
from simulations.network.build import ground
from simulations.nodes import Census, Town
from simulations.reading import WrongExperiment
from simulations.scenarios import Setting
from simulations.scenarios.traffic import Traffic
from simulations.scenarios.weather import under_weather
from simulations.trioworld import TrioWorld
from simulations.workload import Question
from simulations.world import World

KNOBS: Final[Sequence[str]] = ()

JOINED: Final = 13.0
"""seconds until a dev network has listed its first relays, and may be asked through"""

PROMPT: Final = 1_000
"""bytes of a prompt, and of its echo"""

RELAYS: Final = 4
"""three of a path, and one in reserve"""


def build(setting: Setting) -> "FullTown":
    """The network before anybody has started."""
    return FullTown(setting)


@final
class FullTown:
    """A `Scenario`."""

    def __init__(self, setting: Setting) -> None:
        exp, entropy = setting.exp, setting.entropy
        self._exp = exp
        self._meter = setting.meter
        self._census = _census(exp)
        land = ground(exp.network, entropy.fork("network"))
        self._town = town = Town(self._census, entropy, land)
        self.log: EventLog | None = setting.log
        if self.log is not None:
            self.log.resolve = town.names.index

        kind = World if exp.run.level == "L1" else TrioWorld
        self._world: World[Stack] | TrioWorld[Stack] = kind(
            town.cores,
            town.links,
            self.log,
            town,
            naming=town.names,
            datagrams=under_weather(exp, entropy, town.datagrams),
        )
        self._traffic = Traffic(self._meter, "all")
        self._told = 0
        for node in range(self._census.nodes):
            self._world.start(node)
        self._ask(entropy.fork("asks"))
        self._sample_later(EPOCH + exp.measure.bucket)

    @property
    def now(self) -> float:
        """See `Scenario`."""
        return self._world.now

    @property
    def nodes(self) -> Sequence[object]:
        """See `Scenario`."""
        return self._world.nodes

    def run(self, until: float, max_records: int | None = None) -> bool:
        """See `Scenario`."""
        return self._world.run(until, max_records)

    def sizes(self, node: int) -> Mapping[str, int]:
        """See `Scenario`."""
        return self._world.nodes[node].sizes()

    # --- asks ---

    def _ask(self, draws: Entropy) -> None:
        arrivals, end = self._exp.workload.arrivals, EPOCH + self._exp.run.until
        when = EPOCH + JOINED
        if arrivals.kind == "none" or not self._census.clients:
            return
        clients = range(self._census.relays + self._census.workers, self._census.nodes)
        while (when := when + exponential(draws, 1.0 / arrivals.rate)) < end:
            question = Question(node=choice(draws, clients), at=when, prompt=draws.token(PROMPT))
            self._town.echo.ask(self._world, question)

    # --- the whole ---

    def _sample_later(self, when: float) -> None:
        if when <= EPOCH + self._exp.run.until:
            self._world.do(when, partial(self._sample, when))

    def _sample(self, now: float) -> None:
        up = sum(self._world.up(node) for node in range(self._census.nodes))
        self._meter.gauge("nodes_up", up)
        self._traffic.tell(self._world.statistics())
        outcomes = self._town.echo.outcomes()
        for outcome in sorted(outcomes, key=lambda one: one.question.at + one.seconds)[
            self._told :
        ]:
            self._meter.count("ask_outcome", 1, "answer" if outcome.answered else "error")
            self._meter.observe("ask_s", outcome.seconds)
        self._told = len(outcomes)
        self._sample_later(now + self._exp.measure.bucket)


def _census(exp: Experiment) -> Census:
    """By `nodes.mix`, but enough relays for a path; who would be a mint relays."""
    nodes, mix = exp.run.nodes, exp.nodes.mix
    if nodes < RELAYS + 1:
        raise WrongExperiment(f"The scenario town needs {RELAYS + 1} nodes: a path and its end.")
    workers = max(1, round(nodes * mix.get("worker", 0.0)))
    clients = round(nodes * mix.get("client", 0.0))
    clients = max(0, min(clients, nodes - workers - RELAYS))
    return Census(relays=nodes - workers - clients, workers=workers, clients=clients)
