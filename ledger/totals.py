"""What a node's store comes to, in sums, for people: nothing is decided by these figures.

Each is a sum over rows, so that it is right whenever it is read, and no chain is asked. A session
counts to the day on which its lock ends, minutes after its answer: that is the only time in its
row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ledger import coins
from ledger.book import Entry
from ledger.coins import Holdings
from ledger.money import ZERO, Nano
from ledger.store import Connection, Value, first, integer, nano, one
from p2p.identity import AdnlId

DAY: Final = 86_400
"""seconds; days are UTC's"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What this node has, is owed, owes, and did today."""

    credits: Holdings
    due: Nano
    """Promised to us on lanes that are not closed, and not claimed; and debts without a lane."""
    owed: Nano
    """The same, by us."""
    earned: Nano
    """What mints have paid for our answers, ever."""
    earned_today: Nano
    """Of it, today; a mint's own fees too."""
    spent_today: Nano
    """What mints have paid workers for us, once the change has come; without the mints' fee."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Minted:
    """What a mint has out, of the keysets whose credits can still be spent or swapped."""

    outstanding: Nano
    """Worth of the credits that nobody has spent: what the mint would have to pay for."""
    issued: int
    redeemed: int
    """credits, change included"""


def totals(connection: Connection, mints: Sequence[AdnlId], now: float) -> Totals:
    """Add up; `mints` are those whose credits count here, `now` is Unix time."""
    today = int(now) // DAY
    fees = _sum(connection, _FEES, today, Entry.FEE.value)
    return Totals(
        credits=coins.holdings(connection, mints, now),
        due=_unclaimed(connection, "payee") + _sum(connection, "SELECT sum(owed) FROM debt"),
        owed=_unclaimed(connection, "payer") + _sum(connection, "SELECT sum(owed) FROM iou"),
        earned=_sum(connection, _EARNED),
        earned_today=_sum(connection, f"{_EARNED} WHERE {_ENDS}", *_bounds(today)) + fees,
        spent_today=_sum(connection, f"{_SPENT} AND {_ENDS}", *_bounds(today)),
    )


def minted(connection: Connection) -> Minted:
    """Add up a mint's credits."""
    issued, worth = _credits(connection, "issued")
    redeemed, back = _credits(connection, "nullifier")
    return Minted(outstanding=worth - back, issued=issued, redeemed=redeemed)


def purchases(connection: Connection, epoch: int) -> int:
    """How often a mint has sold credits of an epoch: the fewer, the more a time says of whose."""
    (count,) = one(connection, "SELECT count(*) FROM purchase WHERE epoch = ?", epoch)
    return integer(count)


_FEES: Final = "SELECT nano FROM book WHERE day = ? AND entry = ?"

_EARNED: Final = "SELECT sum(settled * tick) FROM taking"

_SPENT: Final = "SELECT sum(settled * tick) FROM session WHERE role = 'payer'"

_ENDS: Final = "expiry >= ? AND expiry < ?"


def _bounds(day: int) -> tuple[int, int]:
    return day * DAY, (day + 1) * DAY


def _unclaimed(connection: Connection, role: str) -> Nano:
    # A store that lost vouchers may know of less than the chain has paid.
    promised = "SELECT sum(max(0, cumulative - claimed)) FROM lane"
    return _sum(connection, f"{promised} WHERE role = ? AND phase <> 'closed'", role)


def _credits(connection: Connection, table: str) -> tuple[int, Nano]:
    count, worth = one(connection, f"SELECT count(*), sum(1 << j) FROM {table}")  # noqa: S608
    return integer(count), ZERO if worth is None else nano(worth)


def _sum(connection: Connection, statement: str, *values: Value) -> Nano:
    row = first(connection, statement, *values)
    return ZERO if row is None or row[0] is None else nano(row[0])
