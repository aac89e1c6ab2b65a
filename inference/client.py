"""Asking, for callers on trio: the asker's core joined to a node."""

import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final, Self, final

import trio

from inference.asking import AskCore, State
from inference.asking_effects import (
    Collect,
    Leave,
    Open,
    Release,
    Reserve,
    Resume,
    Say,
    Upload,
)
from inference.protocol import Abort
from inference.request import AskEvent as AskEvent
from inference.request import AskFailed as AskFailed
from inference.request import AskRequest as AskRequest
from inference.request import Chosen as Chosen
from inference.request import Code as Code
from inference.request import Done as Done
from inference.request import Finish as Finish
from inference.request import Offered as Offered
from inference.request import Piece as Piece
from inference.request import Policy as Policy
from inference.request import Progress as Progress
from inference.request import Refused as Refused
from inference.request import Timing as Timing
from ledger.payment import Bought as Bought
from ledger.payment import CannotPay, PurchaseStep, Purse
from ledger.payment import Opening as Opening
from ledger.payment import Purchase as Purchase
from p2p.core import Command, Event, step
from p2p.drive import SystemClock
from p2p.errors import DirectoryStale, NoCapacity, NoPath
from p2p.identity import AdnlId
from p2p.node import Node
from p2p.onion.core import (
    Broken,
    CircuitId,
    Data,
    Ended,
    Failed,
    Lost,
    Opened,
    Reset,
    Resumed,
    Unresumed,
)
from p2p.overlay.advert import Role

STREAM: Final = 1
"""The stream of a circuit's first request, whose want stands in the circuit's own."""

UPLOAD_PAUSE: Final = 0.02
"""seconds between looks at whether a circuit takes more of a long prompt, or a tick"""


@asynccontextmanager
async def ask(request: AskRequest, node: Node, policy: Policy) -> AsyncIterator["Answer"]:
    """Ask, and read the answer as it is made.

    `async with ask(request, node, policy) as answer: async for event in answer: ...`

    Exactly one `Done` or `AskFailed` comes last, inside `policy.deadline_s`; `Chosen` and `Offered`
    come again if another worker is tried. Leaving the block cancels: the worker stops within a
    step, and coins that it has not earned return. Nothing that a peer or a request does raises.
    """
    try:
        async with trio.open_nursery() as nursery:
            asking = _Asking(AskCore(request, policy, node.id), node, policy, nursery)
            nursery.start_soon(asking.run)
            yield asking.answer
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise _only_one(group) from None


@final
class Answer:
    """The events of one ask, ending after `Done` or `AskFailed`."""

    def __init__(self, stop: Callable[[], None]) -> None:
        # Not bounded here: the core bounds the answer, and a caller that does not read must not
        # keep the core from its timers.
        self._put, self._events = trio.open_memory_channel[AskEvent](math.inf)
        self._stop = stop

    def stop(self) -> None:
        """Want no more of it: an `AskFailed` comes that says what it has cost, if nothing has."""
        self._stop()

    def put(self, event: AskEvent) -> None:
        """Add an event; the last kinds end the iteration behind them."""
        self._put.send_nowait(event)
        if isinstance(event, Done | AskFailed):
            self._put.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AskEvent:
        return await self._events.__anext__()


@final
class _Asking:
    """Drives one core: its effects go to the node, its events to the caller."""

    def __init__(self, core: AskCore, node: Node, policy: Policy, nursery: trio.Nursery) -> None:
        self._core = core
        self._node = node
        self._policy = policy
        self._purse = policy.purse
        self._nursery = nursery
        self._turning = trio.CancelScope()
        self._clock = SystemClock()
        self._commands: deque[Command[AskCore]] = deque()
        self._advancing = False
        self._circuit: _Circuit | None = None
        self.answer = Answer(self._stop)

    async def run(self) -> None:
        """Drive the ask to its end; cancelled, it tells the worker to stop."""
        try:
            mints = self._purse.mints() if self._purse is not None else ()
            self._do("start", lambda core, now: core.start(now, mints))
            await self._join()
            while self._core.state is not State.DONE:
                await self._turn()
        finally:
            self._do("cancel", lambda core, now: core.cancel(now))

    def _stop(self) -> None:
        self._do("stop", lambda core, now: core.stop(now))
        self._turning.cancel()

    async def _join(self) -> None:
        with trio.move_on_at(self._wake()):
            await self._node.joined()
            workers = self._node.directory.usable(Role.WORKER)
            self._do("listed", lambda core, now: core.listed(now, workers))

    async def _turn(self) -> None:
        """Wait for the next event of the circuit, until something is due, or until nudged."""
        circuit, event = self._circuit, None
        with trio.CancelScope(deadline=self._wake()) as self._turning:
            event = await self._next_event(circuit)
        if circuit is None or circuit is not self._circuit:
            self._do("timer", lambda core, now: None)
            return
        self._hear(circuit, event)
        self._push(circuit)

    async def _next_event(self, circuit: "_Circuit | None") -> Event:
        if circuit is None:
            await trio.sleep_forever()
        try:
            return await circuit.events.receive()
        except trio.EndOfChannel:
            return Lost(circuit.id, None)
        except trio.ClosedResourceError:  # the core has left the circuit meanwhile
            return None

    async def _reserve(self, purse: Purse, wanted: Reserve) -> None:
        """Have coins set aside; the turn that waits meanwhile begins anew."""
        attempt = wanted.attempt
        try:
            payment = await purse.prepare(wanted.terms, self._told)
        except CannotPay as error:
            reason, detail = error.reason, str(error)
            self._do("unreserved", lambda core, now: core.unreserved(now, attempt, reason, detail))
        else:
            self._do("reserved", lambda core, now: core.reserved(now, attempt, payment))
        self._turning.cancel()

    def _told(self, step: PurchaseStep) -> None:
        """Pass on how a purchase goes, as long as anybody hears."""
        if self._core.state is not State.DONE:
            self.answer.put(step)

    def _wake(self) -> float:
        """When to look again, on trio's clock."""
        deadline = self._core.next_deadline()
        wake = math.inf if deadline is None else self._clock.trio_time(deadline)
        if self._circuit is not None and (self._circuit.upload or self._circuit.tick):
            wake = min(wake, trio.current_time() + UPLOAD_PAUSE)
        return wake

    def _hear(self, circuit: "_Circuit", event: Event) -> None:
        attempt = circuit.attempt
        match event:
            case Opened(offer=reply):
                circuit.open = True
                self._do("opened", lambda core, now: core.opened(now, attempt, reply))
            case Failed(hop=hop, status=status, reason=reason):
                self._do("failed", lambda core, now: core.failed(now, attempt, hop, status, reason))
            case Data(stream=stream, data=data) if stream == STREAM:
                self._do("receive", lambda core, now: core.receive(now, attempt, data))
            case Ended():
                self._do("ended", lambda core, now: core.ended(now, attempt))
            case Reset(code=code):
                self._do("reset", lambda core, now: core.reset(now, attempt, code))
            case Lost(hop=hop, code=code):
                self._do("lost", lambda core, now: core.lost(now, attempt, hop, code))
            case Broken() | Resumed() | Unresumed():
                self._hear_break(attempt, event)
            case _:
                self._do("timer", lambda core, now: None)

    def _hear_break(self, attempt: int, event: Broken | Resumed | Unresumed) -> None:
        """Of a circuit that ends in mid-answer, and of the one in its place."""
        match event:
            case Broken(hop=hop, code=code):
                self._do("broken", lambda core, now: core.broken(now, attempt, hop, code))
            case Resumed():
                self._do("resumed", lambda core, now: core.resumed(now, attempt))
            case Unresumed(hop=hop, status=status):
                self._do("unresumed", lambda core, now: core.unresumed(now, attempt, hop, status))

    def _do(self, name: str, run: Callable[[AskCore, float], object]) -> None:
        """Advance the core by a command; what its effects command in turn comes after them."""
        self._commands.append(Command(name, run))
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._commands:
                _, events = step(self._core, self._clock.now(), [self._commands.popleft()], [])
                for event in events:
                    self._handle(event)
        finally:
            self._advancing = False

    def _handle(self, event: Event) -> None:
        match event:
            case Open():
                self._open(event)
            case Resume():
                self._resume(event)
            case Upload():
                self._upload(event)
            case Say(data=data):
                self._say(data)
            case Leave(whole=whole):
                self._leave(whole=whole)
            case Reserve() | Release() | Collect():
                self._command_purse(event)
            case _:
                self._tell(event)

    def _command_purse(self, event: Reserve | Release | Collect) -> None:
        assert self._purse is not None
        match event:
            case Reserve():
                self._nursery.start_soon(self._reserve, self._purse, event)
            case Release(payment=payment):
                self._purse.release(payment)
            case Collect(payment=payment, locked=locked, revealed=revealed, owed=owed):
                self._purse.collect(payment, locked=locked, revealed=revealed, owed=owed)

    def _tell(self, event: Event) -> None:
        if isinstance(event, Done) and self._circuit is not None:
            event = replace(event, shape=self._node.shape(self._circuit.id))
        if isinstance(event, AskEvent):
            self.answer.put(event)

    # --- the circuit ---

    def _open(self, wanted: Open) -> None:
        attempt = wanted.attempt
        try:
            path = self._node.path(wanted.worker, self._policy.relays, wanted.suspects)
            circuit = self._node.open(path, wanted.request, rate=wanted.rate, resumable=True)
        except NoCapacity:
            self._do("unopened", lambda core, now: core.unopened(now, attempt, full=True))
        except (NoPath, DirectoryStale):
            self._do("unopened", lambda core, now: core.unopened(now, attempt, full=False))
        else:
            self._circuit = _Circuit(attempt, circuit, self._node.events(circuit))
            hops: list[AdnlId] = [target.id for target in path]
            self._do("opening", lambda core, now: core.opening(now, attempt, hops))

    def _resume(self, wanted: Resume) -> None:
        circuit, attempt = self._circuit, wanted.attempt
        if circuit is None:
            return
        try:
            path = self._node.path(wanted.worker, self._policy.relays, wanted.suspects)
        except (NoPath, DirectoryStale):
            self._do("unresumed", lambda core, now: core.unresumed(now, attempt, None, None))
            return
        hops: list[AdnlId] = [target.id for target in path]
        self._do("resuming", lambda core, now: core.resuming(now, attempt, hops))
        self._node.resume(circuit.id, path)

    def _upload(self, upload: Upload) -> None:
        circuit = self._circuit
        if circuit is not None:
            circuit.upload = memoryview(upload.data)
            self._push(circuit)

    def _say(self, data: bytes) -> None:
        """Send a tick, or keep it until there is room; a later one pays for it, too."""
        circuit = self._circuit
        if circuit is not None:
            circuit.tick = data
            self._push(circuit)

    def _push(self, circuit: "_Circuit") -> None:
        """Send what the circuit takes now."""
        if circuit.upload:
            self._push_prompt(circuit)
        elif circuit.tick and len(circuit.tick) <= self._node.writable(circuit.id):
            self._node.send(circuit.id, STREAM, circuit.tick)
            circuit.tick = b""
            self._do("said", lambda core, now: self._said(core, now, circuit))

    def _said(self, core: AskCore, now: float, circuit: "_Circuit") -> None:
        if not circuit.tick:  # no later one waits by now
            core.said(now, circuit.attempt)

    def _push_prompt(self, circuit: "_Circuit") -> None:
        """As much of the prompt as there is room for; END behind the last."""
        room = self._node.writable(circuit.id)
        data, circuit.upload = circuit.upload[:room], circuit.upload[room:]
        if data:
            self._node.send(circuit.id, STREAM, bytes(data))
        if not circuit.upload:
            self._node.end(circuit.id, STREAM)
            self._do("uploaded", lambda core, now: core.uploaded(now, circuit.attempt))

    def _leave(self, *, whole: bool) -> None:
        circuit, self._circuit = self._circuit, None
        if circuit is None:
            return
        if circuit.open and not whole:
            self._node.reset(circuit.id, STREAM, Abort.CANCELLED)
        self._node.close(circuit.id)
        circuit.events.close()


@final
class _Circuit:
    """The circuit of the newest try."""

    def __init__(
        self, attempt: int, circuit: CircuitId, events: "trio.MemoryReceiveChannel[Event]"
    ) -> None:
        self.attempt = attempt
        self.id = circuit
        self.events = events
        self.open = False
        self.upload = memoryview(b"")
        self.tick = b""
        """The newest, while there is no room for it."""


def _only_one(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What the block raised, not wrapped: a caller sees its own exception."""
    return group.exceptions[0] if len(group.exceptions) == 1 else group
