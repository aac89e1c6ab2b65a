"""A running node: network, engine, worker and control API, wired together and taken apart.

Order of the start: home and lock, control API, network, then engine and advert. A part that fails
does not close the others; `status` says which and why. The end is gentle at first: nothing new is
taken, running answers finish; asked twice, it is at once.
"""

import math
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias, final

import structlog
import trio
from starlette.routing import BaseRoute

from inference import client as asker
from inference.client import Answer, AskRequest, Done, Policy
from inference.engine import base
from inference.engine.base import Engine, EngineState, Plan
from inference.market import Memory
from inference.worker import Service, Serving, serve
from ledger import desk, tariff
from ledger.money import Nano
from ledger.policy import DEV, MAIN
from ledger.till import Till
from p2p.entropy import SystemEntropy
from p2p.errors import LocalError
from p2p.identity import Identity
from p2p.node import Node
from p2p.overlay.advert import Fields, Role
from p2p.overlay.directory import Entry
from scripts import funds, joining, networks, process, serving, version
from scripts import log as logs
from scripts.api import control, listing, local
from scripts.api import server as http
from scripts.api import status as statuses
from scripts.api.answer import Terms
from scripts.api.asking import Wish
from scripts.api.common import address
from scripts.api.status import Alert, NodeState, PurseState, WorkerState
from scripts.failure import Document, Failed, unwrap
from scripts.funds import Treasury
from scripts.home import SEED_BYTES, Home, locked
from scripts.joining import Recorder
from scripts.networks import Profile
from scripts.serving import Model
from scripts.settings import Settings

if TYPE_CHECKING:  # the stubs that libp2p brings stand before trio's own types
    from trio_typing import TaskStatus

log = structlog.get_logger()

JOIN_SECONDS: Final = 15.0
"""An ask waits so long for the directory: three tries of a bootstrap peer."""

DRAIN_SECONDS: Final = 60.0
"""For running answers, once the node is to stop."""

WITHDRAW_SECONDS: Final = 3.0
"""For telling the network that we leave; its lists forget us anyway."""

LINGER_SECONDS: Final = 5.0
"""For circuits that are still open when all answers are done: some may stay so for long."""

TILL_SECONDS: Final = 0.2
"""Between looks at whether a mint can pay this worker, at its start."""

ENGINE_SECONDS: Final = 5.0
"""Between looks at whether the engine has given up."""

LINGER_PAUSE: Final = 0.05
"""seconds between looks at them, once in a node's life."""

CLOSE_SECONDS: Final = 2.0
"""For the last words of the control API, when nothing runs any more."""

EVERYBODY: Final = Role(0)
"""The role that every listed node has."""


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
            async with _controlled(daemon, routes), _networked(daemon, recorder):
                task_status.started(daemon)
                await daemon.live()
        except BaseExceptionGroup as group:
            raise unwrap(group) from None


@asynccontextmanager
async def _controlled(daemon: "Daemon", routes: Routes | None) -> AsyncIterator[None]:
    """The control API, from before the network is there to after it is gone."""
    daemon.home.prepare_socket()
    app = control.app(daemon, routes(daemon) if routes else ())
    limits = http.Limits(grace_seconds=CLOSE_SECONDS)
    try:
        async with trio.open_nursery() as nursery:
            listeners = [local.listen(daemon.home.socket)]
            server = await nursery.start(partial(http.serve, app, listeners, limits=limits))
            yield
            server.close()
    finally:
        daemon.home.socket.unlink(missing_ok=True)


@asynccontextmanager
async def _networked(daemon: "Daemon", recorder: Recorder | None) -> AsyncIterator[None]:
    """The node of the network, as long as the block runs."""
    opening = joining.opened(
        daemon.settings, daemon.profile, daemon.identity, daemon.role_flags(), recorder
    )
    try:
        async with opening as node:
            daemon.node = node
            yield
    finally:
        daemon.node = None


@final
class Daemon:
    """A node as the control API sees it: an `Operator`."""

    def __init__(self, settings: Settings, *, home: Home, profile: Profile) -> None:
        self.settings = settings
        self.home = home
        self.profile = profile
        self.roles = settings.node.roles
        self.identity = self._identity()
        self.node: Node | None = None
        self.stopping = trio.Event()

        self._started = time.time()
        self._alerts: list[Alert] = []
        self._joined = False
        self._memory = Memory()
        self._asking = 0
        self._quiet = trio.Event()
        self._worker = WorkerState(state="loading") if "worker" in self.roles else None
        self._engine: Engine | None = None
        self._serving: Serving | None = None
        self._model: Model | None = None
        self._treasury: Treasury | None = None
        self._funded = trio.Event()

    def _identity(self) -> Identity:
        """Who serves keeps its name; who only asks has a new one each time, so that none sticks."""
        entropy = SystemEntropy()
        if self.roles:
            return networks.persistent_identity(self.home, entropy)
        return Identity(entropy.token(SEED_BYTES))

    def role_flags(self, *, without: Role = EVERYBODY) -> Role:
        """The roles as the network knows them."""
        flags = EVERYBODY
        for name in self.roles:
            flags |= _FLAGS[name]
        return flags & ~without

    # --- parts ---

    async def live(self) -> None:
        """Do what the roles ask for, until `stop` and the drain after it."""
        async with trio.open_nursery() as parts:
            parts.start_soon(self._watch_join)
            if self._pays:
                parts.start_soon(self._part, "wallet")
            for role in self.roles:
                parts.start_soon(self._part, role)
            await self.stopping.wait()
            await self._drain()
            parts.cancel_scope.cancel()

    async def _watch_join(self) -> None:
        await self._node().joined()
        self._joined = True

    async def _part(self, role: str) -> None:
        """One role of the node. Its failure is an alert, and the end of nothing else."""
        try:
            await self._PARTS[role](self)
        except Exception as error:  # the boundary of a part: the others go on without it
            cause = unwrap(error)
            if isinstance(cause, Failed):
                self._alert(role, cause.failure.message, cause.failure.advice)
            elif isinstance(cause, LocalError) and role == "wallet":
                self._alert(role, f"The wallet is closed: {cause}.", "Then restart the node.")
            else:
                log.exception("part.failed", part=role)
                self._alert(role, f"The {role} has failed inside.", "Its log has the reason.")
            if role in _FLAGS:
                await self._unlist(_FLAGS[role])

    async def _unlist(self, role: Role) -> None:
        """Say that this role is not played any more: nobody should draw it."""
        node, remaining = self._node(), self.role_flags(without=role)
        if remaining:
            await self._publish(Fields(roles=remaining))
        else:
            await node.withdraw()

    async def _relay(self) -> None:
        """Be listed as a relay; once a worker or mint of the same node is ready, it lists both."""
        await self._publish(Fields(roles=self.role_flags(without=Role.WORKER | Role.MINT)))

    @property
    def _pays(self) -> bool:
        """Whether this node has to do with money; a node that only relays does not."""
        return self.profile.chain is not None and self.roles != ("relay",)

    async def _fund(self) -> None:
        """Store, chain, lanes and purse; the mint and a worker with prices wait for it."""
        opening = funds.opened(self.home, self.profile, self.settings, self._node(), self.identity)
        try:
            async with opening as self._treasury:
                self._funded.set()
                log.info("wallet.open", chain=self._treasury.chain.name)
                await trio.sleep_forever()
        finally:
            self._treasury = None
            self._funded.set()

    async def _mint(self) -> None:
        """Sell and redeem credits, and be listed with the keyset of the week."""
        self._check_mint()
        treasury = await self._money()
        service, node = treasury.mint(self.identity), self._node()
        async with trio.open_nursery() as nursery:
            await nursery.start(service.run, node)
            while True:
                await self._publish(Fields(roles=self.role_flags(), mint=service.digest))
                await service.rolled()

    def _check_mint(self) -> None:
        """Raise `Failed` if this node cannot be a mint here."""
        if "worker" in self.roles:
            message = "This node cannot be a mint and a worker at once: it would pay itself."
            raise Failed("invalid_setting", message, "Give the mint a home of its own.")
        funds.needed(self.profile)
        if self.identity.id not in self.profile.mints:
            raise Failed(
                "invalid_setting",
                f"Network {self.profile.name} does not name this node as a mint: nobody would take "
                "its credits.",
                "The network's profile names its mints; `tussah network show` lists them.",
            )

    async def _money(self) -> Treasury:
        """The treasury, once it is open. Raises `Failed` on a network that pays nothing."""
        funds.needed(self.profile)
        await self._funded.wait()
        if self._treasury is None:
            raise Failed("failed", "The node's wallet could not be opened.", _SEE_STATUS)
        return self._treasury

    async def _till(self, nursery: trio.Nursery) -> Till | None:
        """What a worker with prices takes payments by."""
        if funds.prices(self.settings).free:
            return None
        till = (await self._money()).till(self.identity, self._node())
        await nursery.start(till.run)
        nursery.start_soon(desk.attend_links, self._node(), till.answer_peer)
        self._worker = WorkerState(state="loading", reasons=("No mint has a lane to it yet.",))
        while not till.mints():  # noqa: ASYNC110 - whoever asked it before could not pay
            await trio.sleep(TILL_SECONDS)
        return till

    async def _work(self) -> None:
        funds.check_prices(self.settings, self.profile)
        async with serving.opened(self.settings.worker) as (engine, model):
            self._model, self._engine = model, engine
            service = await self._load(engine, model)
            assert self.node is not None
            async with trio.open_nursery() as nursery:
                till = await self._till(nursery)
                offering = partial(
                    serve, self.node, engine, service, identity=self.identity, till=till
                )
                self._serving = await nursery.start(offering)
                self._worker = WorkerState(state="serving", service=service)
                log.info("worker.serving", rate=round(service.answer_rate, 1))
                await self._publish(Fields(roles=self.role_flags(), models=(service.listing(),)))
                await self._until_dead(engine)

    async def _until_dead(self, engine: Engine) -> None:
        """Raises `Failed` once the engine has died too often to be started again."""
        while engine.statistics().state is not EngineState.DEAD:  # noqa: ASYNC110
            await trio.sleep(ENGINE_SECONDS)  # nothing signals the end of an engine
        message = "The engine died too often."
        raise Failed("failed", message, "See the log, then restart the node.")

    async def _load(self, engine: Engine, model: Model) -> Service:
        """Load the model. Raises `Failed`."""
        chosen = self.settings.worker
        loaded = await engine.load(Plan(context=chosen.context, slots=chosen.slots))
        if isinstance(loaded, base.Failed):
            message = f"The model cannot be loaded: {loaded.fault.name.lower().replace('_', ' ')}."
            raise Failed("failed", message, "See the log, or choose another model.")
        return Service(
            identity=model.identity,
            numerics=loaded.numerics,
            context=loaded.context,
            slots=loaded.slots,
            prompt_rate=loaded.prompt_rate,
            answer_rate=loaded.answer_rate,
            quant=model.quant,
            label=chosen.label or model.label,
            prices=funds.prices(self.settings),
            settle_ticks=DEV.settle_ticks if self.profile.dev else MAIN.settle_ticks,
            settle_every=DEV.settle_every if self.profile.dev else MAIN.settle_every,
        )

    async def _publish(self, fields: Fields) -> None:
        assert self.node is not None
        await self.node.publish(fields)
        log.info("node.published", roles=int(fields.roles))

    _PARTS: Final = {"relay": _relay, "worker": _work, "mint": _mint, "wallet": _fund}

    def _alert(self, code: str, message: str, advice: str) -> None:
        self._alerts.append(Alert(code=code, message=message, advice=advice))
        if code == "worker":
            self._serving = None
            self._worker = WorkerState(state="stopped", reasons=(message,))

    # --- the end ---

    def stop(self) -> None:
        """Begin to drain; returns at once."""
        if not self.stopping.is_set():
            log.info("node.stopping")
            self.stopping.set()

    async def _drain(self) -> None:
        """Take nothing new, leave the list, and let running answers finish, for a minute."""
        with trio.move_on_after(DRAIN_SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._withdraw)
                nursery.start_soon(self._finish_serving)
                nursery.start_soon(self._finish_asking)
        with trio.move_on_after(LINGER_SECONDS):
            await self._last_circuits()

    async def _withdraw(self) -> None:
        if self.node is not None and self.roles:
            with trio.move_on_after(WITHDRAW_SECONDS):
                await self.node.withdraw()

    async def _finish_serving(self) -> None:
        if self._serving is not None:
            await self._serving.drain()

    async def _finish_asking(self) -> None:
        if self._asking:
            await self._quiet.wait()

    async def _last_circuits(self) -> None:
        """Wait until the askers have hung up: what was sent last, a receipt, has arrived then."""
        node = self._node()
        while (onion := node.statistics().onion).circuits or onion.passages:  # noqa: ASYNC110
            await trio.sleep(LINGER_PAUSE)  # nothing signals the end of the last circuit

    # --- what the control API asks ---

    def version(self) -> Document:
        """What is running."""
        return version.document()

    async def status(self) -> Document:
        """How it is. Of money it tells what the store knows: no chain is asked."""
        return statuses.status(self._state(await self._purse_state()))

    def _state(self, purse: PurseState | None) -> NodeState:
        node = self._node()
        return NodeState(
            program=version.program(),
            started=self._started,
            id=self.identity.id,
            home=str(self.home.path),
            network=self.profile.name,
            chain=None if self.profile.chain is None else self.profile.chain.name,
            roles=self.roles,
            endpoint=node.endpoint,
            node=node.statistics(),
            entries=self._entries(),
            joined=self._joined,
            asking=self._asking,
            worker=self._worker_state(),
            purse=purse,
            alerts=tuple(self._alerts_now()),
        )

    async def _purse_state(self) -> PurseState | None:
        treasury = self._treasury
        if treasury is None:
            return None
        try:
            totals = await treasury.totals()
            minted = await treasury.minted() if "mint" in self.roles else None
        except LocalError:  # closing, or a disk that the store has complained about
            return None
        return PurseState(balance=treasury.sight.balance, totals=totals, minted=minted)

    def _alerts_now(self) -> Iterator[Alert]:
        yield from self._alerts
        is_late = time.time() > self._started + JOIN_SECONDS
        if is_late and not self._joined:
            yield self._alone()

    def _worker_state(self) -> WorkerState | None:
        if self._worker is None or self._serving is None:
            return self._worker
        counted, service = self._serving.statistics(), self._worker.service
        engine = self._engine.statistics().state if self._engine else None
        if engine in _NOT_SERVING:
            state, reasons = _NOT_SERVING[engine]
            return WorkerState(state=state, reasons=reasons, service=service, statistics=counted)
        state = "draining" if counted.draining else "paused" if counted.paused else "serving"
        return WorkerState(state=state, service=service, statistics=counted)

    def peers(self) -> Document:
        """Whom it knows."""
        directory = self._node().directory.status()
        return listing.peers(
            self._entries(), directory, serving.known(self.settings.worker), time.time()
        )

    def models(self) -> Document:
        """What can be asked."""
        local = [self._model.local] if self._model and self._model.local else []
        return listing.models(self._entries(), serving.known(self.settings.worker), local)

    def _entries(self) -> list[Entry]:
        return self._node().directory.usable(EVERYBODY)

    def _node(self) -> Node:
        if self.node is None:
            message = "The node is starting or stopping."
            raise Failed("stopping", message, "Try again in a moment.")
        return self.node

    # --- asks ---

    @asynccontextmanager
    async def answer(self, request: AskRequest, wish: Wish) -> AsyncIterator[Answer]:
        """Ask the network. Raises `Failed` if this node cannot ask now."""
        if self.stopping.is_set():
            raise Failed("stopping", "The node is stopping.", "Start it again with `tussah up`.")
        node, until = self._node(), trio.current_time() + self._deadline(wish)
        with self._counted():
            await self._join(node, until)
            policy = self._policy(wish, max(1.0, until - trio.current_time()))
            async with asker.ask(self._with_model(request), node, policy) as answer:
                yield answer

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._asking += 1
        try:
            yield
        finally:
            self._asking -= 1
            if not self._asking and self.stopping.is_set():
                self._quiet.set()

    async def _join(self, node: Node, until: float) -> None:
        """Wait for the directory. Raises `Failed` (`joining_network`)."""
        with trio.move_on_at(min(until, trio.current_time() + JOIN_SECONDS)) as patience:
            await node.joined()
        if patience.cancelled_caught:
            alone = self._alone()
            raise Failed("joining_network", alone.message, alone.advice)

    def _alone(self) -> Alert:
        count, name = len(self.profile.bootstrap), self.profile.name
        return Alert(
            code="joining_network",
            message=f"None of the {count} bootstrap peers of network {name} has answered yet.",
            advice="Check that one of them is up (tussah network show), then try again.",
        )

    def _deadline(self, wish: Wish) -> float:
        return self.settings.ask.deadline if wish.deadline_s is None else wish.deadline_s

    def _policy(self, wish: Wish, deadline_s: float) -> Policy:
        money = DEV if self.profile.dev else MAIN
        return Policy(
            known=serving.known(self.settings.worker),
            memory=self._memory,
            relays=self.settings.ask.relays if wish.relays is None else wish.relays,
            deadline_s=deadline_s,
            worker=wish.worker,
            max_price=Nano.parse(self.settings.ask.max_price)
            if wish.max_price is None
            else wish.max_price,
            purse=None if self._treasury is None else self._treasury.purse,
            least_lock=money.least_lock,
            lock_margin=money.lock_margin,
        )

    def _with_model(self, request: AskRequest) -> AskRequest:
        return replace(request, model=self.settings.ask.model) if request.model == AUTO else request

    def terms(self, done: Done) -> Terms:
        """What the ask document says of the network."""
        claimed = statuses.clients_claimed(self._entries())
        return Terms(dev=self.profile.dev, clients_claimed=claimed)

    async def keep(self, done: Done) -> None:
        """Keep a receipt, if this node has a store. A full disk must not cost the answer."""
        entry = self._node().directory.find(done.worker)
        if self._treasury is None or entry is None:
            return
        session, public = tariff.read(done.receipt).offer, entry.advert.public
        with suppress(LocalError):  # the store has complained
            await self._treasury.keep_receipt(session, done.receipt, public, time.time())

    # --- money ---

    def _open_treasury(self) -> Treasury:
        funds.needed(self.profile)
        if not self._pays:
            message = "This node only relays, and has no wallet."
            raise Failed("invalid_request", message, "Start it without --relay to buy and to ask.")
        if self._treasury is None:
            message = "This node's wallet is not open."
            raise Failed("stopping", message, f"Try again in a moment. {_SEE_STATUS}")
        return self._treasury

    async def wallet(self) -> Document:
        """What this node has."""
        return await self._open_treasury().wallet()

    async def credits(self) -> Document:
        """The credits at hand."""
        return await self._open_treasury().credits()

    async def buy(self, bundle: str | None) -> Document:
        """Buy credits, once the network is there. Raises `Failed`."""
        treasury = self._open_treasury()
        await self._join(self._node(), math.inf)
        return await treasury.buy(bundle)

    async def lanes(self) -> Document:
        """Its lanes."""
        return await self._open_treasury().open_lanes()

    async def move(self, action: str, lane: str) -> Document:
        """Settle or close a lane. Raises `Failed`."""
        treasury, account = self._open_treasury(), funds.account(lane)
        return await (treasury.settle if action == "settle" else treasury.close)(account)

    async def receipts(self) -> Document:
        """What workers have signed for."""
        return funds.receipts_document(await self._open_treasury().receipts())

    def up(self) -> Document:
        """The `up` document: what `tussah up` says once the node is there."""
        node = self._node()
        return {
            "schema": "tussah/up/1",
            "pid": os.getpid(),
            "id": self.identity.id.hex(),
            "roles": list(self.roles),
            "network": self.profile.name,
            "address": address(node.endpoint) if node.endpoint else None,
            "control": str(self.home.socket),
        }


_NOT_SERVING: Final[Mapping[EngineState | None, tuple[str, tuple[str, ...]]]] = {
    EngineState.LOADING: ("loading", ("The engine loads the model again.",)),
    EngineState.EMPTY: ("loading", ("The engine has no model at the moment.",)),
    EngineState.DEAD: ("stopped", ("The engine died too often: restart the node.",)),
}
"""What a worker is while its engine cannot answer."""

_FLAGS: Final = {"relay": Role.RELAY, "worker": Role.WORKER, "mint": Role.MINT}

AUTO: Final = "auto"

_SEE_STATUS: Final = "`tussah status` says why."


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
        serving.check(settings.worker)
    with logs.configured(settings.log):
        start = partial(run, settings, home=home, recorder=recorder, routes=routes)
        return trio.run(process.live, start, ready)
