"""Who gets the requests, and what of it an attacker can have: askers, prices, desks and engines.

Askers are `inference.asking` up to the worker's yes or no, straight to the worker; desks are those
of `inference.schedule`, engines as in the scenario `queue`. Honest prices lie evenly between half
and one and a half of a base. `market.best`: askers look at so many of the cheapest workers only, as
ours never do; 0 is the real market. Adversaries:

- `steer`: a `share` of the workers, or `nodes`; `price` of the cheapest honest one, `speed` claimed
- `sybil`: so many `workers` more, in so many `blocks` of addresses

Measured: bad_worker, the attackers' share of what is answered; price_nano; candidate_workers;
wait_s, sojourn_s, worker_load; ask_outcome, and refusals among its tries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, final

from inference.market import model_of, prices_of
from inference.protocol import Refusal, Refuse
from inference.request import AskFailed
from ledger.money import Nano
from ledger.tariff import quote
from p2p.entropy import Entropy
from p2p.identity import AdnlId
from p2p.onion.path import Role
from p2p.overlay.advert import Model, Prices
from simulations.adversary.steer import Steer, best
from simulations.arrivals import Request, asked
from simulations.asker import Asker, Conversation, Fate, Habits, Surroundings
from simulations.desks import RealDesk, Workplace
from simulations.engine import Batching, Machine
from simulations.experiment import Experiment
from simulations.listed import Listed, chosen, listed, name_of
from simulations.log import EventLog
from simulations.network.build import ground
from simulations.reading import read, unknown
from simulations.register import MODEL, Member, Register, offering
from simulations.scenarios import Setting
from simulations.timeline import Timeline

KNOBS: Final = ("market.best", "queue.slots")

BASE: Final = Prices(200_000_000, 600_000_000)
"""nano per million tokens: the middle of honest prices"""

PURSE: Final = Nano(10**12)
"""nano that an ask may cost: nobody is too dear"""

MINT: Final = AdnlId(b"a mint of all".ljust(32, b"."))


def build(setting: Setting) -> "Market":
    """The scenario of an experiment, at its start."""
    return Market(setting)


@final
class Market:
    """See the module."""

    def __init__(self, setting: Setting) -> None:
        exp, entropy = setting.exp, setting.entropy
        among = listed(exp, entropy)
        workers, self._attackers = _priced(exp, among, entropy)
        self._register = Register(workers)
        self._entries = best(self._register.workers, int(exp.protocol.get("market.best", 0)))

        self._timeline = Timeline(setting.log)
        self._began = self._timeline.now
        self._meter = setting.meter
        self._latency = ground(exp.network, entropy.fork("network")).latency
        habits = Habits(relays=0, guards=False, max_price=PURSE, mints=(MINT,))
        around = Surroundings(
            timeline=self._timeline, register=self._register, fates=self, habits=habits
        )
        self.nodes: Sequence[Asker] = [
            Asker(node, name_of(node), around, entropy.fork(f"node/{node}"))
            for node in range(among.clients)
        ]

        self._machine = Machine(slots=int(exp.protocol.get("queue.slots", Machine().slots)))
        self._places = {each.view.id: self._workplace(each.index) for each in workers}
        self._entropy = entropy.fork("workload")
        self._requests = asked(exp.workload, self._entropy)
        self._came: dict[int, float] = {}
        self._jobs = 0
        self._await_next()

    @property
    def now(self) -> float:
        """Unix seconds of virtual time."""
        return self._timeline.now

    @property
    def log(self) -> EventLog | None:
        """What the askers' cores were told and said."""
        return self._timeline.log

    def run(self, until: float, max_records: int | None = None) -> bool:
        """See `Scenario`."""
        return self._timeline.run(until, max_records)

    def sizes(self, node: int) -> Mapping[str, int]:
        """Tables of an asker."""
        return self.nodes[node].sizes()

    def fate(self, now: float, asker: int, path: Sequence[AdnlId]) -> Fate:
        """See `Fates`: the way there and back."""
        return Fate(seconds=2.0 * self._latency.leg(asker, self._register.index(path[-1])))

    # --- jobs ---

    def admit(self, worker: AdnlId, request: Request) -> Refusal | None:
        """A worker's answer to a request; yes, and it is in the worker's queue."""
        self._jobs += 1
        self._came[self._jobs] = self.now
        seconds = self._machine.alone(request.prompt, request.answer)
        place = self._places[worker]
        self._meter.gauge("worker_load", place.load)
        if place.admit(self._jobs, seconds, request.prompt, request.answer):
            return None
        del self._came[self._jobs]
        self._meter.count("ask_outcome", 1, "refusal")
        return Refusal(Refuse.BUSY)

    def agreed(self, conversation: Conversation, request: Request) -> None:
        """A worker has said yes."""
        worker = conversation.path[-1]
        entry = self._register.entry(worker)
        model = model_of(entry, MODEL.identity)
        assert model is not None
        self._meter.observe("bad_worker", worker in self._attackers)
        self._meter.observe("candidate_workers", conversation.slots)
        price = quote(request.prompt, request.answer, prices_of(model))
        self._meter.observe("price_nano", price.value)

    def failed(self) -> None:
        """Nobody will."""
        self._meter.count("ask_outcome", 1, "error")

    def began(self, now: float, worker: int, job: int) -> None:
        """See `Listener`."""
        self._meter.observe("wait_s", now - self._came[job])

    def ended(self, now: float, worker: int, job: int) -> None:
        """See `Listener`."""
        self._meter.observe("sojourn_s", now - self._came.pop(job))
        self._meter.count("ask_outcome", 1, "answer")

    def _await_next(self) -> None:
        request = next(self._requests, None)
        if request is not None:
            self._timeline.at(self._began + request.at, lambda: self._begin(request))

    def _begin(self, request: Request) -> None:
        asker = self.nodes[self._entropy.below(len(self.nodes))]
        asker.ask(self._entries, _Purchase(self, request))
        self._await_next()

    def _workplace(self, worker: int) -> Workplace:
        slots = self._machine.slots
        engine = Batching(self._machine)
        return Workplace(worker, slots, RealDesk(slots), engine, self._timeline, self)


@final
@dataclass(frozen=True, slots=True)
class _Purchase:
    """Why somebody asks: see `Errand`."""

    market: Market
    request: Request

    def admits(self, path: Sequence[AdnlId]) -> Refusal | None:
        return self.market.admit(path[-1], self.request)

    def stands(self, conversation: Conversation) -> None:
        self.market.agreed(conversation, self.request)

    def fails(self, failed: AskFailed) -> None:
        self.market.failed()


# --- prices ---


def _priced(
    exp: Experiment, among: Listed, entropy: Entropy
) -> tuple[list[Member], dict[AdnlId, None]]:
    """All workers with their prices, and which of them are attackers."""
    stream = entropy.fork("prices")
    workers = [offering(each, _model(0.5 + stream.uniform())) for each in among.workers]
    sybils = [each for each in among.sybils if Role.WORKER in each.view.roles]
    attackers = dict.fromkeys(each.view.id for each in sybils)
    for number, adversary in enumerate(exp.adversary):
        match adversary.kind:
            case "steer":
                steer = read(Steer, adversary.knobs, "adversary.steer")
                bad = chosen(adversary, workers, entropy.fork(f"adversary/{number}"))
                attackers |= dict.fromkeys(each.view.id for each in bad)
                workers = _steered(workers, attackers, steer)
            case "sybil":
                pass
            case other:
                raise unknown(f"adversary {other}", ["steer", "sybil"])
    return [*workers, *sybils], attackers


def _steered(
    workers: Sequence[Member], attackers: Mapping[AdnlId, None], steer: Steer
) -> list[Member]:
    honest = [each.entry.advert.models[0] for each in workers if each.view.id not in attackers]
    lure = steer.model(honest)
    return [offering(each, lure) if each.view.id in attackers else each for each in workers]


def _model(factor: float) -> Model:
    prices = Prices(int(factor * BASE.prompt), int(factor * BASE.completion))
    return replace(MODEL, prices=prices)
