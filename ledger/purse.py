"""An asker's purse: sets credits aside for a session, and knows where more come from.

Credits are bought (`ledger/buying.py`) and change is fetched (`ledger/collecting.py`) over circuits
of their own. Everything is in the store before it leaves, so that a purse which stops anywhere goes
on from there: purchases are sent again byte for byte, sessions that were cut off are over.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias, final

import structlog
import trio

from ledger import coins, pins
from ledger.buying import Agree, Buying
from ledger.coins import Holdings
from ledger.collecting import Collecting
from ledger.credit import BUNDLES, Spend, SpendTerms, worth
from ledger.keys import Master
from ledger.lanes import Lanes
from ledger.mints import Mints
from ledger.money import ZERO, Nano
from ledger.payment import CannotPay, Payment, PayTerms, Told, Unpaid
from ledger.policy import Policy
from ledger.store import Connection, Store, Work
from ledger.tick import Chain
from p2p.drive import SystemClock
from p2p.entropy import Entropy
from p2p.errors import Insufficient, LocalError
from p2p.identity import AdnlId
from p2p.node import Node

if TYPE_CHECKING:  # the stubs that libp2p brings stand before trio's own types
    from trio_typing import TaskStatus

AGAIN: Final = 1.0
"""seconds until a disk that took nothing is tried again"""

log = structlog.get_logger()

TRIES: Final = 2
"""purchases for one ask, at the most: what the first brought may go to an ask that was quicker"""

Buy: TypeAlias = Callable[[AdnlId, Nano], Awaitable[Nano]]
"""Buys credits of a mint for so much, as `Buying.buy` does. Raises `CannotPay`."""


@final
class Purse:
    """See the module. `run` first; a `ledger.payment.Purse`."""

    def __init__(
        self,
        node: Node,
        store: Store,
        lanes: Lanes,
        master: Master,
        policy: Policy,
        *,
        mints: Sequence[AdnlId],
        entropy: Entropy,
        relays: int = 3,
        per_day: Nano | None = None,
    ) -> None:
        self._per_day = per_day
        self._store = store
        self._seed = master.credit_seed
        self._entropy = entropy
        self._clock = clock = SystemClock()
        self._mints = Mints(node, mints)
        self._buying = Buying(
            *(node, store, lanes, master, policy, self._mints, clock),
            entropy=entropy,
            relays=relays,
        )
        self._collecting = Collecting(
            *(node, store, self._seed, policy, self._mints, clock),
            entropy=entropy,
            relays=relays,
            fetched=self._stir,
        )
        self._endings: list[Work[None]] = []
        self._writing = trio.Lock()
        self._ended = trio.Event()
        self._stopped = False
        self._changed = trio.Event()

    async def run(self, *, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Finish what was left, then fetch change as it falls due, until cancelled."""
        await self._collecting.take_up()
        self._mints.accused = await self._store.read(pins.accused)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._collecting.run)
                nursery.start_soon(self._keep_endings)
                task_status.started()
        finally:
            self._stopped = True
            self._post_endings()

    @property
    def known(self) -> Mints:
        """The mints that it deals with; one that cheats anybody here is accused for all."""
        return self._mints

    # --- what an ask needs ---

    def mints(self) -> tuple[AdnlId, ...]:
        """The trusted mints that are listed now."""
        return self._mints.usable()

    async def prepare(
        self, terms: PayTerms, told: Told | None = None, *, buy: Buy | None = None
    ) -> Payment:
        """See `ledger.payment.Purse`. `buy` gets more where there is too little; else we do."""
        mints, wanted = self._mints.shared(terms.mints), terms.tick * terms.ticks
        if wanted > worth(BUNDLES["L"]):
            raise CannotPay(
                Unpaid.NO_CREDITS, f"{wanted} are wanted at once, more than a bundle has"
            )
        for mint in mints:
            if (payment := await self._reserve(mint, terms)) is not None:
                return payment
        more = partial(self._buy, agree=told) if buy is None else buy
        return await self._prepare_anew(mints, terms, more)

    async def _prepare_anew(self, mints: Sequence[AdnlId], terms: PayTerms, more: Buy) -> Payment:
        """With credits bought for it, of the first mint that sells. Raises `CannotPay`."""
        *others, last = mints
        for mint in others:
            try:
                return await self._prepare_at(mint, terms, more)
            except CannotPay as error:
                if error.reason not in _ELSEWHERE:
                    raise
                log.info("mint.passed_over", reason=str(error))
        return await self._prepare_at(last, terms, more)

    async def _prepare_at(self, mint: AdnlId, terms: PayTerms, more: Buy) -> Payment:
        tries, wanted = 0, terms.tick * terms.ticks
        while (payment := await self._reserve(mint, terms)) is None:
            if tries == TRIES:
                raise CannotPay(Unpaid.NO_CREDITS, "other requests took the credits first")
            tries += bool(await more(mint, wanted))
        return payment

    async def _buy(self, mint: AdnlId, wanted: Nano, *, agree: Agree | None) -> Nano:
        return await self.buy(mint=mint, agree=agree, wanted=wanted)

    def release(self, payment: Payment) -> None:
        """See `ledger.payment.Purse`."""
        session = payment.terms.session
        self._end(lambda c: coins.release(c, session))

    def collect(self, payment: Payment, *, locked: bool, revealed: int, owed: int) -> None:
        """See `ledger.payment.Purse`."""
        session = payment.terms.session
        due = self._collecting.due(payment.terms.expiry, locked=locked)
        self._end(lambda c: coins.over(c, session, revealed=revealed, owed=owed, due=due))

    async def holdings(self) -> Holdings:
        """What can be spent now, for people. Raises `LocalError`."""
        return await self._buying.holdings()

    async def buy(
        self,
        bundle: str | None = None,
        *,
        mint: AdnlId | None = None,
        agree: Agree | None = None,
        wanted: Nano = ZERO,
    ) -> Nano:
        """As `Buying.buy`. Raises `CannotPay`."""
        return await self._buying.buy(bundle, mint=mint, agree=agree, wanted=wanted)

    async def runs_low(self) -> bool:
        """As `Buying.runs_low`. Raises `LocalError`."""
        return await self._buying.runs_low()

    async def changed(self) -> None:
        """Wait until credits are set aside, or have come back as change."""
        await self._changed.wait()

    def _stir(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # --- spending ---

    async def _reserve(self, mint: AdnlId, terms: PayTerms) -> Payment | None:
        """Coins set aside; None if there are too few. Raises `CannotPay`."""
        # Before anything is set aside: the mint may be gone by now.
        public = self._mints.listed(self._mints.common((mint,))).public
        chain = Chain(self._seed, terms.session, terms.ticks)
        bare, secret = _bare(mint, terms, chain.root), self._entropy.token(32)
        now = self._clock.now()
        try:
            await self._write_endings()  # which may set coins free
            spend = await self._store.write(lambda c: self._set_aside(c, bare, secret, now))
        except Insufficient:
            return None
        except LocalError as error:
            raise CannotPay(Unpaid.STORE, str(error)) from error
        except trio.Cancelled:
            self._end(lambda c: coins.release(c, terms.session))
            raise
        self._stir()
        return Payment(
            terms=terms,
            mint=mint,
            mint_public=public,
            lock_id=spend.lock_id,
            spend=spend.encode(),
            chain=chain,
        )

    def _set_aside(
        self, connection: Connection, bare: SpendTerms, secret: bytes, now: float
    ) -> Spend:
        """Raises `Insufficient`, and `CannotPay` beyond the limit of a day."""
        used, most = coins.used(connection, now), self._per_day
        if most is not None and used + bare.tick * bare.ticks > most:
            raise CannotPay(
                Unpaid.LIMIT,
                f"{most} may be spent a day; {used} were spent today, or are set aside",
            )
        return coins.reserve(connection, self._seed, bare, secret, now)

    # --- what has ended ---

    def _end(self, ending: Work[None]) -> None:
        """Have it written. Until it is, a restart takes the session for one that was cut off."""
        self._endings.append(ending)
        if self._stopped:
            self._post_endings()
        else:
            self._ended.set()

    async def _keep_endings(self) -> None:
        while True:
            await self._ended.wait()
            self._ended = trio.Event()
            try:
                await self._write_endings()
            except LocalError:  # the disk: the store has logged it
                self._ended.set()
                await trio.sleep(AGAIN)
            else:
                self._collecting.wake()

    async def _write_endings(self) -> None:
        """All in their order. Raises `LocalError`, and then they are still to be written."""
        async with self._writing:
            endings = tuple(self._endings)
            if endings:
                await self._store.write(lambda c: _do_all(c, endings))
                del self._endings[: len(endings)]

    def _post_endings(self) -> None:
        endings, self._endings = self._endings, []
        with suppress(LocalError):  # then the next start finds these sessions cut off
            if endings:
                self._store.post(lambda c: _do_all(c, endings))


_ELSEWHERE: Final = (Unpaid.MINT_DOWN, Unpaid.NO_MINT, Unpaid.DEAR, Unpaid.LANE)
"""Why one mint sells nothing, and another may."""


def _do_all(connection: Connection, endings: Sequence[Work[None]]) -> None:
    for end in endings:
        end(connection)


def _bare(mint: AdnlId, terms: PayTerms, root: bytes) -> SpendTerms:
    """What a spend says before its coins are chosen."""
    return SpendTerms(
        mint=mint,
        epoch=0,
        payee=terms.payee,
        session=terms.session,
        expiry=terms.expiry,
        tick=terms.tick,
        ticks=terms.ticks,
        root=root,
        blanks=(),
        owner=bytes(32),
    )
