"""A mint's book in memory, for simulations and as the plain reading of what `MintBook` promises.

`MemoryBook.write` is one transaction: an exception undoes whatever was written in it.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, MutableMapping, Sequence
from functools import reduce
from itertools import chain
from operator import add
from typing import TypeVar, final

from ledger.book import Entry, Issued, LaneIn, LaneOut, LockRow, MintBook, Purchase, Sheet
from ledger.credit import worth
from ledger.lane import Phase
from ledger.money import ZERO, Nano
from p2p.identity import AdnlId

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@final
class MemoryBook:
    """See `MintBook`."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], object]] = []
        self._keysets: _Table[int, bytes] = _Table(self._undo)
        self._purchases: _Table[bytes, Purchase] = _Table(self._undo)
        self._issued: _Table[bytes, tuple[Issued, ...]] = _Table(self._undo)
        self._spent: _Table[tuple[int, bytes], tuple[int, bytes]] = _Table(self._undo)
        self._locks: _Table[bytes, LockRow] = _Table(self._undo)
        self._open: _Table[bytes, LockRow] = _Table(self._undo)
        self._lanes_in: _Table[bytes, LaneIn] = _Table(self._undo)
        self._lanes_out: _Table[bytes, LaneOut] = _Table(self._undo)
        self._owed: _Table[AdnlId, Nano] = _Table(self._undo)
        self._posted: _Table[tuple[int, Entry], Nano] = _Table(self._undo)

    def write(self, work: Callable[[MintBook], T]) -> T:
        """Do `work` whole, or not at all if it raises."""
        self._undo.clear()
        try:
            return work(self)
        except BaseException:  # a transaction: whatever stops it, cancellation too, undoes it
            for undo in reversed(self._undo):
                undo()
            raise

    # --- keysets ---

    def keysets(self) -> Sequence[bytes]:
        """All signed keysets, the oldest first."""
        return [self._keysets[epoch] for epoch in sorted(self._keysets)]

    def add_keyset(self, epoch: int, signed: bytes) -> None:
        """Publish an epoch."""
        self._keysets.add(epoch, signed)

    def drop_epoch(self, epoch: int) -> None:
        """Delete all of it."""
        del self._keysets[epoch]
        self._purchases.drop(lambda _, row: row.epoch == epoch)
        self._issued.drop(lambda _, rows: rows[0].epoch == epoch)
        self._spent.drop(lambda key, _: key[0] == epoch)
        self._locks.drop(lambda _, row: row.epoch == epoch)
        self._open.drop(lambda _, row: row.epoch == epoch)

    # --- credits ---

    def purchase(self, rid: bytes) -> Purchase | None:
        """A purchase by its id."""
        return self._purchases.get(rid)

    def add_purchase(self, purchase: Purchase) -> None:
        """Remember a purchase."""
        self._purchases.add(purchase.rid, purchase)

    def issued(self, blind: bytes) -> Sequence[Issued]:
        """How a blinded credit was signed, once for each source that asked for it."""
        return self._issued.get(blind, ())

    def add_issued(self, issued: Sequence[Issued]) -> None:
        """Blinded credits are signed."""
        for row in issued:
            before = self._issued.get(row.blind, ())
            if any(one.source == row.source for one in before):
                raise KeyError("a credit was signed twice for one source")
            self._issued[row.blind] = (*before, row)

    def spent(self, epoch: int, nullifiers: Sequence[bytes]) -> bytes | None:
        """A lock or swap that spent one of these credits."""
        rows = (self._spent.get((epoch, nullifier)) for nullifier in nullifiers)
        return next((row[1] for row in rows if row is not None), None)

    def add_spent(self, epoch: int, spent: Sequence[tuple[bytes, int]], lock: bytes) -> None:
        """Spend credits."""
        for nullifier, j in spent:
            self._spent.add((epoch, nullifier), (j, lock))

    def outstanding(self, epoch: int) -> Nano:
        """Worth of the epoch's credits that were issued and not spent."""
        issued = worth(row.j for row in self._all_issued() if row.epoch == epoch)
        return issued - worth(j for (of, _), (j, _) in self._spent.items() if of == epoch)

    def _all_issued(self) -> Iterator[Issued]:
        return chain.from_iterable(self._issued.values())

    # --- locks ---

    def lock(self, lock: bytes) -> LockRow | None:
        """A lock by its id, open or final."""
        return self._locks.get(lock)

    def save_lock(self, lock: LockRow) -> None:
        """Insert or replace."""
        self._locks[lock.id] = lock
        if not lock.final:
            self._open[lock.id] = lock
        elif lock.id in self._open:
            del self._open[lock.id]

    def due(self, expiry: float, most: int) -> Sequence[LockRow]:
        """At most so many open locks that expired by then, the earliest first."""
        due = (lock for lock in self._open.values() if lock.expiry <= expiry)
        return sorted(due, key=lambda lock: (lock.expiry, lock.id))[:most]

    def first_expiry(self) -> int | None:
        """Of all open locks."""
        return min((lock.expiry for lock in self._open.values()), default=None)

    # --- lanes and debts ---

    def lane_in(self, lane: bytes) -> LaneIn | None:
        """A customer's lane."""
        return self._lanes_in.get(lane)

    def save_lane_in(self, lane: LaneIn) -> None:
        """Insert or replace."""
        self._lanes_in[lane.row.lane] = lane

    def lane_out(self, lane: bytes) -> LaneOut | None:
        """A lane to a worker."""
        return self._lanes_out.get(lane)

    def payout(self, worker: AdnlId) -> LaneOut | None:
        """The worker's newest open lane."""
        lanes = (out for out in self._lanes_out.values() if out.worker == worker)
        open_ = (out for out in lanes if out.row.phase is Phase.OPEN)
        newest = sorted(open_, key=lambda out: (-out.row.opened_at, out.row.lane))
        return next(iter(newest), None)

    def save_lane_out(self, lane: LaneOut) -> None:
        """Insert or replace."""
        self._lanes_out[lane.row.lane] = lane

    def reserved(self, lane: bytes) -> Nano:
        """Unpaid part of the open locks that are to be paid on a lane."""
        return _sum(lock.unpaid for lock in self._open.values() if lock.lane == lane)

    def reserved_debt(self, worker: AdnlId) -> Nano:
        """Unpaid part of a worker's open locks that are to be owed."""
        locks = (lock for lock in self._open.values() if lock.lane is None)
        return _sum(lock.unpaid for lock in locks if lock.worker == worker)

    def owed(self, worker: AdnlId) -> Nano:
        """What the mint owes a worker apart from lanes."""
        return self._owed.get(worker, ZERO)

    def save_owed(self, worker: AdnlId, owed: Nano) -> None:
        """Replace it."""
        self._owed[worker] = owed

    # --- the mint's own ---

    def post(self, day: int, entry: Entry, amount: Nano) -> None:
        """Add to a day's figure."""
        self._posted[day, entry] = self._posted.get((day, entry), ZERO) + amount

    def sheet(self) -> Sheet:
        """Add up all rows."""
        customers = tuple(self._lanes_in.values())
        issued = worth(row.j for row in self._all_issued())
        return Sheet(
            received=_sum(lane.row.cumulative for lane in customers),
            advance=_sum(lane.row.cumulative - lane.charged for lane in customers),
            outstanding=issued - worth(j for j, _ in self._spent.values()),
            locked=_sum(lock.unpaid for lock in self._open.values()),
            given=_sum(lane.row.cumulative for lane in self._lanes_out.values()),
            owed=_sum(self._owed.values()),
            fees=self._all_posted(Entry.FEE),
            expired=self._all_posted(Entry.EXPIRED),
        )

    def _all_posted(self, entry: Entry) -> Nano:
        return _sum(amount for (_, kind), amount in self._posted.items() if kind is entry)


@final
class _Table(MutableMapping[K, V]):
    """Rows by key; every change notes how to undo it."""

    def __init__(self, undo: list[Callable[[], object]]) -> None:
        self._rows: dict[K, V] = {}
        self._undo = undo

    def add(self, key: K, value: V) -> None:
        """Insert, where nothing may stand yet."""
        if key in self._rows:
            raise KeyError("a second row with a key of the first")
        self[key] = value

    def drop(self, which: Callable[[K, V], bool]) -> None:
        """Delete all rows that are so."""
        for key in [key for key, value in self._rows.items() if which(key, value)]:
            del self[key]

    def __getitem__(self, key: K) -> V:
        return self._rows[key]

    def __setitem__(self, key: K, value: V) -> None:
        self._note(key)
        self._rows[key] = value

    def __delitem__(self, key: K) -> None:
        self._note(key)
        del self._rows[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def _note(self, key: K) -> None:
        if key in self._rows:
            value = self._rows[key]
            self._undo.append(lambda: self._rows.__setitem__(key, value))
        else:
            self._undo.append(lambda: self._rows.pop(key))


def _sum(amounts: Iterable[Nano]) -> Nano:
    return reduce(add, amounts, ZERO)
