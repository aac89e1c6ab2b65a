"""What happens to lanes inside one write or read of the store; `ledger/lanes.py` says when.

Each takes the row as it is now, lets one side of the lane act on it, and keeps what comes of it.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

import structlog

from ledger import externals, lane_rows
from ledger.caused import Caused
from ledger.ends import End
from ledger.externals import External
from ledger.keys import Master
from ledger.lane import LaneRow, LaneState, PayeeLane, PayerLane, Phase, Role, Unfit
from ledger.money import Nano
from ledger.store import Connection, integer, one
from ledger.voucher import Voucher
from p2p.errors import Rejected
from p2p.identity import AdnlId

MOST_LANES: Final = 4_096
"""lanes to us that are not closed; each cost its payer coins, and costs us a query a round."""

log = structlog.get_logger()


Told: TypeAlias = tuple[External, tuple[Caused, ...]]
"""An external with the transactions it caused, once all of them are there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneStory:
    """A lane, and what this node did to it on the chain, for people."""

    row: LaneRow
    peer: AdnlId | None
    externals: tuple[Told, ...]


def pay_on(connection: Connection, master: Master, lane: bytes, amount: Nano) -> Voucher:
    """As `Lanes.pay`, for a write that does more than that."""
    payer = PayerLane(own(connection, lane, Role.PAYER))
    voucher = payer.pay(amount, master.payer(payer.row.config.lane_id))
    lane_rows.save(connection, payer.row)
    return voucher


def receive_on(connection: Connection, voucher: Voucher, now: float) -> Nano:
    """As `Lanes.receive` without a look, for a write that does more than that."""
    payee = PayeeLane(own(connection, voucher.lane, Role.PAYEE))
    gained = payee.receive(voucher, now)
    if gained:
        lane_rows.save(connection, payee.row)
    return gained


def own(connection: Connection, lane: bytes, role: Role) -> LaneRow:
    """A lane of ours on this side. Raises `Rejected`."""
    row = lane_rows.load(connection, lane)
    if row is None or row.role is not role:
        raise Rejected("unknown_lane")
    return row


def saw(connection: Connection, lane: bytes, state: LaneState | None, at: float) -> LaneRow:
    """The chain was looked at: None if it shows no contract. Raises `Rejected`."""
    row = lane_rows.load(connection, lane)
    if row is None:
        raise Rejected("unknown_lane")
    side = PayerLane(row) if row.role is Role.PAYER else PayeeLane(row)
    side.on_chain(state, at)
    if side.row.phase is not row.phase:
        log.info("lane.phase", lane=short(lane), phase=side.row.phase.value)
    lane_rows.save(connection, side.row)
    return side.row


def ended(connection: Connection, lane: bytes, end: End) -> LaneRow:
    """A lane of ours is over, and has told what became of its coins."""
    payer = PayerLane(own(connection, lane, Role.PAYER))
    if payer.row.live:
        payer.ended(end.claimed, end.returned)
        log.info("lane.phase", lane=short(lane), phase=payer.row.phase.value)
        lane_rows.save(connection, payer.row)
        externals.post_end(connection, lane, end)
    return payer.row


def admitted(connection: Connection, row: LaneRow, peer: AdnlId | None) -> LaneRow | Unfit:
    """A lane to us counts as money from now on, unless there are too many."""
    if (known := lane_rows.load(connection, row.lane)) is not None:
        return known
    live = one(connection, "SELECT count(*) FROM lane WHERE role = ? AND phase <> ?", *_LIVE_PAYEE)
    if integer(live[0]) >= MOST_LANES:
        return Unfit("terms", "too many lanes lead here")
    lane_rows.save(connection, row, peer)
    return row


_LIVE_PAYEE: Final = (Role.PAYEE.value, Phase.CLOSED.value)


def live(connection: Connection) -> list[bytes]:
    """Every lane that the chain may still change."""
    return [row.lane for role in Role for row in lane_rows.every(connection, role, live=True)]


def stories(connection: Connection) -> tuple[LaneStory, ...]:
    """Every lane with what was done to it, our own first, the newest of each first."""
    rows = [row for role in Role for row in lane_rows.every(connection, role)]
    return tuple(
        LaneStory(
            row=row,
            peer=lane_rows.peer(connection, row.lane),
            externals=told(connection, row.lane),
        )
        for row in rows
    )


def told(connection: Connection, lane: bytes) -> tuple[Told, ...]:
    """What was done about a lane, the oldest first; empty bytes: about none."""
    return tuple(externals.about(connection, lane))


def short(lane: bytes) -> str:
    """Enough to tell lanes apart in a log, too little to look one up."""
    return lane.hex()[:8]
