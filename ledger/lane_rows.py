"""Lanes in the store: `LaneRow` to SQL and back. Whatever changes a lane does it in one write:

`load`, let `PayerLane` or `PayeeLane` act on the row, `save`. Nobody keeps a row between writes, so
that the driver of the chain and a mint's transactions never work on two versions of one lane.
"""

from collections.abc import Iterator
from functools import lru_cache

from ledger.lane import LaneConfig, LaneRow, Phase, Role
from ledger.store import Connection, Row, Value, blob, first, integer, nano, number, text
from p2p.identity import AdnlId

_COLUMNS = (
    "id, role, config, phase, cumulative, sig, deposit, claimed, balance, close_at,"
    " seen_at, opened_at, claimed_at, poor_since, valid_until, lt, returned, peer"
)


def save(connection: Connection, row: LaneRow, peer: AdnlId | None = None) -> None:
    """Insert or update; a peer once known stays known."""
    connection.execute(
        f"INSERT INTO lane ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608
        " ON CONFLICT (id) DO UPDATE SET phase=excluded.phase, cumulative=excluded.cumulative,"
        " sig=excluded.sig, deposit=excluded.deposit, claimed=excluded.claimed,"
        " balance=excluded.balance, close_at=excluded.close_at, seen_at=excluded.seen_at,"
        " opened_at=excluded.opened_at, claimed_at=excluded.claimed_at,"
        " poor_since=excluded.poor_since, valid_until=excluded.valid_until,"
        " lt=excluded.lt, returned=excluded.returned,"
        " peer=coalesce(excluded.peer, peer)",
        (*_values(row), peer),
    )


def load(connection: Connection, lane: bytes) -> LaneRow | None:
    """The lane at an address, None if we have none."""
    row = first(connection, f"SELECT {_COLUMNS} FROM lane WHERE id = ?", lane)  # noqa: S608
    return None if row is None else _row(row)


def peer(connection: Connection, lane: bytes) -> AdnlId | None:
    """Who is on the other side, as far as it is known."""
    row = first(connection, "SELECT peer FROM lane WHERE id = ?", lane)
    return None if row is None or row[0] is None else AdnlId(blob(row[0]))


def every(
    connection: Connection, role: Role, *, of: AdnlId | None = None, live: bool = False
) -> Iterator[LaneRow]:
    """The lanes of one role, the newest first; only those with one peer, if it is given.

    `live`: only those that are not closed, as `LaneRow.live`; closed ones pile up for ever.
    """
    closed = Phase.CLOSED.value if live else None
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM lane WHERE role = ? AND (? IS NULL OR peer = ?)"  # noqa: S608
        " AND (? IS NULL OR phase <> ?) ORDER BY opened_at = 0 DESC, opened_at DESC, id",
        (role.value, of, of, closed, closed),
    )
    return (_row(row) for row in rows)


def last_close(connection: Connection, role: Role, of: AdnlId) -> int:
    """Until when the last close that we signed of lanes with one peer is valid; 0: never."""
    query = "SELECT max(valid_until) FROM lane WHERE role = ? AND peer = ?"
    row = first(connection, query, role.value, of)
    return 0 if row is None or row[0] is None else integer(row[0])


def _values(row: LaneRow) -> tuple[Value, ...]:
    return (
        row.lane,
        row.role.value,
        row.config.pack(),
        row.phase.value,
        row.cumulative.value,
        row.sig,
        row.deposit.value,
        row.claimed.value,
        row.balance.value,
        row.close_at,
        row.seen_at,
        row.opened_at,
        row.claimed_at,
        row.poor_since,
        row.valid_until,
        row.lt,
        row.returned.value,
    )


@lru_cache(maxsize=4_096)
def _config(packed: bytes) -> LaneConfig:
    """A mint reads the same few for every lock, and they never change."""
    return LaneConfig.parse(packed)


@lru_cache(maxsize=4_096)
def _row(row: Row) -> LaneRow:
    """The same row is read again and again, and what it makes does not change."""
    return LaneRow(
        lane=blob(row[0]),
        role=Role(text(row[1])),
        config=_config(blob(row[2])),
        phase=Phase(text(row[3])),
        cumulative=nano(row[4]),
        sig=blob(row[5]),
        deposit=nano(row[6]),
        claimed=nano(row[7]),
        balance=nano(row[8]),
        close_at=integer(row[9]),
        seen_at=number(row[10]),
        opened_at=number(row[11]),
        claimed_at=number(row[12]),
        poor_since=number(row[13]),
        valid_until=integer(row[14]),
        lt=integer(row[15]),
        returned=nano(row[16]),
    )
