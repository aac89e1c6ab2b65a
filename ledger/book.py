"""A mint's book: what it has sold, what came back, and to whom the rest belongs.

`MintBook` is the seam between `MintCore` and where rows are kept: `simulations/book.py` in memory,
`ledger/sqlbook.py` on the disk, one set of tests for both. A book decides nothing. All calls of one
request happen in one transaction, and an exception undoes every one of them.

Money is in one place at a time, so that the `Sheet` is zero after every transaction: what customers
paid is with them as credits, locked, with the workers, or the mint's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from ledger.credit import Spend
from ledger.lane import LaneRow
from ledger.money import Nano
from p2p.identity import AdnlId


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneIn:
    """A customer's lane to the mint."""

    row: LaneRow
    charged: Nano
    """Price of all that was bought on it; the rest of `row.cumulative` is paid in advance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneOut:
    """A lane of the mint to a worker."""

    row: LaneRow
    worker: AdnlId


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """What was sold once is sold once."""

    rid: bytes
    epoch: int
    digest: bytes
    """SHA-256 of the request: another one with the same `rid` is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A blinded credit that was signed, and with which key. It is signed with no other."""

    blind: bytes
    epoch: int
    j: int
    source: bytes
    """The purchase's `rid`, or the lock that gave it out as change or in a swap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRow:
    """Coins spent on a session, and what became of them."""

    id: bytes
    worker: AdnlId
    lane: bytes | None
    """Where the worker is to be paid; None: owed."""
    epoch: int
    session: bytes
    amount: Nano
    tick: Nano
    ticks: int
    root: bytes
    expiry: int
    issued: int
    """Unix time of the lock"""
    nullifiers: tuple[bytes, ...]
    blanks: tuple[bytes, ...]
    owner: bytes
    i: int = 0
    """ticks paid"""
    x: bytes
    """The preimage of tick `i`; the root at first."""
    final: bool = False

    @classmethod
    def new(
        cls, spend: Spend, nullifiers: tuple[bytes, ...], lane: bytes | None, now: float
    ) -> "LockRow":
        """An open lock of a spend that was found good."""
        terms = spend.terms
        return cls(
            id=spend.lock_id,
            worker=terms.payee,
            lane=lane,
            epoch=terms.epoch,
            session=terms.session,
            amount=spend.amount,
            tick=terms.tick,
            ticks=terms.ticks,
            root=terms.root,
            expiry=terms.expiry,
            issued=int(now),
            nullifiers=nullifiers,
            blanks=terms.blanks,
            owner=terms.owner,
            x=terms.root,
        )

    @property
    def unpaid(self) -> Nano:
        """What ticks have not paid, while open."""
        return self.amount - self.tick * self.i


class Entry(StrEnum):
    """What becomes the mint's own."""

    FEE = "fee"
    EXPIRED = "expired"
    """credits that nobody spent or swapped in time"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """The balance sheet; each figure is a sum over rows, none is kept beside them."""

    received: Nano
    """Highest vouchers of all customers' lanes, closed ones included."""
    advance: Nano
    """of it, not bought for yet"""
    outstanding: Nano
    """Credits signed and not spent, in all live epochs."""
    locked: Nano
    """Unpaid part of open locks."""
    given: Nano
    """Highest vouchers on all lanes to workers, closed ones included."""
    owed: Nano
    """Debts to workers without a lane."""
    fees: Nano
    expired: Nano

    @property
    def difference(self) -> int:
        """nano that came from nowhere or went there; anything but 0 is a bug."""
        placed = (self.advance, self.outstanding, self.locked, self.given, self.owed)
        return self.received.value - sum(n.value for n in (*placed, self.fees, self.expired))


class MintBook(Protocol):
    """The reads and writes of a mint's book; see the module. `save_x` inserts or replaces."""

    # keysets; epochs rise

    def keysets(self) -> Sequence[bytes]:
        """All signed keysets, the oldest first."""

    def add_keyset(self, epoch: int, signed: bytes) -> None:
        """Publish an epoch; never a second one under its number."""

    def drop_epoch(self, epoch: int) -> None:
        """Delete its keyset, and its purchases, issued credits, nullifiers and locks."""

    # credits

    def purchase(self, rid: bytes) -> Purchase | None:
        """A purchase by its id."""

    def add_purchase(self, purchase: Purchase) -> None:
        """Remember a purchase."""

    def issued(self, blind: bytes) -> Sequence[Issued]:
        """How a blinded credit was signed, once for each source that asked for it."""

    def add_issued(self, issued: Sequence[Issued]) -> None:
        """Blinded credits are signed; none of them was before for this source."""

    def spent(self, epoch: int, nullifiers: Sequence[bytes]) -> bytes | None:
        """A lock or swap that spent one of these credits."""

    def add_spent(self, epoch: int, spent: Sequence[tuple[bytes, int]], lock: bytes) -> None:
        """Spend credits, by nullifier and exponent; none of them was before."""

    def outstanding(self, epoch: int) -> Nano:
        """Worth of the epoch's credits that were issued and not spent."""

    # locks

    def lock(self, lock: bytes) -> LockRow | None:
        """A lock by its id, open or final."""

    def save_lock(self, lock: LockRow) -> None:
        """Insert or replace."""

    def due(self, expiry: float, most: int) -> Sequence[LockRow]:
        """At most so many open locks that expired by then, the earliest first."""

    def first_expiry(self) -> int | None:
        """Of all open locks."""

    # lanes and debts

    def lane_in(self, lane: bytes) -> LaneIn | None:
        """A customer's lane; None if it is unknown or anything else."""

    def save_lane_in(self, lane: LaneIn) -> None:
        """Insert or replace."""

    def lane_out(self, lane: bytes) -> LaneOut | None:
        """A lane to a worker; None if it is unknown or anything else."""

    def payout(self, worker: AdnlId) -> LaneOut | None:
        """The worker's newest open lane."""

    def save_lane_out(self, lane: LaneOut) -> None:
        """Insert or replace."""

    def reserved(self, lane: bytes) -> Nano:
        """Unpaid part of the open locks that are to be paid on a lane."""

    def reserved_debt(self, worker: AdnlId) -> Nano:
        """Unpaid part of a worker's open locks that are to be owed."""

    def owed(self, worker: AdnlId) -> Nano:
        """What the mint owes a worker apart from lanes."""

    def save_owed(self, worker: AdnlId, owed: Nano) -> None:
        """Replace it."""

    # the mint's own

    def post(self, day: int, entry: Entry, amount: Nano) -> None:
        """Add to a day's figure; days since 1970."""

    def sheet(self) -> Sheet:
        """Add up all rows."""
