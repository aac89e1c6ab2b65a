"""Purchases of a node: told step by step to whoever waits for them, and finished without them.

Once a purchase is agreed to, a deposit or a voucher may be on its way, so it goes on when nobody
waits any more; before that it is dropped. One that waits for a chain which says nothing is given
up: the lane's deposit stays in the wallet until the chain is back, and is sent then.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final, TypeAlias, final

import trio

from ledger.buying import Agree
from ledger.chain.base import Chain
from ledger.lane import Phase
from ledger.money import ZERO, Nano
from ledger.payment import (
    Bought,
    CannotPay,
    Opening,
    Payment,
    PayTerms,
    Purchase,
    PurchaseStep,
    Told,
    Unpaid,
)
from ledger.purse import Purse
from p2p.errors import RemoteError, Unreachable
from p2p.identity import AdnlId

CHAIN_PATIENCE: Final = 15.0
"""seconds without a word from the chain after which nobody waits for a lane to open"""

LOOK_EVERY: Final = 1.0
LOOK_TIME: Final = 5.0
"""seconds between looks at the chain while a lane opens, and for one of them"""


@final
class Shopping:
    """See the module. A `ledger.payment.Purse`; what outlives its askers runs in `nursery`."""

    def __init__(self, purse: Purse, chain: Chain, nursery: trio.Nursery) -> None:
        self._purse = purse
        self._chain = chain
        self._nursery = nursery

    def mints(self) -> tuple[AdnlId, ...]:
        """See `ledger.payment.Purse`."""
        return self._purse.mints()

    async def prepare(self, terms: PayTerms, told: Told) -> Payment:
        """See `ledger.payment.Purse`."""

        async def buy(mint: AdnlId, wanted: Nano) -> Nano:
            make = partial(self._purse.buy, mint=mint, wanted=wanted)
            return (await self._buy(lambda agree: make(agree=agree), told, may=terms.may_buy)).value

        return await self._purse.prepare(terms, told, buy=buy)

    def release(self, payment: Payment) -> None:
        """See `ledger.payment.Purse`."""
        self._purse.release(payment)

    def collect(self, payment: Payment, *, locked: bool, revealed: int, owed: int) -> None:
        """See `ledger.payment.Purse`."""
        self._purse.collect(payment, locked=locked, revealed=revealed, owed=owed)

    async def buy(self, bundle: str | None, told: Told) -> Bought:
        """Buy a bundle. Cancelled, it goes on if it was agreed to. Raises `CannotPay`."""
        return await self._buy(lambda agree: self._purse.buy(bundle, agree=agree), told, may=True)

    async def _buy(self, make: "_Make", told: Told, *, may: bool) -> Bought:
        errand = _Errand(told, may=may)
        self._nursery.start_soon(errand.run, make, self._chain)
        try:
            await errand.over.wait()
        finally:
            errand.forsake()
        bought = errand.result()
        if bought.value:  # else another request has bought
            told(bought)
        return bought


_Make: TypeAlias = Callable[[Agree], Awaitable[Nano]]
"""Makes a purchase."""


@final
class _Errand:
    """One purchase, in a task of its own."""

    def __init__(self, told: Told, *, may: bool) -> None:
        self.over = trio.Event()
        self._told = told
        self._may = may
        self._scope = trio.CancelScope()
        self._agreed: Purchase | None = None
        self._value: Nano | None = None
        self._error: CannotPay | None = None

    async def run(self, make: _Make, chain: Chain) -> None:
        """Make it, and watch the chain meanwhile."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch, chain)
                    await self._make(make)
                    nursery.cancel_scope.cancel()
        finally:
            self.over.set()

    async def _make(self, make: _Make) -> None:
        try:
            self._value = await make(self._agree)
        except CannotPay as error:
            self._error = error

    def _agree(self, purchase: Purchase) -> None:
        if not self._may:
            raise CannotPay(Unpaid.NOT_AGREED, _terms(purchase))
        self._agreed = purchase
        self._told(purchase)

    def forsake(self) -> None:
        """Nobody waits for it any more."""
        self._told = _nobody
        if self._agreed is None:
            self._scope.cancel()

    def result(self) -> Bought:
        """What was bought. Raises `CannotPay`."""
        if self._value is None:
            raise self._error or CannotPay(Unpaid.STORE, "the wallet has been closed")
        return Bought(value=self._value, price=self._agreed.price if self._agreed else ZERO)

    # --- the chain ---

    async def _watch(self, chain: Chain) -> None:
        """Tell how far the chain is while a lane opens; give up if it tells nothing."""
        while (purchase := self._agreed) is None or purchase.lane is Phase.OPEN:  # noqa: ASYNC110
            await trio.sleep(LOOK_EVERY)  # an agreement wakes nobody
        began = heard = trio.current_time()
        while trio.current_time() - heard < CHAIN_PATIENCE:
            with trio.move_on_after(LOOK_TIME), suppress(Unreachable, RemoteError):
                block = (await chain.head()).seqno
                heard = trio.current_time()
                self._told(Opening(mint=purchase.mint, block=block, waited=heard - began))
            await trio.sleep(LOOK_EVERY)
        self._error = CannotPay(Unpaid.CHAIN_DOWN, _silent(purchase))
        self._scope.cancel()


def _nobody(step: PurchaseStep) -> None:
    """Hears nothing."""


def _terms(purchase: Purchase) -> str:
    lane = ""
    if purchase.lane is None:
        lane = f", over a lane that {purchase.deposit} would open, with {purchase.fees} for fees"
    return f"bundle {purchase.bundle}, {purchase.value} for {purchase.price}{lane}"


def _silent(purchase: Purchase) -> str:
    goes = f"; the {purchase.deposit} for the lane go onto it once it answers"
    silence = f"the chain has said nothing for {CHAIN_PATIENCE:.0f} s"
    return f"{silence}{goes if purchase.deposit else ''}"
