"""Serving, for callers on trio: the worker's core joined to a node and an engine."""

import math
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, final

import trio

from inference.engine.base import (
    Engine,
    Failed,
    Fault,
    Generation,
    Job,
    JobEvent,
    Plan,
)
from inference.engine.base import Prompt as EnginePrompt
from inference.keeping import Keeper
from inference.limits import State as Manner
from inference.limits import Verdict
from inference.service import Service as Service
from inference.service import WorkerStatistics as WorkerStatistics
from inference.serving import Place, WorkerCore
from inference.serving_effects import (
    Accept,
    Bill,
    Cancel,
    Deny,
    End,
    Generate,
    GiveUp,
    GoOn,
    Hold,
    Keep,
    Lock,
    Prepare,
    Say,
    Settle,
)
from ledger.payment import Till
from p2p.core import Command, Event, step
from p2p.drive import SystemClock
from p2p.entropy import Entropy, SystemEntropy
from p2p.identity import Identity
from p2p.node import Node
from p2p.onion.core import CircuitId, Data, Incoming, Lost, Reset

if TYPE_CHECKING:  # the stubs that libp2p brings stand before trio's own types
    from trio_typing import TaskStatus


async def serve(
    node: Node,
    engine: Engine,
    service: Service,
    identity: Identity,
    *,
    till: Till | None = None,
    keeper: Keeper | None = None,
    entropy: Entropy | None = None,
    task_status: "TaskStatus[Serving]" = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer the circuits that end at this node until cancelled: `await nursery.start(serve, ...)`.

    `identity` is the node's, and signs offers and receipts. The engine is loaded already, and the
    caller publishes the advert (roles with `WORKER`, models with `service.listing()`) once this has
    started. A `keeper` of the engine may put the model away meanwhile. A dead engine is answered
    with refusals. A service with prices needs a `till`, which outlives this call: sessions that its
    end cuts short are settled. Raises `ValueError`.
    """
    if till is None and not service.prices.free:
        raise ValueError("a service with prices needs a till")
    mints = till.mints if till is not None else tuple
    async with trio.open_nursery() as nursery:
        core = WorkerCore(identity, service, entropy or SystemEntropy(), node.writable, mints)
        serving = Serving(core, node, keeper or Keeper(engine, Plan()), nursery, till)
        nursery.start_soon(serving.run_timers)
        nursery.start_soon(serving.watch)
        task_status.started(serving)
        try:
            async for incoming in node.incoming:
                serving.take(incoming)
        finally:
            serving.stop()
        nursery.cancel_scope.cancel()


@final
class Serving:
    """A running service; `serve` hands it out when it takes requests."""

    def __init__(
        self,
        core: WorkerCore,
        node: Node,
        keeper: Keeper,
        nursery: trio.Nursery,
        till: Till | None,
    ) -> None:
        self._core = core
        self._till = till
        self._node = node
        self._engine = keeper.engine
        self._keeper = keeper
        self._nursery = nursery
        self._clock = SystemClock()
        self._commands: deque[Command[WorkerCore]] = deque()
        self._advancing = False
        self._waiting: trio.CancelScope | None = None
        self._idle = trio.Event()

        self._incoming: dict[CircuitId, Incoming] = {}
        self._scopes: dict[int, trio.CancelScope] = {}
        self._generations: dict[int, Generation] = {}

    def statistics(self) -> WorkerStatistics:
        """A snapshot."""
        return self._core.statistics()

    @property
    def away(self) -> bool:
        """Whether the model is not in memory, and comes for the next who asks."""
        return self._keeper.away

    async def verdict(self, verdict: Verdict) -> None:
        """Serve, pause or stop as is said; returns once a stop has freed the memory."""
        self._do("verdict", lambda core, now: core.verdict(now, verdict))
        if verdict.state is Manner.STOP:
            await self._keeper.put_away()

    async def drain(self) -> None:
        """Offer no more, and wait until nothing runs or waits; the deadline is the caller's."""
        self._do("drain_out", lambda core, now: core.drain_out(now))
        while not self._core.idle:
            self._idle = trio.Event()
            await self._idle.wait()

    def stop(self) -> None:
        """Settle what is paid; nothing is answered any more."""
        self._do("stop", lambda core, now: core.stop(now))

    # --- tasks ---

    async def run_timers(self) -> None:
        """Advance the core when something is due."""
        while True:
            with trio.CancelScope() as scope:
                self._waiting = scope
                self._reschedule()
                await trio.sleep(math.inf)
            self._waiting = None
            self._do("timer", lambda core, now: None)

    async def watch(self) -> None:
        """Put the model away while nobody asks."""
        await self._keeper.watch(lambda: self._core.idle)

    def take(self, incoming: Incoming) -> None:
        """A circuit that ends here."""
        circuit, request = incoming.circuit, incoming.request
        ready, seconds = self._keeper.ready, self._keeper.seconds
        self._incoming[circuit] = incoming
        self._do("model", lambda core, now: core.model(now, ready=ready, seconds=seconds))
        self._do("incoming", lambda core, now: core.incoming(now, circuit, request))

    async def _listen(self, circuit: CircuitId) -> None:
        """Tell the core what comes through a circuit, to the circuit's end."""
        async for event in self._node.events(circuit):
            self._hear(event)
        self._do("lost", lambda core, now: core.lost(now, circuit))

    def _hear(self, event: Event) -> None:
        match event:
            case Data(circuit=circuit, stream=stream, data=data):
                place = Place(circuit, stream)
                self._do("receive", lambda core, now: core.receive(now, place, data))
            case Reset(circuit=circuit, stream=stream):
                self._do("reset", lambda core, now: core.reset(now, circuit, stream))
            case Lost(circuit=circuit):
                self._do("lost", lambda core, now: core.lost(now, circuit))
            case _:
                pass

    async def _lock(self, till: Till, lock: Lock) -> None:
        result = await till.lock(lock.spend, lock.session, lock.tick)
        self._do("locked", lambda core, now: core.locked(now, lock.token, result))

    async def _prepare(self, token: int, prompt: EnginePrompt, scope: trio.CancelScope) -> None:
        with scope:
            result = await self._keeper.prepare(prompt)
            self._scopes.pop(token, None)
            self._do("prepared", lambda core, now: core.prepared(now, token, result))

    async def _generate(self, job: Job, scope: trio.CancelScope) -> None:
        """Tell the core each event of a job; cancelled, the engine stops within a step."""
        with scope:
            async with self._engine.generate(job) as generation:
                self._generations[job.id] = generation
                async for event in generation:
                    self._tell(job.id, event)
            self._tell(job.id, Failed(fault=Fault.DIED))  # unless it has said its end
        self._generations.pop(job.id, None)
        self._scopes.pop(job.id, None)

    def _tell(self, token: int, event: JobEvent) -> None:
        self._do("generated", lambda core, now: core.generated(now, token, event))

    # --- the core ---

    def _do(self, name: str, run: Callable[[WorkerCore, float], object]) -> None:
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
        self._reschedule()
        if self._core.idle:
            self._idle.set()

    def _reschedule(self) -> None:
        if self._waiting is not None:
            deadline = self._core.next_deadline()
            wake = math.inf if deadline is None else self._clock.trio_time(deadline)
            self._waiting.deadline = wake

    def _handle(self, event: Event) -> None:
        match event:
            case Accept(circuit=circuit, reply=reply, rate=rate):
                incoming = self._incoming.pop(circuit)
                self._node.accept(incoming, reply, rate=rate, resumable=True)
                self._nursery.start_soon(self._listen, circuit)
                self._nursery.start_soon(self._keeper.fetch)
            case Deny(circuit=circuit, reply=reply):
                self._node.refuse(self._incoming.pop(circuit), reply)
            case Say(circuit=circuit, stream=stream, data=data):
                self._node.send(circuit, stream, data)
            case End(circuit=circuit, stream=stream):
                self._node.end(circuit, stream)
            case GiveUp(circuit=circuit, stream=stream, code=code):
                self._node.reset(circuit, stream, code)
            case Lock() | Keep() | Settle() | Bill():
                self._command_till(event)
            case _:
                self._command_engine(event)

    def _command_till(self, event: Lock | Keep | Settle | Bill) -> None:
        assert self._till is not None
        match event:
            case Lock():
                self._nursery.start_soon(self._lock, self._till, event)
            case Keep(lock_id=lock_id, index=index, preimage=preimage):
                self._till.keep(lock_id, index, preimage)
            case Settle(lock_id=lock_id, final=final, ticks=ticks):
                self._till.settle(lock_id, final=final, ticks=ticks)
            case Bill(lock_id=lock_id, receipt=receipt):
                self._till.bill(lock_id, receipt)

    def _command_engine(self, event: Event) -> None:
        match event:
            case Prepare(token=token, prompt=prompt):
                scope = self._scopes[token] = trio.CancelScope()
                self._nursery.start_soon(self._prepare, token, prompt, scope)
            case Generate(job=job):
                scope = self._scopes[job.id] = trio.CancelScope()
                self._nursery.start_soon(self._generate, job, scope)
            case Cancel(token=token):
                # Its deadline may come between the engine's answer and the core's hearing of it.
                if token in self._scopes:
                    self._scopes.pop(token).cancel()
            case Hold(token=token):
                if token in self._generations:
                    self._generations[token].pause()
            case GoOn(token=token):
                if token in self._generations:
                    self._generations[token].resume()
            case _:
                raise TypeError(f"{event!r} is no effect of a worker")
