"""Twins of `Purse` and `Till` over a mint in memory: coins are numbers, ticks and locks are real.

What a core sees of money is the same as with a real mint, receipts included: a session is locked
once, pays by its newest tick, and gives back the rest. Nothing is blind and nothing durable here.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, final

import trio

from ledger.money import ZERO, Nano
from ledger.payment import CannotPay, Decline, Locked, Payment, PayTerms, Told, Unpaid
from ledger.receipt import LockReceipt
from ledger.tick import Chain, Verifier, earlier
from p2p import codec
from p2p.entropy import Entropy
from p2p.errors import BadPreimage, CodecError
from p2p.identity import AdnlId, Identity

FINAL_DELAY: Final = 5
"""seconds after a lock's end until the mint closes it by itself"""


@dataclass(slots=True)
class Held:
    """What the mint holds for one session."""

    worker: AdnlId
    terms: PayTerms
    verifier: Verifier
    final: bool = False

    @property
    def amount(self) -> Nano:
        """All that was locked."""
        return self.terms.tick * self.terms.ticks

    @property
    def paid(self) -> Nano:
        """What the worker has of it."""
        return self.terms.tick * self.verifier.index


@final
class FakeMint:
    """Locks, pays and gives change; `balance` says what it was once given and still holds."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.down = False
        """It answers nobody."""
        self.held: dict[bytes, Held] = {}
        self.earned: dict[AdnlId, Nano] = {}
        self._coins: dict[bytes, bytes] = {}

    def lock(self, now: float, worker: AdnlId, spend: bytes) -> Locked | Decline:
        """Lock a spend, once; the same again gets the same answer."""
        if self.down:
            return Decline.BUSY
        lock_id = sha256(spend).digest()
        coin, terms, root = _read(spend)
        if self._coins.setdefault(coin, lock_id) != lock_id:
            return Decline.SPENT
        if terms.payee != worker:
            return Decline.TERMS
        if terms.expiry <= now:
            return Decline.EXPIRED
        self.held.setdefault(lock_id, Held(worker, terms, Verifier(root, terms.ticks)))
        receipt = LockReceipt(
            lock=lock_id,
            worker=worker,
            session=terms.session,
            amount=terms.tick * terms.ticks,
            tick=terms.tick,
            ticks=terms.ticks,
            root=root,
            expiry=terms.expiry,
            issued=int(now),
            nullifiers=(coin,),
        )
        return Locked(
            lock_id=lock_id,
            receipt=receipt.sign(self.identity),
            tick=terms.tick,
            ticks=terms.ticks,
            root=root,
            expiry=terms.expiry,
        )

    def settle(self, lock_id: bytes, index: int, preimage: bytes, *, final: bool) -> None:
        """Pay the worker what its newest tick proves. Raises `BadPreimage`."""
        held = self.held[lock_id]
        if held.final:
            return
        before = held.paid
        held.verifier.accept(index, preimage)
        held.final = final
        self.earned[held.worker] = self.earned.get(held.worker, ZERO) + (held.paid - before)

    def expire(self, now: float) -> None:
        """Close the sessions whose workers have not come back."""
        for held in self.held.values():
            held.final = held.final or now >= held.terms.expiry + FINAL_DELAY

    def change(self, payment: Payment) -> Nano | None:
        """What an asker gets back; None as long as its worker may earn more.

        Coins that were never locked are swapped for others, so that they cannot be locked later.
        """
        held = self.held.get(payment.lock_id)
        if held is not None:
            return held.amount - held.paid if held.final else None
        coin, _, _ = _read(payment.spend)
        self._coins[coin] = b""
        return payment.terms.tick * payment.terms.ticks


def _spend(coin: bytes, terms: PayTerms, root: bytes) -> bytes:
    return codec.pack(
        [coin, terms.payee, terms.session, terms.tick.value, terms.ticks, terms.expiry, root]
    )


def _read(spend: bytes) -> tuple[bytes, PayTerms, bytes]:
    """What `_spend` wrote. Raises `CodecError` for other bytes."""
    items = codec.unpack(spend, 8_192)
    match items:
        case (
            bytes(coin),
            bytes(payee),
            bytes(session),
            int(tick),
            int(ticks),
            int(expiry),
            bytes(root),
        ):
            terms = PayTerms(
                mints=(),
                payee=AdnlId(payee),
                session=session,
                tick=Nano(tick),
                ticks=ticks,
                expiry=expiry,
            )
            return coin, terms, root
        case _:
            raise CodecError("no spend of this twin's")


@final
class FakePurse:
    """A `Purse` of one number. `before` is awaited first: a test may wait there, or refuse."""

    def __init__(
        self,
        mint: FakeMint,
        balance: Nano,
        entropy: Entropy,
        before: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.mint = mint
        self.balance = balance
        """Free to spend."""
        self.open: list[Payment] = []
        """Set aside for sessions that are not over."""
        self.over: list[tuple[Payment, bool, int, int]] = []
        """Sessions that are over, whether they were locked, the ticks revealed and those owed."""
        self.before = before
        self._entropy = entropy
        self._waiting: list[Payment] = []

    def mints(self) -> tuple[AdnlId, ...]:
        """The one."""
        return (self.mint.identity.id,)

    async def prepare(self, terms: PayTerms, told: Told) -> Payment:
        """Set coins aside; none are ever bought. Raises `CannotPay`."""
        await (self.before or trio.lowlevel.checkpoint)()
        return self.take(terms)

    def take(self, terms: PayTerms) -> Payment:
        """`prepare` at once. Raises `CannotPay`."""
        amount = terms.tick * terms.ticks
        if self.mint.identity.id not in terms.mints:
            raise CannotPay(Unpaid.NO_MINT)
        if self.balance < amount:
            raise CannotPay(Unpaid.NO_CREDITS, f"{amount} needed, {self.balance} there")
        self.balance -= amount
        chain = Chain(self._entropy.token(32), terms.session, terms.ticks)
        spend = _spend(self._entropy.token(32), terms, chain.root)
        payment = Payment(
            terms=terms,
            mint=self.mint.identity.id,
            mint_public=self.mint.identity.public,
            lock_id=sha256(spend).digest(),
            spend=spend,
            chain=chain,
        )
        self.open.append(payment)
        return payment

    def release(self, payment: Payment) -> None:
        """Free again at once."""
        self.open.remove(payment)
        self.balance += payment.terms.tick * payment.terms.ticks

    def collect(self, payment: Payment, *, locked: bool, revealed: int, owed: int) -> None:
        """Fetch the change, now or when `fetch` finds it ready."""
        self.open.remove(payment)
        self.over.append((payment, locked, revealed, owed))
        self._waiting.append(payment)
        self.fetch()

    def fetch(self) -> None:
        """Take what change is ready."""
        waiting, self._waiting = self._waiting, []
        for payment in waiting:
            change = self.mint.change(payment)
            if change is None:
                self._waiting.append(payment)
            else:
                self.balance += change


@final
class FakeTill:
    """A `Till` of one worker. `before` is awaited before a lock: a test may wait there."""

    def __init__(
        self,
        mint: FakeMint,
        worker: AdnlId,
        clock: Callable[[], float],
        before: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.mint = mint
        self.before = before
        self._worker = worker
        self._clock = clock
        self._newest: dict[bytes, tuple[int, bytes]] = {}

    def mints(self) -> Sequence[AdnlId]:
        """The one, while it answers."""
        return () if self.mint.down else (self.mint.identity.id,)

    async def lock(self, spend: bytes, session: bytes, tick: Nano) -> Locked | Decline:
        """Ask the mint."""
        await (self.before or trio.lowlevel.checkpoint)()
        return self.take(spend, session, tick)

    def take(self, spend: bytes, session: bytes, tick: Nano) -> Locked | Decline:
        """`lock` at once."""
        try:
            _, terms, root = _read(spend)
        except CodecError:
            return Decline.TERMS
        if (terms.session, terms.tick) != (session, tick):
            return Decline.TERMS
        result = self.mint.lock(self._clock(), self._worker, spend)
        if isinstance(result, Locked):
            self._newest[result.lock_id] = 0, root
        return result

    def bill(self, lock_id: bytes, receipt: bytes) -> None:
        """Nobody asks for it."""

    def keep(self, lock_id: bytes, index: int, preimage: bytes) -> None:
        """Remember the newest tick."""
        self._newest[lock_id] = index, preimage

    def settle(self, lock_id: bytes, *, final: bool, ticks: int) -> None:
        """Have so many of them paid."""
        index, newest = self._newest[lock_id]
        ticks = min(ticks, index)
        preimage = earlier(newest, index - ticks)
        try:
            self.mint.settle(lock_id, ticks, preimage, final=final)
        except BadPreimage as error:
            raise AssertionError("a worker that keeps what is no tick") from error
