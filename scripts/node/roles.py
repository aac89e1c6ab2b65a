"""The roles of a node: each is a part that may fail without the others, and says so in an alert."""

import os
import time
from functools import partial
from typing import Final, final

import structlog
import trio

from inference import audit, auditing, catalogue, fit, limits
from inference.auditing import Auditor
from inference.engine import base
from inference.engine.base import Engine, EngineState, Plan
from inference.fit import Fit, Unfit
from inference.keeping import Keeper
from inference.limits import Verdict
from inference.machine import Machine
from inference.protocol import Need
from inference.service import flags_of
from inference.worker import Service, Serving, serve
from ledger import desk
from ledger.keys import Master
from ledger.keystore import Keys
from ledger.till import Till
from p2p.entropy import SystemEntropy
from p2p.errors import LocalError
from p2p.overlay.advert import Fields, Role
from scripts import funds, serving, vault
from scripts.api.status import Alert, WorkerState
from scripts.bans import Bans
from scripts.failure import Failed, unwrap
from scripts.funds import Treasury
from scripts.node.manners import Manners
from scripts.node.site import FLAGS, Site
from scripts.serving import Model

TILL_SECONDS: Final = 0.2
"""Between looks at whether a mint can pay this worker, at its start."""

OPEN_SECONDS: Final = 10.0
"""After its start, in which a question waits for the wallet: a chain is seldom slower, and who asks
where answers are free should not wait for one that is away."""

ENGINE_SECONDS: Final = 5.0
"""Between looks at whether the engine has given up."""

LIST_SECONDS: Final = 10.0
"""For telling the network that a worker stops or starts; it goes on trying after that."""

NO_LANE: Final = "No mint has a lane to it yet: a mint's own status says if it lacks coins."
"""While a worker with prices cannot be paid."""

LOCKED: Final = "wallet_locked"
"""Code of the alert, and of the failure, of a wallet that waits for its passphrase."""

SEE_STATUS: Final = "`tussah status` says why."

log = structlog.get_logger()


@final
class Roles:
    """See the module. What became of each part stands in its attributes."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.alerts: list[Alert] = []
        self.worker = WorkerState(state="loading") if "worker" in site.roles else None
        self.engine: Engine | None = None
        self.auditor: Auditor | None = None
        self.bans = Bans(site.home)
        self.serving: Serving | None = None
        self.model: Model | None = None
        self.fit: Fit | None = None
        self.manners = Manners(site.settings.manners, site.home)
        self._is_listed = True
        self.treasury: Treasury | None = None
        self._funded = trio.Event()
        self._unlocked = trio.Event()
        self._decided = trio.Event()
        self._patience = 0.0
        self._keys: Keys | None = None

    def start(self, nursery: trio.Nursery) -> None:
        """Begin what the settings ask for."""
        self._patience = trio.current_time() + OPEN_SECONDS
        if self._site.pays:
            nursery.start_soon(self._part, "wallet")
        for role in self._site.roles:
            nursery.start_soon(self._part, role)

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
            if role in FLAGS:
                await self._unlist(FLAGS[role])

    def _alert(self, code: str, message: str, advice: str) -> None:
        self.alerts.append(Alert(code=code, message=message, advice=advice))
        if code == "worker":
            self.serving = None
            self.worker = WorkerState(state="stopped", reasons=(message,))

    async def _unlist(self, role: Role) -> None:
        """Say that this role is not played any more: nobody should draw it."""
        node, remaining = self._site.running(), self._site.flags(without=role)
        if remaining:
            await self._publish(Fields(roles=remaining))
        else:
            await node.withdraw()

    async def _publish(self, fields: Fields) -> None:
        await self._site.running().publish(fields)
        log.info("node.published", roles=int(fields.roles))

    async def _relay(self) -> None:
        """Be listed as a relay; once a worker or mint of the same node is ready, it lists both."""
        await self._publish(Fields(roles=self._site.flags(without=Role.WORKER | Role.MINT)))

    # --- money ---

    async def _fund(self) -> None:
        """Store, chain, lanes and purse; the mint and a worker with prices wait for it."""
        site = self._site
        try:
            master = await self._opened_keys()
            opening = funds.opened(
                site.home, site.profile, site.settings, site.running(), site.identity, master
            )
            async with opening as self.treasury:
                self._funded.set()
                self._decided.set()
                log.info("wallet.open", chain=self.treasury.chain.name)
                await trio.sleep_forever()
        finally:
            self.treasury = None
            self._funded.set()
            self._decided.set()

    async def wallet_tried(self) -> None:
        """Wait until the wallet is open, or known not to open by itself; a moment, at the start."""
        if self._site.pays:
            with trio.move_on_at(self._patience):
                await self._decided.wait()

    @property
    def locked(self) -> bool:
        """Whether the wallet waits for somebody with its passphrase."""
        return any(alert.code == LOCKED for alert in self.alerts)

    async def unlock(self, passphrase: str) -> None:
        """Open an encrypted wallet; harmless if it is open. Raises `Failed`."""
        if self.locked:
            self._keys = await self._read_keys(passphrase)
            self._unlocked.set()

    async def _opened_keys(self) -> Master:
        """What the wallet's file holds, once somebody has unlocked it. Raises `Failed`."""
        funds.needed(self._site.profile)
        passphrase = vault.given(self._site.settings.wallet.passphrase_file, os.environ)
        try:
            return (await self._read_keys(passphrase)).master
        except Failed as failed:
            if failed.failure.code != LOCKED:
                raise
            self._alert(LOCKED, failed.failure.message, failed.failure.advice)
        self._decided.set()
        await self._unlocked.wait()
        self.alerts = [alert for alert in self.alerts if alert.code != LOCKED]
        assert self._keys is not None
        return self._keys.master

    async def _read_keys(self, passphrase: str) -> Keys:
        """In a thread: a passphrase takes a second. Raises `Failed`."""
        home = self._site.home

        def read() -> Keys:
            if vault.exists(home):
                return vault.opened(home, passphrase)
            return vault.made(home, SystemEntropy())

        return await trio.to_thread.run_sync(read, limiter=trio.CapacityLimiter(1))

    async def _money(self) -> Treasury:
        """The treasury, once it is open. Raises `Failed` on a network that pays nothing."""
        funds.needed(self._site.profile)
        await self._funded.wait()
        if self.treasury is None:
            raise Failed("failed", "The node's wallet could not be opened.", SEE_STATUS)
        return self.treasury

    async def _mint(self) -> None:
        """Sell and redeem credits, and be listed with the keyset of the week."""
        self._check_mint()
        treasury = await self._money()
        service, node = treasury.mint(self._site.identity), self._site.running()
        async with trio.open_nursery() as nursery:
            await nursery.start(service.run, node)
            while True:
                await self._publish(Fields(roles=self._site.flags(), mint=service.digest))
                await service.rolled()

    def _check_mint(self) -> None:
        """Raise `Failed` if this node cannot be a mint here."""
        site = self._site
        if "worker" in site.roles:
            message = "This node cannot be a mint and a worker at once: it would pay itself."
            raise Failed("invalid_setting", message, "Give the mint a home of its own.")
        funds.needed(site.profile)
        if site.identity.id not in site.profile.mints:
            raise Failed(
                "invalid_setting",
                f"Network {site.profile.name} does not name this node as a mint: nobody would take "
                "its credits.",
                "The network's profile names its mints; `tussah network show` lists them.",
            )

    async def _till(self, nursery: trio.Nursery) -> Till | None:
        """What a worker with prices takes payments by."""
        site = self._site
        if funds.prices(site.settings).free:
            return None
        till = (await self._money()).till(site.identity, site.running())
        await nursery.start(till.run)
        nursery.start_soon(desk.attend_links, site.running(), till.answer_peer)
        self.worker = WorkerState(state="loading", reasons=(NO_LANE,))
        while not till.mints():  # noqa: ASYNC110 - whoever asked it before could not pay
            await trio.sleep(TILL_SECONDS)
        return till

    # --- answering ---

    async def _work(self) -> None:
        site = self._site
        funds.check_prices(site.settings, site.profile)
        async with serving.opened(site.settings.worker, site.library) as (engine, model):
            self.model, self.engine = model, engine
            await self._allowed()
            service, keeper = await self._load(engine, model)
            async with trio.open_nursery() as nursery:
                till = await self._till(nursery)
                offering = partial(
                    serve,
                    site.running(),
                    engine,
                    service,
                    identity=site.identity,
                    till=till,
                    keeper=keeper,
                )
                self.serving = await nursery.start(offering)
                self.worker = WorkerState(state="serving", service=service)
                log.info("worker.serving", rate=round(service.answer_rate, 1))
                nursery.start_soon(self.manners.run, self._obey)
                self._begin_to_audit(nursery, engine, service)
                await self._publish(self._listing(service))
                await self._until_dead(engine)

    async def _allowed(self) -> None:
        """Wait while the machine, or its owner, has no work be done at all."""
        verdict = await self.manners.look()
        if verdict.state is limits.State.STOP:
            self.worker = WorkerState(state="stopped", reasons=verdict.reasons)
            await self.manners.allowed()
            self.worker = WorkerState(state="loading")

    async def _obey(self, verdict: Verdict) -> None:
        """Apply a verdict; whom the owner has stopped is not listed meanwhile."""
        assert self.serving is not None
        self._site.running().is_busy(busy=verdict.state is not limits.State.SERVE)
        await self.serving.verdict(verdict)
        hand = self.manners.hand
        is_listed = hand is None or not hand.stop
        if is_listed != self._is_listed:
            self._is_listed = is_listed
            with trio.move_on_after(LIST_SECONDS):
                await self._list(is_listed=is_listed)

    async def _list(self, *, is_listed: bool) -> None:
        assert self.worker is not None
        service = self.worker.service
        if is_listed and service is not None:
            await self._publish(self._listing(service))
        else:
            await self._unlist(Role.WORKER)

    def _listing(self, service: Service) -> Fields:
        return Fields(roles=self._site.flags(), models=(service.listing(),))

    def _begin_to_audit(self, nursery: trio.Nursery, engine: Engine, service: Service) -> None:
        """Hold answers of the built-in model against our own: only its limits are known."""
        if service.identity != catalogue.builtin().identity:
            return
        self.auditor = Auditor(
            engine,
            identity=service.identity,
            numerics=service.numerics,
            exact=bool(service.flags & Need.REPRODUCIBLE),
            share=self._site.settings.ask.audit,
            entropy=SystemEntropy(),
            told=self._audited,
        )
        nursery.start_soon(self.auditor.run)

    def _audited(self, result: auditing.Result) -> None:
        """Ask a worker no more that was found to serve another model, or may."""
        now, worker = time.time(), result.done.worker
        entry = self._site.running().directory.find(worker)
        match result.verdict:
            case audit.Verdict.FAILED:
                self.bans.memory.lied(now, worker if entry is None else entry.group)
                self.bans.keep()
            case audit.Verdict.SUSPECT:
                self.bans.memory.suspected(now, worker)
            case _:
                pass
        log.info(
            "audit.answer",
            worker=worker.hex()[:8],
            verdict=result.verdict.value,
            mean=round(result.mean, 4),
        )

    async def _until_dead(self, engine: Engine) -> None:
        """Raises `Failed` once the engine has died too often to be started again."""
        while engine.statistics().state is not EngineState.DEAD:  # noqa: ASYNC110
            await trio.sleep(ENGINE_SECONDS)  # nothing signals the end of an engine
        message = "The engine died too often."
        raise Failed("failed", message, "See the log, then restart the node.")

    async def _load(self, engine: Engine, model: Model) -> tuple[Service, Keeper]:
        """Load the model as it fits this machine. Raises `Failed`."""
        chosen, policy = self._site.settings.worker, self._site.policy
        plan = self._plan(model)
        loaded = await engine.load(plan)
        if isinstance(loaded, base.Failed):
            message = f"The model cannot be loaded: {loaded.fault.name.lower().replace('_', ' ')}."
            raise Failed("failed", message, "See the log, or choose another model.")
        # Only what takes memory here is put away: an upstream server has its own.
        idle = chosen.idle_unload if model.need is not None else 0.0
        keeper = Keeper(engine, plan, idle=idle or None, seconds=loaded.seconds)
        service = Service(
            identity=model.identity,
            numerics=loaded.numerics,
            context=loaded.context,
            slots=loaded.slots,
            prompt_rate=loaded.prompt_rate,
            answer_rate=loaded.answer_rate,
            quant=model.quant,
            flags=flags_of(loaded),
            label=chosen.label or model.label,
            prices=funds.prices(self._site.settings),
            settle_ticks=policy.settle_ticks,
            settle_every=policy.settle_every,
        )
        return service, keeper

    def _plan(self, model: Model) -> Plan:
        """How to load the model here. Raises `Failed` if it does not fit."""
        wish = serving.wish_of(self._site.settings.worker, model.context)
        if model.need is None:
            return Plan(context=wish.context, slots=wish.slots or 1)
        machine = self.manners.machine or Machine(cores=1)
        found = fit.plan(machine, model.need, wish)
        if isinstance(found, Unfit):
            message = f"The model does not fit this machine: it {found.words}."
            advice = "Choose a smaller one, or set worker.max_ram higher."
            raise Failed("failed", message, advice)
        self.fit = found
        return found.plan

    _PARTS: Final = {"relay": _relay, "worker": _work, "mint": _mint, "wallet": _fund}
