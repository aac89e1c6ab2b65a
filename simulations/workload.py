"""Who asks what of whom: askers with their second tries, and endpoints that echo.

As everything that answers events, it keeps its state per node and changes it in that node's turns.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias, final

from p2p.core import Event
from p2p.entropy import Entropy, choice
from p2p.errors import NoPath
from p2p.onion.core import CircuitId, Data, Ended, Failed, Incoming, Lost, Opened, Reset
from p2p.onion.path import pick_path
from p2p.overlay.advert import Role
from p2p.stack import Stack
from simulations.network.links import LinkNames
from simulations.world import Life, Stage

TRIES: Final = 3
"""paths tried for one question."""

PAUSE: Final = 1.0
"""seconds before another try."""

REQUEST: Final = b"\x00echo"
OFFER: Final = b"\x00willing"
STREAM: Final = 1

PIECE: Final = 500
"""bytes of an answer given at once: some tokens."""

PIECE_INTERVAL: Final = 0.05
"""seconds between two pieces: 20 a second, as a small model writes."""

Action: TypeAlias = Callable[[Stack, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What one node asks, and when."""

    node: int
    at: float
    """Unix seconds"""
    prompt: bytes
    relays: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a question ended."""

    question: Question
    answered: bool
    """with the very bytes of the prompt"""
    tries: int
    path: tuple[int, ...]
    """nodes that the last try went through, the endpoint last"""
    seconds: float


@dataclass(slots=True)
class _Asking:
    question: Question
    tries: int = 0
    path: tuple[int, ...] = ()
    answer: bytearray = field(default_factory=bytearray)


@dataclass(slots=True)
class _Desk:
    """What one node is about: its questions, and the prompts of others by circuit."""

    entropy: Entropy
    asking: dict[CircuitId, _Asking] = field(default_factory=dict)
    prompts: dict[CircuitId, bytearray] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)


@final
class Echo:
    """Questions through circuits, each answered with its own prompt, piece by piece."""

    def __init__(self, names: LinkNames, entropy: Entropy) -> None:
        self._names = names
        self._desks = [_Desk(entropy.fork(f"workload/{node}")) for node in range(len(names))]

    def ask(self, world: Stage[Stack], question: Question) -> None:
        """Enter a question."""
        self._try(world, question.at, _Asking(question))

    def outcomes(self) -> list[Outcome]:
        """What has come of the questions, node by node; nothing of nodes that crashed meanwhile."""
        return [outcome for desk in self._desks for outcome in desk.outcomes]

    def handle(self, world: Stage[Stack], node: int, now: float, event: Event) -> None:
        """Act on an event of a node, if it is about circuits."""
        desk = self._desks[node]
        match event:
            case Incoming(circuit):
                desk.prompts[circuit] = bytearray()
                world.at(now, node, "accept", _accepting(circuit))
            case Opened(circuit) if circuit in desk.asking:
                prompt = desk.asking[circuit].question.prompt
                world.at(now, node, "prompt", _sending(circuit, prompt, last=True))
            case Data(circuit, _, data):
                self._read(desk, circuit, data)
            case Ended(circuit):
                self._ended(world, node, now, circuit)
            case Failed(circuit) | Lost(circuit) | Reset(circuit):
                self._lost(world, node, now, circuit)
            case Life(what="crash" | "stop"):
                desk.asking.clear()
                desk.prompts.clear()
            case _:
                pass

    def _read(self, desk: _Desk, circuit: CircuitId, data: bytes) -> None:
        if circuit in desk.prompts:
            desk.prompts[circuit] += data
        elif circuit in desk.asking:
            desk.asking[circuit].answer += data

    def _ended(self, world: Stage[Stack], node: int, now: float, circuit: CircuitId) -> None:
        desk = self._desks[node]
        if circuit in desk.prompts:
            self._answer(world, node, now, circuit, bytes(desk.prompts[circuit]))
        elif circuit in desk.asking:
            self._told(node, now, desk.asking.pop(circuit))
            world.at(now, node, "close", lambda core, when: core.close(when, circuit))

    # --- the endpoint ---

    def _answer(
        self, world: Stage[Stack], node: int, now: float, circuit: CircuitId, answer: bytes
    ) -> None:
        for start in range(0, len(answer), PIECE):
            piece, when = answer[start : start + PIECE], now + PIECE_INTERVAL * (start // PIECE)
            last = start + PIECE >= len(answer)
            world.at(when, node, "piece", _sending(circuit, piece, last=last))

    # --- the asker ---

    def _try(self, world: Stage[Stack], when: float, asking: _Asking) -> None:
        node = asking.question.node
        world.at(when, node, "ask", self._asking(world, node, asking))

    def _asking(self, world: Stage[Stack], node: int, asking: _Asking) -> Action:
        desk, question = self._desks[node], asking.question

        def ask(core: Stack, now: float) -> None:
            asking.tries += 1
            asking.answer.clear()
            try:
                worker = choice(desk.entropy, core.directory.usable(Role.WORKER)).id
                path = pick_path(
                    core.directory,
                    worker,
                    question.relays,
                    entropy=desk.entropy,
                    self_id=self._names.id(node),
                    dev=True,
                )
            except (NoPath, ValueError):  # nobody listed yet, or no longer
                self._again(world, now, asking)
                return
            asking.path = tuple(self._names.node(hop.id) for hop in path)
            desk.asking[core.open(now, path, REQUEST)] = asking

        return ask

    def _lost(self, world: Stage[Stack], node: int, now: float, circuit: CircuitId) -> None:
        desk = self._desks[node]
        desk.prompts.pop(circuit, None)
        asking = desk.asking.pop(circuit, None)
        if asking is not None:
            self._again(world, now, asking)

    def _again(self, world: Stage[Stack], now: float, asking: _Asking) -> None:
        if asking.tries < TRIES:
            self._try(world, now + PAUSE, asking)
        else:
            self._told(asking.question.node, now, asking)

    def _told(self, node: int, now: float, asking: _Asking) -> None:
        question = asking.question
        self._desks[node].outcomes.append(
            Outcome(
                question=question,
                answered=bytes(asking.answer) == question.prompt,
                tries=asking.tries,
                path=asking.path,
                seconds=now - question.at,
            )
        )


def _accepting(circuit: CircuitId) -> Action:
    return lambda core, now: core.accept(now, circuit, OFFER)


def _sending(circuit: CircuitId, data: bytes, *, last: bool) -> Action:
    def send(core: Stack, now: float) -> None:
        core.send(now, circuit, STREAM, data)
        if last:
            core.end(now, circuit, STREAM)

    return send
