"""The questions of this node's owner: who may ask now, how, and what is kept of an answer."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import Final, final

import trio

from inference import client as asker
from inference.client import Answer, AskRequest, Done, Policy
from ledger import tariff
from ledger.money import Nano
from p2p.errors import LocalError
from p2p.onion.shaping import Shaping
from scripts.api import status as statuses
from scripts.api.answer import Terms
from scripts.api.asking import Wish
from scripts.failure import Failed
from scripts.node.roles import Roles
from scripts.node.site import Site

AUTO: Final = "auto"


@final
class Asks:
    """See the module."""

    def __init__(self, site: Site, roles: Roles) -> None:
        self._site = site
        self._roles = roles
        self._quiet = trio.Event()
        self.running = 0
        """Requests under way."""
        self._ended = self._answered = 0

    @asynccontextmanager
    async def answer(self, request: AskRequest, wish: Wish) -> AsyncIterator[Answer]:
        """Ask the network. Raises `Failed` if this node cannot ask now."""
        site = self._site
        if site.stopping.is_set():
            raise Failed("stopping", "The node is stopping.", "Start it again with `tussah up`.")
        node, until = site.running(), trio.current_time() + self._deadline(wish)
        with self._counted():
            await site.join(node, until)
            await self._roles.wallet_tried()
            policy = self._policy(wish, max(1.0, until - trio.current_time()))
            async with asker.ask(self._with_model(request), node, policy) as answer:
                yield answer

    def ended(self) -> dict[str, int]:
        """Requests so far: with a whole answer, and those that ended however else."""
        return {"answer": self._answered, "other": max(0, self._ended - self._answered)}

    async def finish(self) -> None:
        """Wait until none is under way, once the node is stopping."""
        if self.running:
            await self._quiet.wait()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.running += 1
        try:
            yield
        finally:
            self._roles.bans.keep()
            self.running -= 1
            self._ended += 1
            if not self.running and self._site.stopping.is_set():
                self._quiet.set()

    def _deadline(self, wish: Wish) -> float:
        return self._site.settings.ask.deadline if wish.deadline_s is None else wish.deadline_s

    def _policy(self, wish: Wish, deadline_s: float) -> Policy:
        settings, money, treasury = self._site.settings, self._site.policy, self._roles.treasury
        return Policy(
            known=self._site.known(),
            memory=self._roles.bans.memory,
            relays=settings.ask.relays if wish.relays is None else wish.relays,
            shaping=self._shaping(wish),
            swift=settings.ask.swift if wish.swift is None else wish.swift,
            deadline_s=deadline_s,
            worker=wish.worker,
            max_price=Nano.parse(settings.ask.max_price)
            if wish.max_price is None
            else wish.max_price,
            purse=None if treasury is None else treasury.shopping,
            may_buy=self._may_buy(wish),
            least_lock=money.least_lock,
            lock_margin=money.lock_margin,
        )

    def _shaping(self, wish: Wish) -> Shaping:
        """The level of an ask. Raises `Failed` for one that had to begin before the question."""
        usual = Shaping(self._site.settings.ask.shaping)
        if wish.shaping is None:
            return usual
        if wish.shaping is Shaping.ALWAYS and usual is not Shaping.ALWAYS:
            message = "Level 2 keeps the line busy before anything is asked, and here it does not."
            advice = "Set ask.shaping = 2 and start the node anew, or ask with --shaping 1."
            raise Failed("invalid_request", message, advice, param="shaping")
        return wish.shaping

    def _may_buy(self, wish: Wish) -> bool:
        """Whether credits may be bought for an ask: by default where coins are worth nothing."""
        if wish.buy is not None:
            return wish.buy
        chosen = self._site.settings.wallet.buy
        return self._site.profile.dev if chosen == "auto" else chosen == "yes"

    def _with_model(self, request: AskRequest) -> AskRequest:
        model = self._site.settings.ask.model
        return replace(request, model=model) if request.model == AUTO else request

    def terms(self) -> Terms:
        """What the documents of an ask say of the network."""
        profile = self._site.profile
        chain = profile.chain
        return Terms(
            dev=profile.dev,
            clients_claimed=statuses.clients_claimed(self._site.entries()),
            chain=None if chain is None else chain.name,
            worthless=chain is None or chain.worthless,
            guard_ages=self._guard_ages(),
        )

    def _guard_ages(self) -> dict[bytes, float]:
        now = time.time()
        return {guard.id: now - guard.since for guard in self._site.running().guards()}

    async def keep(self, done: Done) -> None:
        """Keep a receipt, if this node has a store. A full disk must not cost the answer."""
        self._answered += 1
        if self._roles.auditor is not None:
            self._roles.auditor.offer(done)
        entry = self._site.running().directory.find(done.worker)
        treasury = self._roles.treasury
        if treasury is None or entry is None:
            return
        session, public = tariff.read(done.receipt).offer, entry.advert.public
        with suppress(LocalError):  # the store has complained
            await treasury.keep_receipt(session, done.receipt, public, time.time())
