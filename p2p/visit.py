"""A visit to a DHT for callers on trio: a socket for as long as the block runs."""

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import TypeVar, final

import trio

from p2p.core import Event
from p2p.dht.core import DhtCore, Seed
from p2p.dht.events import Joined
from p2p.dht.settings import DEFAULT, Settings
from p2p.drive import Driver, SystemClock
from p2p.entropy import Entropy, SystemEntropy
from p2p.errors import TussahError, only_one
from p2p.identity import SEED_SIZE, Identity
from p2p.ton import DhtNode
from p2p.transport.udp import UdpTransport
from p2p.visitor import Visitor
from p2p.wire import Endpoint

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitConfig:
    """Which DHT, and by whom it is entered."""

    seeds: Sequence[DhtNode | Seed]
    network: int | None
    """None: TON's, whose records name no network."""
    bind: Endpoint
    settings: Settings = DEFAULT
    entropy: Entropy = field(default_factory=SystemEntropy)


@asynccontextmanager
async def visit(config: VisitConfig) -> AsyncIterator["Visit"]:
    """Ask a DHT under a key made for this visit alone. Raises `LocalError` if it cannot bind."""
    with closing(UdpTransport([config.bind])) as transport:
        try:
            async with trio.open_nursery() as nursery:
                visiting = Visit(config, transport)
                try:
                    await visiting.start(nursery)
                    yield visiting
                finally:
                    visiting.finish()
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise only_one(group) from None


@final
class Visit:
    """What `visit` gives."""

    def __init__(self, config: VisitConfig, transport: UdpTransport) -> None:
        self._seeds = config.seeds
        self._joined = trio.Event()
        clock = SystemClock()
        self._visitor = Visitor(
            Identity(config.entropy.token(SEED_SIZE)),
            config.entropy,
            started_at=clock.now(),
            network=config.network,
            settings=config.settings,
        )
        self._driver = Driver(self._visitor, transport, self, clock)

    async def start(self, nursery: trio.Nursery) -> None:
        """Begin with the seeds. `visit` has called it."""
        await nursery.start(self._driver.run)
        self._driver.call("start", lambda core, now: core.start(now, self._seeds))

    def finish(self) -> None:
        """Give up what is under way. `visit` calls it."""
        self._visitor.finish()

    def handle(self, now: float, event: Event) -> None:
        """See `Effects`: of all that is told, only whether there is somebody to ask matters."""
        if isinstance(event, Joined):
            self._joined.set()

    async def joined(self) -> None:
        """Wait until a node has answered; the deadline is the caller's."""
        await self._joined.wait()

    async def run(self, make: Callable[[DhtCore], Coroutine[object, None, T]]) -> T:
        """Run a coroutine over the DHT, and return what it returns or raise what it raises."""
        outcome: list[T | TussahError] = []
        done = trio.Event()

        async def errand(coroutine: Coroutine[object, None, T]) -> None:
            try:
                outcome.append(await coroutine)
            except TussahError as error:
                outcome.append(error)
            finally:
                done.set()

        procedure = self._driver.call(
            "visit", lambda core, now: core.run(now, errand(make(core.dht)))
        )
        try:
            await done.wait()
        finally:
            self._driver.call("cancel", lambda core, now: procedure.cancel())
        if isinstance(outcome[0], TussahError):
            raise outcome[0]
        return outcome[0]
