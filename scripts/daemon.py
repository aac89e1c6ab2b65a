"""A running node: its rooms wired together, and taken apart.

Order of the start: home and lock, control API and local API, network, then engine and advert. A
part that fails does not close the others; `status` says which and why. The end is gentle at first:
nothing new is taken, running answers finish; asked twice, it is at once.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias, final

import structlog
import trio
from starlette.routing import BaseRoute

from inference.client import Answer, AskRequest, Done
from ledger.earnings import By
from ledger.payment import Told
from p2p.identity import Identity
from p2p.node import Node
from p2p.store import NodeStore
from scripts import joining, networks, notify, process, serving, version
from scripts import log as logs
from scripts.api import control, local
from scripts.api import server as http
from scripts.api.answer import Terms
from scripts.api.asking import Wish
from scripts.api.connection import Limits
from scripts.api.openai import app as openai
from scripts.api.openai import door
from scripts.api.openai.access import Access
from scripts.failure import Document, unwrap
from scripts.home import Home, locked
from scripts.joining import Recorder
from scripts.library import Library
from scripts.networks import Profile
from scripts.node.asks import Asks
from scripts.node.lookups import Lookups
from scripts.node.money import Money
from scripts.node.roles import Roles
from scripts.node.shelf import Shelf
from scripts.node.site import Site
from scripts.node.standing import Standing
from scripts.settings import Settings

if TYPE_CHECKING:  # the stubs that libp2p brings stand before trio's own types
    from trio_typing import TaskStatus

log = structlog.get_logger()

DRAIN_SECONDS: Final = 60.0
"""For running answers, once the node is to stop."""

WITHDRAW_SECONDS: Final = 3.0
"""For telling the network that we leave; its lists forget us anyway."""

LINGER_SECONDS: Final = 5.0
"""For circuits that are still open when all answers are done: some may stay so for long."""

LINGER_PAUSE: Final = 0.05
"""seconds between looks at them, once in a node's life."""

CLOSE_SECONDS: Final = 2.0
"""For the last words of the control API, when nothing runs any more."""


Routes: TypeAlias = Callable[["Daemon"], Sequence[BaseRoute]]
"""What a demonstration adds to the control API of a node that it watches."""


async def run(
    settings: Settings,
    *,
    home: Home,
    recorder: Recorder | None = None,
    routes: Routes | None = None,
    task_status: "TaskStatus[Daemon]" = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a node until `Daemon.stop` and its drain, or until cancelled.

    Started with the `Daemon` once the control API answers and the node listens; `routes` adds to
    that API. Raises `Failed` if the node cannot start: no network, home in use, port taken.
    """
    home.prepare()
    with locked(home):
        profile = networks.select(home, settings.network)
        daemon = Daemon(settings, home=home, profile=profile)
        try:
            async with (
                _controlled(daemon, routes),
                _local(daemon),
                _networked(daemon.site, recorder),
            ):
                task_status.started(daemon)
                await daemon.live()
        except BaseExceptionGroup as group:
            raise unwrap(group) from None


@asynccontextmanager
async def _controlled(daemon: "Daemon", routes: Routes | None) -> AsyncIterator[None]:
    """The control API, from before the network is there to after it is gone."""
    home = daemon.site.home
    home.prepare_socket()
    app = control.app(daemon, routes(daemon) if routes else ())
    limits = Limits(grace_seconds=CLOSE_SECONDS)
    try:
        async with trio.open_nursery() as nursery:
            listeners = [local.listen(home.socket)]
            server = await nursery.start(partial(http.serve, app, listeners, limits=limits))
            yield
            server.close()
    finally:
        home.socket.unlink(missing_ok=True)


@asynccontextmanager
async def _local(daemon: "Daemon") -> AsyncIterator[None]:
    """The API for other programs, if it is wanted."""
    site, settings = daemon.site, daemon.site.settings.api
    listeners = await door.opened(settings.port)
    if not listeners:
        yield
        return
    port = site.api_port = door.port_of(listeners)
    key = site.home.api_secret() if settings.key_required else None
    inner = openai.app(daemon, most=settings.max_requests, created=int(site.started))
    app = Access(inner, port=port, key=key, origins=settings.origins)
    limits = Limits(grace_seconds=CLOSE_SECONDS)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(http.serve, app, listeners, limits=limits))
        yield
        server.close()


@asynccontextmanager
async def _networked(site: Site, recorder: Recorder | None) -> AsyncIterator[None]:
    """The node of the network, as long as the block runs."""
    try:
        with _kept(site) as store:
            async with joining.opened(
                site.settings, site.profile, site.identity, site.flags(), recorder, store
            ) as node:
                site.node = node
                yield
    finally:
        site.node = None


@contextmanager
def _kept(site: Site) -> Iterator[NodeStore]:
    """What the node keeps of the network over restarts: of who only asks, its guards."""
    with NodeStore.open(site.home.network_store) as store:
        yield store


@final
class Daemon:
    """A node as the control API sees it, an `Operator`: each request goes to its room."""

    def __init__(self, settings: Settings, *, home: Home, profile: Profile) -> None:
        self.site = Site(settings, home=home, profile=profile)
        self._roles = Roles(self.site)
        self._asks = Asks(self.site, self._roles)
        self._money = Money(self.site, self._roles)
        self.lookups = Lookups(self.site)
        self._standing = Standing(self.site, self._roles, self._asks)
        self.shelf = Shelf(self.site, self._roles, self._standing.models)

    @property
    def identity(self) -> Identity:
        """Who it is."""
        return self.site.identity

    @property
    def node(self) -> Node | None:
        """Its place in the network; None before and after."""
        return self.site.node

    @property
    def stopping(self) -> trio.Event:
        """Set once it is to stop."""
        return self.site.stopping

    # --- life ---

    async def live(self) -> None:
        """Do what the roles ask for, until `stop` and the drain after it."""
        async with trio.open_nursery() as parts:
            parts.start_soon(self.site.watch_join)
            parts.start_soon(self.lookups.offer)
            parts.start_soon(notify.watchdog, self.status)
            self._roles.start(parts)
            await self.stopping.wait()
            await self._drain()
            parts.cancel_scope.cancel()

    def stop(self) -> None:
        """Begin to drain; returns at once."""
        if not self.stopping.is_set():
            log.info("node.stopping")
            notify.tell("STOPPING=1")
            self.stopping.set()

    async def _drain(self) -> None:
        """Take nothing new, leave the list, and let running answers finish, for a minute."""
        with trio.move_on_after(DRAIN_SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._withdraw)
                nursery.start_soon(self._finish_serving)
                nursery.start_soon(self._asks.finish)
        with trio.move_on_after(LINGER_SECONDS):
            await self._last_circuits()

    async def _withdraw(self) -> None:
        if self.node is not None and self.site.roles:
            with trio.move_on_after(WITHDRAW_SECONDS):
                await self.node.withdraw()

    async def _finish_serving(self) -> None:
        if self._roles.serving is not None:
            await self._roles.serving.drain()

    async def _last_circuits(self) -> None:
        """Wait until the askers have hung up: what was sent last, a receipt, has arrived then."""
        node = self.site.running()
        while (onion := node.statistics().onion).circuits or onion.passages:  # noqa: ASYNC110
            await trio.sleep(LINGER_PAUSE)  # nothing signals the end of the last circuit

    # --- how it stands ---

    def version(self) -> Document:
        """What is running."""
        return version.document()

    def id(self) -> Document:
        """Who it is."""
        return self._standing.id()

    async def status(self) -> Document:
        """How it is."""
        return await self._standing.status()

    async def metrics(self) -> bytes:
        """How it is, for Prometheus."""
        return await self._standing.metrics()

    def peers(self) -> Document:
        """Whom it knows."""
        return self._standing.peers()

    def circuits(self) -> Document:
        """What passes."""
        return self._standing.circuits()

    def models(self) -> Document:
        """What can be asked."""
        return self._standing.models()

    def up(self) -> Document:
        """What `tussah up` says once the node is there."""
        return self._standing.up()

    def limits(self) -> Document:
        """How its worker stands with the machine. Raises `Failed` if there is none."""
        return self._standing.worker()

    async def order(self, action: str, seconds: float | None) -> Document:
        """Have its worker start, stop, pause or resume. Raises `Failed` if there is none."""
        self._standing.worker()
        await self._roles.manners.order(action, seconds)
        return self._standing.worker()

    # --- asks ---

    @property
    def is_joined(self) -> bool:
        """Whether it knows the network."""
        return self.site.joined

    @property
    def running(self) -> int:
        """Requests under way."""
        return self._asks.running

    def answer(self, request: AskRequest, wish: Wish) -> AbstractAsyncContextManager[Answer]:
        """Ask the network. Raises `Failed` if this node cannot ask now."""
        return self._asks.answer(request, wish)

    def terms(self) -> Terms:
        """What the documents of an ask say of the network."""
        return self._asks.terms()

    async def keep(self, done: Done) -> None:
        """Keep a receipt."""
        await self._asks.keep(done)

    # --- money ---

    async def wallet(self) -> Document:
        """What this node has."""
        return await self._money.wallet()

    async def unlock(self, passphrase: str) -> Document:
        """Open an encrypted wallet. Raises `Failed`."""
        return await self._money.unlock(passphrase)

    async def vouchers(self) -> Document:
        """A backup of its vouchers, sealed. Raises `Failed`."""
        return await self._money.vouchers()

    async def credits(self) -> Document:
        """The credits at hand."""
        return await self._money.credits()

    async def buy(self, bundle: str | None, told: Told) -> Document:
        """Buy credits, telling how it goes. Raises `Failed`."""
        return await self._money.buy(bundle, told)

    async def lanes(self) -> Document:
        """Its lanes."""
        return await self._money.lanes()

    async def move(self, action: str, lane: str) -> Document:
        """Settle or close a lane. Raises `Failed`."""
        return await self._money.move(action, lane)

    async def audit(self) -> Document:
        """The balance sheet of its mint. Raises `Failed`."""
        return await self._money.audit()

    async def shared(self) -> Document:
        """Its vouchers, for a friend. Raises `Failed`."""
        return await self._money.shared()

    async def watch(self, body: object) -> Document:
        """Watch a friend's lanes. Raises `Failed`."""
        return await self._money.watch(body)

    async def receipts(self) -> Document:
        """What workers have signed for."""
        return await self._money.receipts()

    async def signed(self) -> Document:
        """What it has signed for, as a worker."""
        return await self._money.signed()

    async def earnings(self, by: By) -> Document:
        """What it has earned."""
        return await self._money.earnings(by)

    async def deposit(self, amount: str | None) -> Document:
        """Where coins for it go. Raises `Failed`."""
        return await self._money.deposit(amount)

    async def withdraw(self, to: str, amount: str, key: str) -> Document:
        """Send coins away. Raises `Failed`."""
        return await self._money.withdraw(to, amount, key)


# --- as a process ---


def main(
    settings: Settings,
    *,
    home: Home,
    ready: Callable[[Document], None],
    recorder: Recorder | None = None,
    routes: Routes | None = None,
) -> int:
    """Run a node as this process: `ready` is told when it is up. Returns the exit status.

    The first SIGINT or SIGTERM drains (0), the second ends at once (130). Raises `Failed` if the
    node cannot start.
    """
    if "worker" in settings.node.roles:
        serving.check(settings.worker, Library(home))
    with logs.configured(settings.log):
        start = partial(run, settings, home=home, recorder=recorder, routes=routes)
        return trio.run(process.live, start, partial(_up, ready))


def _up(ready: Callable[[Document], None], document: Document) -> None:
    ready(document)
    notify.tell("READY=1")
