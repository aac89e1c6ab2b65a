"""One asker at the level of choices: real workers drawn, real paths, and what becomes of them.

What is asked, of whom and through whom is decided by the real code: `inference.asking` draws and
draws again, `p2p.onion.path` keeps guards and picks relays. What is between them, the circuit
itself, is one `Fate`: it stands, or somebody on it ends it. No byte is sent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, final

from inference.asking import AskCore, State
from inference.asking_effects import Open
from inference.engine.base import ChatMessage
from inference.market import Memory
from inference.protocol import PLAIN, Refusal
from inference.request import AskFailed, AskRequest, Chosen, Policy
from ledger.money import ZERO, Nano
from p2p.core import Command, Event, step
from p2p.entropy import Entropy
from p2p.errors import NoPath
from p2p.identity import AdnlId
from p2p.onion.cell import Code, FailCode
from p2p.onion.events import TIMED_OUT
from p2p.onion.path import Guards, pick_path
from p2p.overlay.listing import Entry
from simulations.register import MODEL, Register
from simulations.timeline import Timeline

QUESTION = AskRequest(
    messages=(ChatMessage(role="user", content="?" * 200),),
    model=f"{MODEL.label}:{MODEL.identity.hex()}",
    max_tokens=256,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What becomes of a circuit."""

    seconds: float
    """until that is known"""
    ended_by: int | None = None
    """The place in the path of who ends it; None: it stands."""
    opened: bool = False
    """Whether the worker's offer came back before it ended."""


class Fates(Protocol):
    """The network and its attackers, as an asker meets them."""

    def fate(self, now: float, asker: int, path: Sequence[AdnlId]) -> Fate:
        """What becomes of this circuit on its way: relays, then the worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A circuit that stands."""

    asker: int
    path: tuple[AdnlId, ...]
    """The relays, then the worker."""
    slots: int
    """operators the worker was drawn among"""
    circuits: int
    """begun for it, this one included"""
    seconds: float
    """from the wish to the circuit"""


class Errand(Protocol):
    """What an ask is for: told once whether a circuit stands or nothing came of it."""

    def admits(self, path: Sequence[AdnlId]) -> Refusal | None:
        """What the worker says when a circuit has come to it; None: yes."""

    def stands(self, conversation: Conversation) -> None:
        """A worker has said yes."""

    def fails(self, failed: AskFailed) -> None:
        """Nobody will."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How an asker asks."""

    relays: int = 3
    guards: bool = True
    """Whether it keeps guards; else the first relay is drawn each time."""
    max_price: Nano = ZERO
    mints: tuple[AdnlId, ...] = ()
    """Whose credits it may spend."""
    request: AskRequest = QUESTION


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all askers of an experiment have in common."""

    timeline: Timeline
    register: Register
    fates: Fates
    habits: Habits


@final
class Asker:
    """A client over all its conversations: its guards and its memory of workers last."""

    def __init__(self, index: int, me: AdnlId, around: Surroundings, entropy: Entropy) -> None:
        habits = around.habits
        self.index = index
        self.me = me
        self.around = around
        self.entropy = entropy.fork("paths")
        self.guards = Guards(entropy.fork("guards")) if habits.guards else None
        self.policy = Policy(
            memory=Memory(),
            relays=habits.relays,
            max_price=habits.max_price,
            entropy=entropy.fork("asks"),
        )
        self.asking = 0
        """Asks that have come neither to a circuit nor to their end."""

    def ask(self, entries: Sequence[Entry], errand: Errand) -> None:
        """Begin a conversation with one of these workers."""
        _Ask(self, entries, errand).begin()

    def sizes(self) -> dict[str, int]:
        """The length of every table."""
        guards = 0 if self.guards is None else len(self.guards)
        return {"guards": guards, "asking": self.asking, **self.policy.memory.sizes()}


@final
class _Ask:
    """Drives one core to its circuit, as `inference.client` does on trio."""

    def __init__(self, asker: Asker, entries: Sequence[Entry], errand: Errand) -> None:
        self._asker = asker
        self._around = asker.around
        self._timeline = asker.around.timeline
        self._entries = entries
        self._errand = errand
        self._core = AskCore(asker.around.habits.request, asker.policy, asker.me)
        self._began = self._timeline.now
        self._circuits = self._slots = 0
        self._waiting = False
        """Whether something of it stands in the timeline."""

    def begin(self) -> None:
        self._asker.asking += 1
        mints = self._around.habits.mints
        self._do("start", lambda core, now: core.start(now, mints))
        self._do("listed", lambda core, now: core.listed(now, self._entries))

    def _do(self, name: str, run: Callable[[AskCore, float], object]) -> None:
        timeline, index = self._timeline, self._asker.index
        _, events = step(self._core, timeline.now, [Command(name, run)], [], timeline.log, index)
        for event in events:
            self._handle(event)
        if name != "start" and not self._waiting and self._core.state is not State.DONE:
            self._wait()

    def _handle(self, event: Event) -> None:
        match event:
            case Open():
                self._open(event)
            case Chosen(slots=slots):
                self._slots = slots
            case AskFailed() if self._core.state is State.DONE:
                self._asker.asking -= 1
                self._errand.fails(event)
            case _:
                pass

    def _wait(self) -> None:
        """No circuit is being built: the core makes a pause."""
        deadline = self._core.next_deadline()
        assert deadline is not None
        self._waiting = True
        self._timeline.at(deadline, self._wake)

    def _wake(self) -> None:
        self._waiting = False
        self._do("timer", lambda core, now: None)

    # --- the circuit ---

    def _open(self, wanted: Open) -> None:
        attempt, now = wanted.attempt, self._timeline.now
        path = self._path(wanted)
        if path is None:
            self._do("unopened", lambda core, now: core.unopened(now, attempt, full=False))
            return
        self._circuits += 1
        self._waiting = True
        self._do("opening", lambda core, now: core.opening(now, attempt, path))
        fate = self._around.fates.fate(now, self._asker.index, path)
        self._timeline.after(fate.seconds, lambda: self._met(attempt, path, fate))

    def _path(self, wanted: Open) -> tuple[AdnlId, ...] | None:
        asker = self._asker
        try:
            path = pick_path(
                self._around.register,
                wanted.worker,
                asker.policy.relays,
                entropy=asker.entropy,
                self_id=asker.me,
                dev=False,
                guards=asker.guards,
                now=self._timeline.now,
                suspects=wanted.suspects,
            )
        except NoPath:
            return None
        return tuple(target.id for target in path)

    def _met(self, attempt: int, path: tuple[AdnlId, ...], fate: Fate) -> None:
        now, self._waiting = self._timeline.now, False
        place, last = fate.ended_by, len(path) - 1
        refusal = self._errand.admits(path) if place is None else None
        beyond = place is None or fate.opened or place > 1
        if self._asker.guards is not None:  # as circuits tell them: has anybody beyond answered?
            self._asker.guards.tried(now, path[0], passed=beyond)
            if place is None or fate.opened:
                self._asker.guards.ended(now, path[0], killed=place in (0, 1))

        if refusal is not None:
            reason = PLAIN + refusal.encode()
            self._do("failed", lambda core, t: core.failed(t, attempt, last, Code.REFUSED, reason))
        elif place is None:
            self._stood(path)
        elif fate.opened:
            self._lost(attempt, place)
        else:
            self._failed(attempt, place)

    def _failed(self, attempt: int, place: int) -> None:
        """Who stands before the one that is silent says so; of the guard's silence nobody does."""
        hop, status = (place - 1, int(Code.UNREACHABLE)) if place else (None, TIMED_OUT)
        self._do("failed", lambda core, now: core.failed(now, attempt, hop, status, b""))

    def _lost(self, attempt: int, place: int) -> None:
        hop, code = (place - 1, int(FailCode.NEXT_DESTROYED)) if place else (None, 0)
        self._do("lost", lambda core, now: core.lost(now, attempt, hop, code))

    def _stood(self, path: tuple[AdnlId, ...]) -> None:
        """The rest of the ask, with offer and answer, is not played here."""
        self._do("cancel", lambda core, now: core.cancel(now))
        self._asker.asking -= 1
        self._errand.stands(
            Conversation(
                asker=self._asker.index,
                path=path,
                slots=self._slots,
                circuits=self._circuits,
                seconds=self._timeline.now - self._began,
            )
        )
