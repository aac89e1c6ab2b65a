"""Full nodes: the whole stack of production over simulated links and datagrams, which ask.

Relays, workers and clients by `nodes.mix` join through the first relay, fetch the directory of a
dev network, and clients ask through three relays as `workload.arrivals` says, once they can; a
worker answers with the prompt. Measured are how asks end and how long they take, and what is sent.
Adversaries are clients, by `share` or number:

- `slow_reader`: asks for `bytes` and grants no credit for them; queue_bytes{relay} is the most
  that any relay has queued
- `flooder`: opens `rate` circuits a second for `seconds` through the network, and uses none
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, TypeAlias, cast, final

from p2p.entropy import Entropy, choice, exponential, sample
from p2p.errors import LocalError
from p2p.overlay.advert import Role
from p2p.stack import Stack
from p2p.transport.fabric import EPOCH
from simulations.adversary.flooder import Flooder
from simulations.adversary.meddler import Meddler
from simulations.adversary.slow_reader import Hoard, SlowReader
from simulations.experiment import Experiment
from simulations.log import EventLog
from simulations.memo import Seals
from simulations.network.build import ground
from simulations.nodes import Census, Town
from simulations.reading import WrongExperiment, read, unknown
from simulations.scenarios import Setting
from simulations.scenarios.traffic import Traffic
from simulations.scenarios.weather import under_weather
from simulations.trioworld import TrioWorld
from simulations.workload import REQUEST, Question
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

        self._readers, self._flooders = _adversaries(exp, self._census, entropy)
        cores = [
            cast("Stack", Meddler(core, Hoard())) if node in self._readers else core
            for node, core in enumerate(town.cores)
        ]
        kind = World if exp.run.level == "L1" else TrioWorld
        self._world: World[Stack] | TrioWorld[Stack] = kind(
            cores,
            town.links,
            self.log,
            town,
            naming=town.names,
            datagrams=under_weather(exp, entropy, town.datagrams),
        )
        self._seals = Seals()
        self._traffic = Traffic(self._meter, "all")
        self._told = 0
        for node in range(self._census.nodes):
            self._world.start(node)
        self._ask(entropy.fork("asks"))
        self._attack(entropy.fork("attacks"))
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
        with self._seals.kept():
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
        attackers = {**self._readers, **self._flooders}
        clients = [node for node in _clients(self._census) if node not in attackers]
        while (when := when + exponential(draws, 1.0 / arrivals.rate)) < end:
            question = Question(node=choice(draws, clients), at=when, prompt=draws.token(PROMPT))
            self._town.echo.ask(self._world, question)

    def _attack(self, draws: Entropy) -> None:
        for node, reader in self._readers.items():
            prompt = draws.token(reader.bytes)
            question = Question(node=node, at=EPOCH + JOINED, prompt=prompt)
            self._town.echo.ask(self._world, question)
        for node, flooder in self._flooders.items():
            when, end = EPOCH + JOINED, EPOCH + JOINED + flooder.seconds
            while (when := when + exponential(draws, 1.0 / flooder.rate)) < end:
                self._world.at(when, node, "flood", _flooding(draws.fork(f"flood/{node}")))

    # --- the whole ---

    def _sample_later(self, when: float) -> None:
        if when <= EPOCH + self._exp.run.until:
            self._world.do(when, partial(self._sample, when))

    def _sample(self, now: float) -> None:
        up = sum(self._world.up(node) for node in range(self._census.nodes))
        self._meter.gauge("nodes_up", up)
        self._traffic.tell(self._world.statistics())
        if self._readers or self._flooders:
            self._look_at_queues()
        outcomes = self._town.echo.outcomes()
        for outcome in sorted(outcomes, key=lambda one: one.question.at + one.seconds)[
            self._told :
        ]:
            self._meter.count("ask_outcome", 1, "answer" if outcome.answered else "error")
            self._meter.observe("ask_s", outcome.seconds)
        self._told = len(outcomes)
        self._sample_later(now + self._exp.measure.bucket)

    def _look_at_queues(self) -> None:
        census, nodes = self._census, self._world.nodes
        queued = [core.statistics().queue_bytes for core in nodes[: census.relays]]
        self._meter.gauge("queue_bytes", max(queued), "relay")


Readers: TypeAlias = Mapping[int, SlowReader]
Flooders: TypeAlias = Mapping[int, Flooder]


def _adversaries(exp: Experiment, census: Census, entropy: Entropy) -> tuple[Readers, Flooders]:
    readers: dict[int, SlowReader] = {}
    flooders: dict[int, Flooder] = {}
    clients = _clients(census)
    for number, table in enumerate(exp.adversary):
        if any(node not in clients for node in table.nodes):
            raise WrongExperiment(f"adversary.nodes must be from {clients[0]} to {clients[-1]}.")
        some = round(table.share * len(clients))
        nodes = table.nodes or sample(entropy.fork(f"adversary/{number}"), clients, some)
        where = f"adversary.{table.kind}"
        match table.kind:
            case "slow_reader":
                readers |= dict.fromkeys(nodes, read(SlowReader, table.knobs, where))
            case "flooder":
                flooders |= dict.fromkeys(nodes, read(Flooder, table.knobs, where))
            case other:
                raise unknown(f"adversary {other}", ["slow_reader", "flooder"])
    return readers, flooders


def _clients(census: Census) -> Sequence[int]:
    return range(census.relays + census.workers, census.nodes)


def _flooding(draws: Entropy) -> Callable[[Stack, float], None]:
    """Open a circuit to some worker, and leave it at that."""

    def flood(core: Stack, now: float) -> None:
        workers = core.directory.usable(Role.WORKER)
        if workers:
            with suppress(LocalError):
                core.open(now, core.path(now, choice(draws, workers).id), REQUEST)

    return flood


def _census(exp: Experiment) -> Census:
    """By `nodes.mix`, but enough relays for a path; who would be a mint relays."""
    nodes, mix = exp.run.nodes, exp.nodes.mix
    if nodes < RELAYS + 1:
        raise WrongExperiment(f"The scenario town needs {RELAYS + 1} nodes: a path and its end.")
    workers = max(1, round(nodes * mix.get("worker", 0.0)))
    clients = round(nodes * mix.get("client", 0.0))
    clients = max(0, min(clients, nodes - workers - RELAYS))
    return Census(relays=nodes - workers - clients, workers=workers, clients=clients)
