"""How a node stands: the documents that its owner looks at, put together from its rooms."""

import os
import time
from collections.abc import Iterator, Mapping
from typing import Final, final

from inference.engine.base import EngineState
from inference.limits import State
from inference.worker import Serving
from p2p.errors import LocalError
from scripts import identity, serving, version
from scripts.api import listing, working
from scripts.api import status as statuses
from scripts.api.common import address
from scripts.api.metrics import Snapshot
from scripts.api.status import Alert, NodeState, PurseState, WorkerState
from scripts.failure import Document, Failed
from scripts.node.asks import Asks
from scripts.node.roles import Roles
from scripts.node.site import Site


@final
class Standing:
    """See the module."""

    def __init__(self, site: Site, roles: Roles, asks: Asks) -> None:
        self._site = site
        self._roles = roles
        self._asks = asks

    def id(self) -> Document:
        """Who it is, and where others are told that it is."""
        site = self._site
        return identity.document(
            site.identity,
            persistent=bool(site.roles),
            running=True,
            network=site.profile.name,
            at=site.running().announced(),
        )

    async def status(self) -> Document:
        """How it is. Of money it tells what the store knows: no chain is asked."""
        return statuses.status(self._state(await self._purse_state()))

    async def metrics(self) -> bytes:
        """The same for Prometheus."""
        state = self._state(await self._purse_state())
        return Snapshot(state=state, requests=self._asks.ended()).text()

    def _state(self, purse: PurseState | None) -> NodeState:
        site = self._site
        node = site.running()
        return NodeState(
            program=version.program(),
            started=site.started,
            id=site.identity.id,
            home=str(site.home.path),
            network=site.profile.name,
            chain=None if site.profile.chain is None else site.profile.chain.name,
            roles=site.roles,
            endpoint=node.endpoint,
            udp=node.udp,
            announced=node.announced(),
            verdicts=node.reach(),
            attachments=node.attachments(),
            bootstrap=sum(peer.id != node.id for peer in site.profile.bootstrap),
            node=node.statistics(),
            entries=site.entries(),
            joined=site.joined,
            asking=self._asks.running,
            api=site.api,
            key_file=str(site.home.api_key) if site.settings.api.key_required else None,
            worker=self._worker_state(),
            machine=self._roles.manners.machine,
            purse=purse,
            alerts=tuple(self._alerts()),
        )

    async def _purse_state(self) -> PurseState | None:
        treasury = self._roles.treasury
        if treasury is None:
            return None
        try:
            totals = await treasury.totals()
            minted = await treasury.minted() if "mint" in self._site.roles else None
        except LocalError:  # closing, or a disk that the store has complained about
            return None
        return PurseState(balance=treasury.sight.balance, totals=totals, minted=minted)

    def _alerts(self) -> Iterator[Alert]:
        yield from self._roles.alerts
        yield from statuses.clock_alerts(self._site.running().statistics().clock)
        if self._site.is_late:
            yield self._site.alone()
        if self._roles.treasury is not None:
            yield from self._roles.treasury.alerts(self._site.roles)

    def _worker_state(self) -> WorkerState | None:
        roles = self._roles
        if roles.worker is None or roles.serving is None:
            return roles.worker
        counted, service = roles.serving.statistics(), roles.worker.service
        state, reasons = self._worker_is(roles.serving, draining=counted.draining)
        until = roles.manners.verdict.until if state == "paused" else None
        return WorkerState(
            state=state, reasons=reasons, until=until, service=service, statistics=counted
        )

    def _worker_is(self, offered: Serving, *, draining: bool) -> tuple[str, tuple[str, ...]]:
        roles, verdict = self._roles, self._roles.manners.verdict
        engine = roles.engine.statistics().state if roles.engine else None
        if draining:
            return "draining", ()
        if verdict.state is not State.SERVE:
            hand = roles.manners.hand
            stopped = hand is not None and hand.stop
            return "stopped" if stopped else "paused", verdict.reasons
        if offered.away:
            return "serving", (AWAY,)
        return _NOT_SERVING.get(engine, ("serving", ()))

    def worker(self) -> Document:
        """How the worker stands with this machine. Raises `Failed` if there is none."""
        roles = self._roles
        worker = self._worker_state()
        if worker is None:
            raise Failed("invalid_setting", NO_WORKER, BE_WORKER)
        state = working.Limits(
            worker=worker,
            verdict=roles.manners.verdict,
            rules=roles.manners.rules,
            machine=roles.manners.machine,
            fit=roles.fit,
            away=roles.serving is not None and roles.serving.away,
        )
        return working.limits(state)

    def peers(self) -> Document:
        """Whom it knows."""
        site = self._site
        node, known = site.running(), site.known()
        directory, acquaintances = node.directory.status(), node.acquaintances()
        return listing.peers(site.entries(), directory, known, time.time(), acquaintances)

    def circuits(self) -> Document:
        """What passes: its own circuits, its guards, and how much of others'."""
        node = self._site.running()
        return listing.circuits(node.overview(), node.statistics().onion)

    def models(self) -> Document:
        """What can be asked."""
        model = self._roles.model
        local = [model.local] if model and model.local else []
        site, machine = self._site, self._roles.manners.machine
        known = site.known()
        wish = serving.wish_of(site.settings.worker)
        return listing.models(site.entries(), known, local, site.library.shelf(machine, wish))

    def up(self) -> Document:
        """The `up` document: what `tussah up` says once the node is there."""
        site = self._site
        node = site.running()
        return {
            "schema": "tussah/up/1",
            "pid": os.getpid(),
            "id": site.identity.id.hex(),
            "roles": list(site.roles),
            "network": site.profile.name,
            "address": address(node.endpoint) if node.endpoint else None,
            "control": str(site.home.socket),
            "api": site.api,
        }


AWAY: Final = "The model is not in memory; it is loaded for the next who asks."

NO_WORKER: Final = "This node serves no model."
BE_WORKER: Final = "Start it as a worker: tussah down, then tussah up --worker."

_NOT_SERVING: Final[Mapping[EngineState | None, tuple[str, tuple[str, ...]]]] = {
    EngineState.LOADING: ("loading", ("The engine loads the model again.",)),
    EngineState.EMPTY: ("loading", ("The engine has no model at the moment.",)),
    EngineState.DEAD: ("stopped", ("The engine died too often: restart the node.",)),
}
"""What a worker is while its engine cannot answer."""
