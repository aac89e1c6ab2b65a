"""Who learns who asks whom: conversations through real choices of worker, guard and relays.

Clients ask at the moments of `workload.arrivals`, each conversation a circuit of its own. An ask is
`inference.asking` up to its circuit, with the guards and paths of `p2p.onion.path`; a circuit takes
the time of its way through the network and is not played cell by cell. Adversaries, all one party:

- `relays`: a `share` of them, or `nodes`; `kill` = none, build or open what cannot be joined, for
  the `goal` of joining the asker with the worker or with the prompt
- `workers`: a `share`, or `nodes`, who read what they are asked
- `deny`: a `share` of the relays, or `nodes`, which as last ones say of one `worker`, by its place
  among them, that it cannot be reached, or end circuits to it `once_open`
- `observer`: watches all links of clients and workers; circuits are shaped to a `rate`, or not: 0
- `sybil`: so many `relays` and `workers` more, in so many `blocks` of addresses

Measured: linked, linked_prompt, users_linked, time_to_link_s; bad_guard, bad_worker, denied_worker;
what is left to guess of an asker whose worker is bad; candidate_workers, active_clients;
circuit_failed, circuit_build_s, ttft_s; path_s by region; ask_outcome, bytes; and true_positive:
conversations that the observer joins where it lets one wrong pair in a thousand pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Final, final

from inference.request import AskFailed
from p2p import defaults
from p2p.entropy import Entropy
from p2p.identity import AdnlId
from p2p.onion.cell import FRAME_SIZE, MAX_DATA
from p2p.transport.fabric import EPOCH
from simulations.adversary import observer
from simulations.adversary.coalition import Coalition
from simulations.arrivals import Request, asked
from simulations.asker import Asker, Conversation, Fate, Habits, Surroundings
from simulations.experiment import REGIONS, Experiment
from simulations.listed import coalition, listed, name_of
from simulations.log import EventLog
from simulations.metrics import Meter
from simulations.network.build import ground
from simulations.network.regions import SHARES, Regions
from simulations.privacy import evenly
from simulations.reading import read
from simulations.register import MODEL, Register
from simulations.samplers import geometric
from simulations.scenarios import Setting
from simulations.timeline import Timeline

KNOBS: Final = ("onion.relays", "onion.guards")

TOKEN_BYTES: Final = 4
"""of text, about"""

READING: Final = 20.0
"""seconds between an answer and the next question of a conversation: about 250 words are read"""

SET_UP_FRAMES: Final = 4
"""on every link: CREATE and CREATED, two each"""


def build(setting: Setting) -> "Onion":
    """The scenario of an experiment, at its start."""
    return Onion(setting)


@final
class Onion:
    """See the module."""

    def __init__(self, setting: Setting) -> None:
        exp, entropy = setting.exp, setting.entropy
        among = listed(exp, entropy)
        self._register = Register(among.everybody)
        self._coalition = coalition(exp, among, entropy)
        self._timeline = Timeline(setting.log)
        self._ways = Ways(self._register, self._coalition, setting)
        around = Surroundings(
            timeline=self._timeline,
            register=self._register,
            fates=self._ways,
            habits=habits(exp),
        )
        self.nodes: Sequence[Asker] = [
            Asker(node, name_of(node), around, entropy.fork(f"node/{node}"))
            for node in range(among.clients)
        ]
        self.watch = Watch(self._coalition, setting.meter, len(self.nodes), self._timeline.now)
        self._observer = _observer(exp, entropy.fork("observer"))
        self._timeline.at(EPOCH + exp.run.until, lambda: self._count(setting.meter))
        self._turns = exp.workload.turns
        self._entropy = entropy.fork("workload")
        self._requests = asked(exp.workload, self._entropy)
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

    def _count(self, meter: Meter) -> None:
        """What can be said at the end only."""
        self.watch.count_users()
        if self._observer is not None:
            self._observer.judge(meter)

    # --- conversations ---

    def _await_next(self) -> None:
        request = next(self._requests, None)
        if request is not None:
            self._timeline.at(self.watch.began + request.at, lambda: self._begin(request))

    def _begin(self, request: Request) -> None:
        asker = self.nodes[self._entropy.below(len(self.nodes))]
        turns = geometric(self._entropy, self._turns)
        asker.ask(self._register.workers, _Talk(self, request, turns))
        self._await_next()

    def talk(self, conversation: Conversation, request: Request, turns: int) -> None:
        """A conversation of so many turns has its circuit."""
        writing = request.answer / MODEL.answer_rate
        self.watch.stands(self._timeline.now, conversation)
        self._ways.carry(conversation, request, turns)
        if self._observer is not None:
            passage = self._ways.one_way(conversation.asker, conversation.path)
            begins = self._timeline.now + passage + request.prompt / MODEL.prompt_rate
            self._observer.see(begins, passage, request.answer, MODEL.answer_rate)
        seconds = turns * writing + (turns - 1) * READING
        self._timeline.after(seconds, lambda: self.watch.over(conversation))


@final
@dataclass(frozen=True, slots=True)
class _Talk:
    """Why somebody asks: see `Errand`."""

    onion: Onion
    request: Request
    turns: int

    def admits(self, path: Sequence[AdnlId]) -> None:
        """Workers have room for all."""

    def stands(self, conversation: Conversation) -> None:
        self.onion.talk(conversation, self.request, self.turns)

    def fails(self, failed: AskFailed) -> None:
        self.onion.watch.failed(failed)


def habits(exp: Experiment) -> Habits:
    """How askers ask, by the experiment's knobs."""
    relays, guards = exp.protocol.get("onion.relays", 3), exp.protocol.get("onion.guards", True)
    return Habits(relays=int(relays), guards=bool(guards))


def _observer(exp: Experiment, entropy: Entropy) -> observer.Watch | None:
    for adversary in exp.adversary:
        if adversary.kind == "observer":
            how = read(observer.Observer, adversary.knobs, "adversary.observer")
            return observer.Watch(how, entropy)
    return None


@final
class Ways:
    """What becomes of circuits, how long it takes, and what they carry."""

    def __init__(self, register: Register, coalition: Coalition, setting: Setting) -> None:
        self._register = register
        self._coalition = coalition
        self._meter = setting.meter
        network = setting.exp.network
        self._regions: Regions | None = None
        if network.latency.kind == "regions":  # the same as the ground's, by the same stream
            stream = setting.entropy.fork("network")
            self._regions = Regions(stream, network.latency.share or SHARES)
        self._latency = ground(network, setting.entropy.fork("network")).latency

    def fate(self, now: float, asker: int, path: Sequence[AdnlId]) -> Fate:
        """See `Fates`."""
        killer = self._coalition.killer(path)
        self._meter.observe("circuit_failed", killer is not None)
        there_and_back = 2.0 * self.one_way(asker, path)
        if killer is None or self._coalition.kill == "open":
            self._meter.observe("circuit_build_s", there_and_back)
            return Fate(seconds=there_and_back, ended_by=killer, opened=True)
        waits = defaults.BUILD_TIMES[killer - 1] if killer else defaults.OPEN_TIMEOUT
        return Fate(seconds=waits, ended_by=killer)

    def carry(self, conversation: Conversation, request: Request, turns: int) -> None:
        """Account for a conversation's cells and for the time to its first token."""
        asker, path = conversation.asker, conversation.path
        there_and_back = 2.0 * self.one_way(asker, path)
        reading = request.prompt / MODEL.prompt_rate
        self._meter.observe("ttft_s", conversation.seconds + there_and_back + reading)
        directly = 2.0 * self._latency.leg(asker, self._register.index(path[-1]))
        self._meter.observe("path_s", 2.0 * there_and_back - directly, self._region(asker))
        upload = ceil(request.prompt * TOKEN_BYTES / MAX_DATA)
        frames = SET_UP_FRAMES * conversation.circuits + turns * (upload + request.answer)
        self._meter.count("bytes", frames * len(path) * FRAME_SIZE, "onion")

    def _region(self, asker: int) -> str:
        """Where an asker is, if that is known of anybody."""
        return "" if self._regions is None else REGIONS[self._regions.of(asker)]

    def one_way(self, asker: int, path: Sequence[AdnlId]) -> float:
        nodes = [asker, *(self._register.index(peer) for peer in path)]
        return sum(self._latency.leg(*pair) for pair in pairwise(nodes))


@final
class Watch:
    """What the coalition learns of the askers, and what is left to guess."""

    def __init__(self, coalition: Coalition, meter: Meter, clients: int, began: float) -> None:
        self.began = began
        self._coalition = coalition
        self._meter = meter
        self._clients = clients
        self._linked: dict[int, None] = {}
        self._active: dict[int, int] = {}
        """Conversations under way of each client that has any,"""
        self._seen: dict[int, int] = {}
        """and how many of them have a bad guard: of these the coalition knows who asks."""

    def stands(self, now: float, conversation: Conversation) -> None:
        """A circuit has come to stand."""
        meter, path = self._meter, conversation.path
        joined, sees = self._coalition.joins(path), self._coalition.sees_asker(path)
        bad_worker = self._coalition.has_worker(path[-1])
        meter.count("ask_outcome", 1, "answer")
        meter.observe("linked", joined.worker)
        meter.observe("linked_prompt", joined.prompt)
        meter.observe("bad_guard", sees)
        meter.observe("bad_worker", bad_worker)
        if self._coalition.denied is not None:
            meter.observe("denied_worker", path[-1] == self._coalition.denied)
        meter.observe("candidate_workers", conversation.slots)

        _more(self._active, conversation.asker)
        if sees:
            _more(self._seen, conversation.asker)
        meter.gauge("active_clients", len(self._active))
        if bad_worker:
            self._guess(known=joined.prompt)
        if joined.prompt:
            self._linked_now(now, conversation.asker)

    def count_users(self) -> None:
        """Say at the end of whom the coalition has ever learnt what he asked."""
        for client in range(self._clients):
            self._meter.observe("users_linked", client in self._linked)

    def failed(self, failed: AskFailed) -> None:
        """An ask has come to no circuit."""
        self._meter.count("ask_outcome", 1, "error")

    def over(self, conversation: Conversation) -> None:
        """A conversation has ended."""
        _less(self._active, conversation.asker)
        if self._coalition.sees_asker(conversation.path):
            _less(self._seen, conversation.asker)

    def _guess(self, *, known: bool) -> None:
        """What a bad worker that does not know its asker can exclude: who asks through bad guards.

        Their first hops are seen, and none of them leads here.
        """
        hidden = [node for node, count in self._active.items() if count > self._seen.get(node, 0)]
        guess = evenly(1 if known else len(hidden), len(self._active))
        self._meter.observe("entropy_bits", guess.entropy_bits)
        self._meter.observe("min_entropy_bits", guess.min_entropy_bits)
        self._meter.observe("degree", guess.degree)

    def _linked_now(self, now: float, asker: int) -> None:
        if asker not in self._linked:
            self._linked[asker] = None
            self._meter.observe("time_to_link_s", now - self.began)


def _more(counts: dict[int, int], key: int) -> None:
    counts[key] = counts.get(key, 0) + 1


def _less(counts: dict[int, int], key: int) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
