"""The documents of money: the wallet, its credits, its lanes, and what was done on the chain."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ledger.book import Sheet
from ledger.money import ZERO, Nano
from scripts.api.common import moment
from scripts.failure import Document

HISTORY: Final = 100
"""transactions shown, the newest first"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneView:
    """One lane, from one of its two ends."""

    address: str
    role: str
    """payer or payee"""
    peer: str
    """Id of the node at the other end; empty if it came through a circuit."""
    deposit: Nano
    voucher: Nano
    """Total of the newest voucher."""
    claimed: Nano
    state: str
    """As `ledger.lane.Phase` names it: proposed, opening, open, close_signed, closing or closed"""
    expires_at: float | None
    """From when the payer may take the rest, once it asked to."""
    returned: Nano = ZERO
    """What came back to the payer, this node, when the lane ended."""

    @property
    def due(self) -> Nano:
        """Promised and not claimed, while it can be.

        A node that lost vouchers knows of less than was paid.
        """
        closed = self.state == "closed"
        return ZERO if closed else self.voucher - min(self.voucher, self.claimed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One transaction on the chain."""

    at: float
    kind: str
    """What this node did that caused it: open, top_up, claim, close, start_close or finish"""
    amount: Nano
    """Coins that came in with it: none for the message that began it, which came from outside."""
    fee: Nano
    account: str
    """Whose transaction it is."""
    peer: str
    """Who sent what it took in; empty: nobody on the chain."""
    transaction: str
    """hex of its hash; empty: the account is gone, and its history with it"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coins:
    """Credits at hand."""

    by_value: Sequence[tuple[Nano, int]] = ()
    """How many of each value, the smallest first."""
    in_flight: Nano = ZERO
    """Set aside for answers that run, or whose change is still to be fetched."""
    epoch_ends: float | None = None
    """When the newest keyset among them can be spent no more."""

    @property
    def count(self) -> int:
        """All of them."""
        return sum(count for _, count in self.by_value)

    @property
    def value(self) -> Nano:
        """Of all of them."""
        return sum((value * count for value, count in self.by_value), ZERO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Funds:
    """Everything a home has and owes."""

    chain: str
    """Its name."""
    worthless: bool
    """Whether the coins of this chain are worth nothing."""
    address: str
    state: str
    """uninit, active or frozen; unknown while the chain cannot be reached"""
    balance: Nano | None
    coins: Coins
    lanes: Sequence[LaneView]
    per_request: Nano
    per_day: Nano
    float_cap: Nano
    spent_today: Nano
    claim_fee: Nano | None
    close_fee: Nano | None
    history: Sequence[Move] = ()


def wallet(funds: Funds) -> Document:
    """The `wallet` document."""
    return {
        "schema": "tussah/wallet/1",
        "chain": funds.chain,
        "worthless": funds.worthless,
        "address": funds.address,
        "state": funds.state,
        "balance_nano": _known(funds.balance),
        "credits": _coins(funds.coins),
        "lanes": [_lane(lane) for lane in funds.lanes],
        "limits": {
            "per_request_nano": funds.per_request.value,
            "per_day_nano": funds.per_day.value,
            "spent_today_nano": funds.spent_today.value,
            "float_nano": funds.float_cap.value,
        },
        "fees_nano": {"claim": _known(funds.claim_fee), "close": _known(funds.close_fee)},
        "history": [_move(move) for move in funds.history[:HISTORY]],
    }


def credits_(funds: Funds) -> Document:
    """The `credits` document."""
    return {"schema": "tussah/credits/1", "credits": _coins(funds.coins)}


def lanes(funds: Funds) -> Document:
    """The `lanes` document."""
    return {
        "schema": "tussah/lanes/1",
        "lanes": [_lane(lane) for lane in funds.lanes],
        "transactions": [_move(move) for move in funds.history[:HISTORY]],
    }


def purchase(bundle: str, value: Nano, price: Nano, funds: Funds) -> Document:
    """What `credits buy` bought, and what is there now."""
    return {
        "schema": "tussah/purchase/1",
        "bundle": bundle,
        "value_nano": value.value,
        "price_nano": price.value,
        "credits": _coins(funds.coins),
    }


def audit(sheet: Sheet, *, issued: int, redeemed: int, purchases: int) -> Document:
    """The `audit` document: a mint's balance sheet."""
    return {
        "schema": "tussah/audit/1",
        "received_nano": sheet.received.value,
        "advance_nano": sheet.advance.value,
        "outstanding_nano": sheet.outstanding.value,
        "locked_nano": sheet.locked.value,
        "given_nano": sheet.given.value,
        "owed_nano": sheet.owed.value,
        "fees_nano": sheet.fees.value,
        "expired_nano": sheet.expired.value,
        "difference_nano": sheet.difference,
        "issued": issued,
        "redeemed": redeemed,
        "purchases": purchases,
    }


def _coins(coins: Coins) -> Document:
    ends = coins.epoch_ends
    return {
        "count": coins.count,
        "value_nano": coins.value.value,
        "by_value": [
            {"value_nano": value.value, "count": count} for value, count in coins.by_value
        ],
        "keyset_epoch_ends_at": None if ends is None else moment(ends),
        "in_flight_nano": coins.in_flight.value,
    }


def _lane(lane: LaneView) -> Document:
    return {
        "address": lane.address,
        "role": lane.role,
        "peer": lane.peer or None,
        "deposit_nano": lane.deposit.value,
        "voucher_nano": lane.voucher.value,
        "claimed_nano": lane.claimed.value,
        "due_nano": lane.due.value,
        "returned_nano": lane.returned.value,
        "state": lane.state,
        "expires_at": None if lane.expires_at is None else moment(lane.expires_at),
    }


def _move(move: Move) -> Document:
    return {
        "at": moment(move.at),
        "kind": move.kind,
        "amount_nano": move.amount.value,
        "fee_nano": move.fee.value,
        "account": move.account,
        "peer": move.peer or None,
        "transaction": move.transaction or None,
    }


def _known(amount: Nano | None) -> int | None:
    return None if amount is None else amount.value
