"""A mint's book in the store's tables: `MintBook` over the connection of one write.

A customer's lane is one that was proposed over a circuit, so that nobody knows whose it is; a lane
to a worker is one that the mint opened for payouts and said so in `lane_out`.
"""

from collections.abc import Iterator, Sequence
from typing import Final, final

from ledger import lane_rows
from ledger.book import Entry, Issued, LaneIn, LaneOut, LockRow, Purchase, Sheet
from ledger.lane import Phase, Role
from ledger.money import Nano
from ledger.store import Connection, Row, Value, blob, first, integer, nano, one
from p2p.identity import AdnlId

_HASH: Final = 32


@final
class SqlBook:
    """See `MintBook`. Valid inside the write that its connection belongs to."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # --- keysets ---

    def keysets(self) -> Sequence[bytes]:
        """All signed keysets, the oldest first."""
        rows = self._all("SELECT signed FROM keyset ORDER BY epoch")
        return [blob(signed) for (signed,) in rows]

    def add_keyset(self, epoch: int, signed: bytes) -> None:
        """Publish an epoch."""
        self._do("INSERT INTO keyset VALUES (?, ?)", epoch, signed)

    def drop_epoch(self, epoch: int) -> None:
        """Delete all of it."""
        for table in ("keyset", "purchase", "issued", "nullifier", "lock"):
            self._do(f"DELETE FROM {table} WHERE epoch = ?", epoch)  # noqa: S608

    # --- credits ---

    def purchase(self, rid: bytes) -> Purchase | None:
        """A purchase by its id."""
        row = self._first("SELECT epoch, digest FROM purchase WHERE rid = ?", rid)
        if row is None:
            return None
        return Purchase(rid=rid, epoch=integer(row[0]), digest=blob(row[1]))

    def add_purchase(self, purchase: Purchase) -> None:
        """Remember a purchase."""
        values = (purchase.rid, purchase.epoch, purchase.digest)
        self._do("INSERT INTO purchase VALUES (?, ?, ?)", *values)

    def issued(self, blind: bytes) -> Sequence[Issued]:
        """How a blinded credit was signed, once for each source that asked for it."""
        rows = self._connection.execute("SELECT epoch, j, source FROM issued WHERE b = ?", (blind,))
        return [
            Issued(blind=blind, epoch=integer(epoch), j=integer(j), source=blob(source))
            for epoch, j, source in rows
        ]

    def add_issued(self, credits: Sequence[Issued]) -> None:  # noqa: A002 - the seam's word
        """Blinded credits are signed."""
        for credit in credits:
            values = (credit.blind, credit.epoch, credit.j, credit.source)
            self._do("INSERT INTO issued VALUES (?, ?, ?, ?)", *values)

    def spent(self, epoch: int, nullifiers: Sequence[bytes]) -> bytes | None:
        """A lock or swap that spent one of these credits."""
        places = ",".join("?" * len(nullifiers))
        query = f"SELECT lock FROM nullifier WHERE epoch = ? AND n IN ({places}) LIMIT 1"  # noqa: S608
        row = self._first(query, epoch, *nullifiers)
        return None if row is None else blob(row[0])

    def add_spent(self, epoch: int, spent: Sequence[tuple[bytes, int]], lock: bytes) -> None:
        """Spend credits; the table's key refuses a second time."""
        places = ",".join(["(?, ?, ?, ?)"] * len(spent))
        values: list[Value] = []
        for nullifier, j in spent:
            values += (epoch, nullifier, j, lock)
        self._do(f"INSERT INTO nullifier VALUES {places}", *values)  # noqa: S608

    def outstanding(self, epoch: int) -> Nano:
        """Worth of the epoch's credits that were issued and not spent."""
        issued = self._sum("SELECT sum(1 << j) FROM issued WHERE epoch = ?", epoch)
        return issued - self._sum("SELECT sum(1 << j) FROM nullifier WHERE epoch = ?", epoch)

    # --- locks ---

    def lock(self, lock: bytes) -> LockRow | None:
        """A lock by its id, open or final."""
        row = self._first(f"SELECT {_LOCK} FROM lock WHERE id = ?", lock)  # noqa: S608
        return None if row is None else _lock(row)

    def save_lock(self, lock: LockRow) -> None:
        """Insert, or update: what may change is what was paid, and that it is final."""
        self._do(
            f"INSERT INTO lock ({_LOCK})"  # noqa: S608
            " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
            " ON CONFLICT (id) DO UPDATE SET i=excluded.i, x=excluded.x, final=excluded.final",
            *_lock_values(lock),
        )

    def due(self, expiry: float, most: int) -> Sequence[LockRow]:
        """At most so many open locks that expired by then, the earliest first."""
        rows = self._all(
            f"SELECT {_LOCK} FROM lock WHERE NOT final AND expiry <= ?"  # noqa: S608
            " ORDER BY expiry, id LIMIT ?",
            expiry,
            most,
        )
        return [_lock(row) for row in rows]

    def first_expiry(self) -> int | None:
        """Of all open locks."""
        (expiry,) = self._one("SELECT min(expiry) FROM lock WHERE NOT final")
        return None if expiry is None else integer(expiry)

    # --- lanes and debts ---

    def lane_in(self, lane: bytes) -> LaneIn | None:
        """A customer's lane."""
        row = lane_rows.load(self._connection, lane)
        if row is None or row.role is not Role.PAYEE:
            return None
        if lane_rows.peer(self._connection, lane) is not None:
            return None
        charged = self._sum("SELECT charged FROM lane_in WHERE id = ?", lane)
        return LaneIn(row=row, charged=charged)

    def save_lane_in(self, lane: LaneIn) -> None:
        """Insert or replace."""
        lane_rows.save(self._connection, lane.row)
        values = (lane.row.lane, lane.charged.value)
        self._do("INSERT OR REPLACE INTO lane_in VALUES (?, ?)", *values)

    def lane_out(self, lane: bytes) -> LaneOut | None:
        """A lane to a worker."""
        marked = self._first("SELECT worker FROM lane_out WHERE id = ?", lane)
        row = lane_rows.load(self._connection, lane)
        if marked is None or row is None:
            return None
        return LaneOut(row=row, worker=AdnlId(blob(marked[0])))

    def payout(self, worker: AdnlId) -> LaneOut | None:
        """The worker's newest open lane."""
        row = self._first(
            "SELECT lane.id FROM lane JOIN lane_out USING (id)"
            " WHERE worker = ? AND phase = ? ORDER BY opened_at DESC, id LIMIT 1",
            worker,
            Phase.OPEN.value,
        )
        return None if row is None else self.lane_out(blob(row[0]))

    def save_lane_out(self, lane: LaneOut) -> None:
        """Insert or replace."""
        lane_rows.save(self._connection, lane.row, lane.worker)
        self._do("INSERT OR REPLACE INTO lane_out VALUES (?, ?)", lane.row.lane, lane.worker)

    def reserved(self, lane: bytes) -> Nano:
        """Unpaid part of the open locks that are to be paid on a lane."""
        return self._sum(f"{_UNPAID} WHERE NOT final AND lane = ?", lane)

    def reserved_debt(self, worker: AdnlId) -> Nano:
        """Unpaid part of a worker's open locks that are to be owed."""
        return self._sum(f"{_UNPAID} WHERE NOT final AND lane IS NULL AND worker = ?", worker)

    def owed(self, worker: AdnlId) -> Nano:
        """What the mint owes a worker apart from lanes."""
        return self._sum("SELECT owed FROM iou WHERE worker = ?", worker)

    def save_owed(self, worker: AdnlId, owed: Nano) -> None:
        """Replace it."""
        self._do("INSERT OR REPLACE INTO iou VALUES (?, ?)", worker, owed.value)

    # --- the mint's own ---

    def post(self, day: int, entry: Entry, amount: Nano) -> None:
        """Add to a day's figure."""
        self._do(
            "INSERT INTO book VALUES (?, ?, ?)"
            " ON CONFLICT (day, entry) DO UPDATE SET nano = nano + excluded.nano",
            *(day, entry.value, amount.value),
        )

    def sheet(self) -> Sheet:
        """Add up all rows."""
        customers = "FROM lane WHERE role = 'payee' AND peer IS NULL"
        received = self._sum(f"SELECT sum(cumulative) {customers}")
        workers = "FROM lane JOIN lane_out USING (id)"
        posted = "SELECT sum(nano) FROM book WHERE entry = ?"
        issued = self._sum("SELECT sum(1 << j) FROM issued")
        return Sheet(
            received=received,
            advance=received - self._sum("SELECT sum(charged) FROM lane_in"),
            outstanding=issued - self._sum("SELECT sum(1 << j) FROM nullifier"),
            locked=self._sum(f"{_UNPAID} WHERE NOT final"),
            given=self._sum(f"SELECT sum(cumulative) {workers}"),
            owed=self._sum("SELECT sum(owed) FROM iou"),
            fees=self._sum(posted, Entry.FEE.value),
            expired=self._sum(posted, Entry.EXPIRED.value),
        )

    # --- SQL ---

    def _do(self, statement: str, *values: Value) -> None:
        self._connection.execute(statement, values)

    def _all(self, statement: str, *values: Value) -> Iterator[Row]:
        return self._connection.execute(statement, values)

    def _one(self, statement: str, *values: Value) -> Row:
        return one(self._connection, statement, *values)

    def _first(self, statement: str, *values: Value) -> Row | None:
        return first(self._connection, statement, *values)

    def _sum(self, statement: str, *values: Value) -> Nano:
        """A figure; none is zero."""
        row = self._first(statement, *values)
        return nano(0 if row is None or row[0] is None else row[0])


_UNPAID: Final = "SELECT sum(amount - tick * i) FROM lock"

_LOCK: Final = (
    "id, worker, lane, epoch, session, amount, tick, ticks, root, expiry, issued,"
    " nullifiers, blanks, owner, i, x, final"
)


def _lock_values(lock: LockRow) -> tuple[Value, ...]:
    return (
        lock.id,
        lock.worker,
        lock.lane,
        lock.epoch,
        lock.session,
        lock.amount.value,
        lock.tick.value,
        lock.ticks,
        lock.root,
        lock.expiry,
        lock.issued,
        b"".join(lock.nullifiers),
        b"".join(lock.blanks),
        lock.owner,
        lock.i,
        lock.x,
        int(lock.final),
    )


def _lock(row: Row) -> LockRow:
    return LockRow(
        id=blob(row[0]),
        worker=AdnlId(blob(row[1])),
        lane=None if row[2] is None else blob(row[2]),
        epoch=integer(row[3]),
        session=blob(row[4]),
        amount=nano(row[5]),
        tick=nano(row[6]),
        ticks=integer(row[7]),
        root=blob(row[8]),
        expiry=integer(row[9]),
        issued=integer(row[10]),
        nullifiers=_hashes(blob(row[11])),
        blanks=_hashes(blob(row[12])),
        owner=blob(row[13]),
        i=integer(row[14]),
        x=blob(row[15]),
        final=bool(integer(row[16])),
    )


def _hashes(joined: bytes) -> tuple[bytes, ...]:
    return tuple(joined[at : at + _HASH] for at in range(0, len(joined), _HASH))
