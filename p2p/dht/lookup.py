"""The walk towards a key: ask who is near, then whom they name, until nobody nearer is left.

Several queries are under way at once, each node is asked once. The walk ends when the k nearest of
those that have not failed have all answered, or when one of them has what is looked for.
"""

from bisect import insort
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple, TypeAlias, TypeVar

from p2p.core import Mailbox, Procedure, Procedures
from p2p.dht.node import Node, distance
from p2p.dht.settings import Settings
from p2p.identity import AdnlId
from p2p.ton import DhtValue

MAX_CANDIDATES: Final = 1_024
"""nodes one walk remembers: 64 answers name 640 at most, and there is a start."""

T = TypeVar("T")


class Reply(NamedTuple):
    """What a node answered."""

    nodes: Sequence[Node] = ()
    value: DhtValue | None = None


Ask: TypeAlias = Callable[[Node], Coroutine[object, None, Reply | None]]
"""Puts the question to a node; None if it did not answer. Raises nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """How a walk ended."""

    value: DhtValue | None
    nearest: tuple[Node, ...]
    """The k nearest nodes that answered, nearest first."""
    hops: int
    """How many nodes, one named by the other, led to the last answer that counted: to the value, or
    to the nearest node."""
    asked: int
    failed: int


class _State(Enum):
    NEW = auto()
    ASKED = auto()
    ANSWERED = auto()
    FAILED = auto()


@dataclass(slots=True)
class _Candidate:
    node: Node
    hop: int
    state: _State = _State.NEW


async def walk(
    target: bytes, start: Sequence[Node], ask: Ask, procedures: Procedures, settings: Settings
) -> Walk:
    """Walk towards `target` from the nodes of `start`. What is under way at the end is dropped."""
    found = _Candidates(target, settings)
    for node in start:
        found.add(node, 1)

    inbox: Mailbox[tuple[_Candidate, Reply | None]] = Mailbox()
    under_way: dict[AdnlId, Procedure] = {}
    try:
        while True:
            while len(under_way) < settings.width and (candidate := found.next()) is not None:
                question = _put(ask, candidate, inbox)
                under_way[candidate.node.id] = procedures.start(question)
            if not under_way or found.complete():
                return found.end(None, found.depth())

            candidate, reply = await inbox.get()
            del under_way[candidate.node.id]
            if reply is not None and reply.value is not None:
                return found.end(reply.value, candidate.hop)
            found.take(candidate, reply)
    finally:
        for procedure in under_way.values():
            procedure.cancel()


async def together(
    procedures: Procedures, coroutines: Sequence[Coroutine[object, None, T]]
) -> list[T]:
    """Run coroutines that raise nothing, all at once, and give what they return, in any order."""
    inbox: Mailbox[T] = Mailbox()
    for coroutine in coroutines:
        procedures.start(_report(coroutine, inbox))
    return [await inbox.get() for _ in coroutines]


async def _put(
    ask: Ask, candidate: _Candidate, inbox: Mailbox[tuple[_Candidate, Reply | None]]
) -> None:
    inbox.put((candidate, await ask(candidate.node)))


async def _report(coroutine: Coroutine[object, None, T], inbox: Mailbox[T]) -> None:
    inbox.put(await coroutine)


class _Candidates:
    """Everybody heard of in a walk, nearest first."""

    def __init__(self, target: bytes, settings: Settings) -> None:
        self._target = target
        self._settings = settings
        self._known: dict[AdnlId, None] = {}
        self._sorted: list[tuple[int, _Candidate]] = []
        self._asked = self._failed = 0

    def add(self, node: Node, hop: int) -> None:
        """Somebody named this node."""
        if node.id not in self._known and len(self._known) < MAX_CANDIDATES:
            self._known[node.id] = None
            entry = (distance(node.id, self._target), _Candidate(node, hop))
            insort(self._sorted, entry, key=lambda one: one[0])

    def take(self, candidate: _Candidate, reply: Reply | None) -> None:
        """A node answered, or did not."""
        if reply is None:
            candidate.state = _State.FAILED
            self._failed += 1
            return
        candidate.state = _State.ANSWERED
        for node in reply.nodes:
            self.add(node, candidate.hop + 1)

    def next(self) -> _Candidate | None:
        """Whom to ask now; it counts as asked."""
        if self._asked >= self._settings.max_asked:
            return None
        new = (one for one in self._nearest() if one.state is _State.NEW)
        candidate = next(new, None)
        if candidate is not None:
            candidate.state = _State.ASKED
            self._asked += 1
        return candidate

    def complete(self) -> bool:
        """Whether nobody nearer can be hoped for."""
        return all(one.state is _State.ANSWERED for one in self._nearest())

    def depth(self) -> int:
        """How many hops led to the nearest node that answered."""
        return next((one.hop for one in self._answered()), 0)

    def end(self, value: DhtValue | None, hops: int) -> Walk:
        """The result."""
        return Walk(
            value=value,
            nearest=tuple(one.node for one in self._answered()),
            hops=hops,
            asked=self._asked,
            failed=self._failed,
        )

    def _nearest(self) -> list[_Candidate]:
        """The k nearest that have not failed."""
        return self._first(lambda one: one.state is not _State.FAILED)

    def _answered(self) -> list[_Candidate]:
        return self._first(lambda one: one.state is _State.ANSWERED)

    def _first(self, wanted: Callable[[_Candidate], bool]) -> list[_Candidate]:
        found: list[_Candidate] = []
        for _, candidate in self._sorted:
            if len(found) == self._settings.k:
                break
            if wanted(candidate):
                found.append(candidate)
        return found
