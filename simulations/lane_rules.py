"""What the lane contract does, as pure code: the twin of `ledger/contracts/lane.fc`.

Coins are integers and messages are arguments. `simulations/chain.py` puts accounts, blocks and
signatures round it, and one test plays the same histories to it and to TON's own machine.
"""

from dataclasses import dataclass, replace
from typing import Final

from ledger.chain.base import Fees
from ledger.lane import CLOSED_AT, RESERVE, LaneConfig
from ledger.settle import GAS_CLAIM, GAS_CLOSE, IMPORT_BITS, IMPORT_CELLS

NOT_NEW, POOR, LITTLE, WRONG_TIME, LATE, STRANGER = 103, 109, 110, 107, 108, 106
UNKNOWN: Final = 0xFFFF
"""exit codes, as in the contract"""

LEAST_INTERNAL: Final = 2_600_000
"""nano that a message from an account must bring for an operation: the gas it may need"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """An account with the contract's code."""

    config: LaneConfig
    balance: int
    claimed: int = 0
    close_at: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What the contract reckons with, in nano."""

    claim: int
    close: int

    @classmethod
    def of(cls, fees: Fees) -> "Prices":
        """At these prices of the chain."""
        out = fees.forward(0, 0).value
        common = fees.forward(IMPORT_BITS, IMPORT_CELLS).value + out
        return cls(
            claim=fees.gas(GAS_CLAIM).value + common,
            close=fees.gas(GAS_CLOSE).value + common + out,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an accepted message does: the lane as it is then, and who gets what."""

    lane: Lane | None
    """None: deleted."""
    payee: int = 0
    payer: int = 0


def claim(lane: Lane, total: int, until: int, now: int, prices: Prices) -> Outcome | int:
    """The payee's external, its signatures found good: an outcome or an exit code."""
    if now > until:
        return LATE
    if total <= lane.claimed:
        return NOT_NEW
    due = min(total - lane.claimed, lane.balance - RESERVE.value)
    if due <= prices.claim:
        return POOR
    if due < lane.config.min_claim.value and not lane.close_at:
        return LITTLE
    left = replace(lane, balance=lane.balance - due, claimed=lane.claimed + due)
    return Outcome(lane=left, payee=due - prices.claim)


def close(lane: Lane, total: int, until: int, now: int, prices: Prices) -> Outcome | int:
    """As `claim`: what is due to the payee, and what is left to the payer."""
    if now > until:
        return LATE
    if total < lane.claimed:
        return NOT_NEW
    if lane.close_at == CLOSED_AT:
        return WRONG_TIME
    due = min(total - lane.claimed, lane.balance - RESERVE.value)
    if due < 0 or lane.balance - due < prices.close:
        return POOR
    return Outcome(lane=None, payee=due, payer=lane.balance - due - prices.close)


def claim_for(lane: Lane, total: int) -> Outcome | int:
    """Anybody's claim for the payee; its sender has paid for it."""
    if total <= lane.claimed:
        return NOT_NEW
    due = min(total - lane.claimed, lane.balance - RESERVE.value)
    if due <= 0:
        return POOR
    left = replace(lane, balance=lane.balance - due, claimed=lane.claimed + due)
    return Outcome(lane=left, payee=due)


def start_close(lane: Lane, *, from_payer: bool, now: int) -> Outcome | int:
    """The payer's wish to end it alone."""
    if not from_payer:
        return STRANGER
    if lane.close_at:
        return WRONG_TIME
    return Outcome(lane=replace(lane, close_at=now + lane.config.close_delay))


def finish(lane: Lane, now: int) -> Outcome | int:
    """Anybody's, once it is time."""
    if not 0 < lane.close_at <= now:
        return WRONG_TIME
    return Outcome(lane=None, payer=lane.balance)
