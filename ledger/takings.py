"""A worker's takings in the store: sessions that askers pay for, until their mint has paid.

Each function is part of one write or read.
"""

from dataclasses import dataclass, replace
from typing import Final

from ledger.lane import Role
from ledger.money import ZERO, Nano
from ledger.receipt import Iou
from ledger.store import Connection, Row, blob, first, integer, nano
from ledger.tick import earlier
from p2p.identity import AdnlId


@dataclass(frozen=True, slots=True, kw_only=True)
class Taking:
    """One session, locked at a mint for us."""

    lock: bytes
    session: bytes
    mint: AdnlId
    tick: Nano
    ticks: int
    expiry: int
    i: int = 0
    """ticks revealed to us"""
    x: bytes
    """The preimage of tick `i`; the root at first."""
    settled: int = 0
    """ticks that the mint has paid"""
    final: bool = False
    """No more ticks will come, and no more than `i` are wanted."""

    def upto(self, ticks: int) -> "Taking":
        """The same, were no later tick kept than this."""
        if ticks >= self.i:
            return self
        return replace(self, i=ticks, x=earlier(self.x, self.i - ticks))


def add(connection: Connection, taking: Taking) -> bool:
    """Before any work is done for it. False if it is there already, and then nothing changes."""
    connection.execute(
        f"INSERT INTO taking ({_COLUMNS}, done) VALUES (?,?,?,?,?,?,?,?,?,?,0)"  # noqa: S608
        " ON CONFLICT DO NOTHING",
        (
            taking.lock,
            taking.session,
            taking.mint,
            taking.tick.value,
            taking.ticks,
            taking.expiry,
            taking.i,
            taking.x,
            taking.settled,
            int(taking.final),
        ),
    )
    return connection.changes() == 1


def keep(connection: Connection, taking: Taking) -> None:
    """The newest tick, or the last one that is wanted; after that nothing changes."""
    connection.execute(
        "UPDATE taking SET i = ?, x = ?, final = ? WHERE lock = ? AND NOT final",
        (taking.i, taking.x, int(taking.final), taking.lock),
    )


def bill(connection: Connection, lock: bytes, signed: bytes) -> None:
    """The receipt that its asker gets."""
    connection.execute("INSERT OR IGNORE INTO bill VALUES (?, ?)", (lock, signed))


def close_all(connection: Connection) -> None:
    """Whatever was being answered when we stopped is over."""
    connection.execute("UPDATE taking SET final = 1 WHERE NOT done")


def paid(connection: Connection, lock: bytes, settled: int) -> None:
    """The mint has paid so many ticks."""
    connection.execute(
        "UPDATE taking SET settled = max(settled, ?) WHERE lock = ?", (settled, lock)
    )


def finish(connection: Connection, lock: bytes) -> None:
    """The mint has nothing more to say of it."""
    connection.execute("UPDATE taking SET done = 1 WHERE lock = ?", (lock,))


def unfinished(connection: Connection) -> list[Taking]:
    """All that are not finished."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM taking WHERE NOT done")  # noqa: S608
    return [_taking(row) for row in rows]


def owe(connection: Connection, mint: AdnlId, iou: Iou | None, signed: bytes | None) -> None:
    """What a mint owes us without a lane; its newest word counts, None: nothing."""
    connection.execute("DELETE FROM debt WHERE mint = ?", (mint,))
    if iou is not None:
        values = (mint, iou.owed.value, signed)
        connection.execute("INSERT INTO debt VALUES (?, ?, ?)", values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a mint owes us for ticks, and what we hold for it."""

    earned: Nano
    """Ticks that it says it has paid."""
    held: Nano
    """Highest vouchers of all its lanes to us, closed ones included."""
    owed: Nano

    @property
    def is_short(self) -> bool:
        """Whether the mint says that it has paid what we do not hold."""
        return self.held + self.owed < self.earned


def account(connection: Connection, mint: AdnlId) -> Account:
    """Add up all rows of one mint."""
    lanes = "SELECT sum(cumulative) FROM lane WHERE peer = ? AND role = ?"
    return Account(
        earned=_sum(
            first(connection, "SELECT sum(settled * tick) FROM taking WHERE mint = ?", mint)
        ),
        held=_sum(first(connection, lanes, mint, Role.PAYEE.value)),
        owed=_sum(first(connection, "SELECT owed FROM debt WHERE mint = ?", mint)),
    )


_COLUMNS: Final = "lock, session, mint, tick, ticks, expiry, i, x, settled, final"


def _taking(row: Row) -> Taking:
    return Taking(
        lock=blob(row[0]),
        session=blob(row[1]),
        mint=AdnlId(blob(row[2])),
        tick=nano(row[3]),
        ticks=integer(row[4]),
        expiry=integer(row[5]),
        i=integer(row[6]),
        x=blob(row[7]),
        settled=integer(row[8]),
        final=bool(integer(row[9])),
    )


def _sum(row: Row | None) -> Nano:
    return ZERO if row is None or row[0] is None else nano(row[0])
