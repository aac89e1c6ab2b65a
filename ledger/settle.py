"""When to turn vouchers into coins: what each side of a lane should do after a look at the chain.

A voucher is as good as a coin until the payer's close is through, and a claim costs a fee, so the
payee claims rarely: when much is due, when a lane grows old or poor, and at once when the payer
begins to close. Nothing here acts; `ledger/lanes.py` does.
"""

from dataclasses import dataclass
from statistics import median_low
from typing import Final, TypeAlias, final

from ledger.chain.base import Fees
from ledger.lane import RESERVE, LaneRow, Phase
from ledger.money import Nano

GAS_CLAIM: Final = 6_600
GAS_CLOSE: Final = 8_400
"""What `lane.fc` counts for an external, above what it uses."""

IMPORT_BITS: Final = 1_720
IMPORT_CELLS: Final = 3
"""The largest external that it lets in."""

LANE_BITS: Final = 12_000
LANE_CELLS: Final = 24
"""What a lane stores, code and all, from above."""

MUCH: Final = Nano(1_000_000_000)
"""Due, and claimed at once: more is not left on a promise."""

WORTH: Final = 50
"""times its cost that a claim should bring: 2 % go to the chain at the most."""

DEAR: Final = 10
"""times the usual price of a claim at which it is put off."""

_DAY: Final = 86_400
CLAIM_EVERY: Final = 7 * _DAY
OLD: Final = 300 * _DAY
"""Before the reserve has to be touched."""

PATIENCE: Final = _DAY
"""What a payer gets to top up a poor lane, and how often an old lane is claimed from."""

LAST_HOURS: Final = 6 * 3_600
"""Before the payer may take the rest: a person should look."""

_DAYS: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What the contract takes for an external now. Claims are paid by the payee, closes by the
    lane's reserve.
    """

    claim: Nano
    close: Nano
    usual: Nano
    """The median of `claim` over a month."""
    storage_day: Nano


@final
class Months:
    """What a claim cost, day by day, for as long as a month."""

    def __init__(self) -> None:
        self._days: dict[int, Nano] = {}

    def costs(self, fees: Fees, now: float) -> Costs:
        """The costs at these prices, which are remembered as today's."""
        claim = fees.gas(GAS_CLAIM) + _import(fees) + fees.forward(0, 0)
        self._days[int(now) // _DAY] = claim
        for day in sorted(self._days)[:-_DAYS]:
            del self._days[day]
        return Costs(
            claim=claim,
            close=fees.gas(GAS_CLOSE) + _import(fees) + fees.forward(0, 0) * 2,
            usual=median_low(self._days.values()),
            storage_day=fees.storage(LANE_BITS, LANE_CELLS, _DAY),
        )


def _import(fees: Fees) -> Nano:
    return fees.forward(IMPORT_BITS, IMPORT_CELLS)


# --- the payee ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing is to be done now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Claim what is due; the lane goes on."""

    why: str
    """For people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """Take all that is due and end the lane."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Coins may be lost within hours: say so, and do `then`."""

    left: float
    """seconds until the payer may take the rest; below 0 it may already."""
    then: Claim | Close | Wait


Decision: TypeAlias = Wait | Claim | Close | Alarm


def decide(row: LaneRow, costs: Costs, now: float) -> Decision:
    """What the payee of a lane should do; the first reason that applies."""
    if row.phase is Phase.CLOSING and row.due:
        left = row.close_at - now
        answer = _answer(row, costs)
        return Alarm(left=left, then=answer) if left < LAST_HOURS else answer
    if row.phase is not Phase.OPEN or not claimable(row, costs):
        return Wait()
    if costs.claim > costs.usual * DEAR:
        return Wait()
    why = _reason(row, costs, now)
    return Wait() if why is None else Claim(why=why)


def claimable(row: LaneRow, costs: Costs) -> bool:
    """Whether the contract takes a claim: more is due than it costs, and no less than agreed."""
    enough = row.due >= row.config.min_claim or row.close_at > 0
    return row.due > costs.claim and enough


def closable(row: LaneRow, costs: Costs) -> bool:
    """Whether the contract takes a close: what is not due pays for it."""
    return row.balance >= row.due + costs.close


def _answer(row: LaneRow, costs: Costs) -> Claim | Close | Wait:
    """To a payer that closes alone. A close pays all that is due, a claim less its cost."""
    why = "the payer began to close"
    if closable(row, costs):
        return Close(why=why)
    return Claim(why=why) if claimable(row, costs) else Wait()


def _reason(row: LaneRow, costs: Costs, now: float) -> str | None:
    since = now - row.claimed_at
    if _old(row, costs, now) and since > PATIENCE:
        return "the lane is old"
    if row.due >= MUCH:
        return f"over {MUCH} are due"
    if row.due >= costs.claim * WORTH and since > CLAIM_EVERY:
        return "a week has passed"
    if row.poor_since and now - row.poor_since > PATIENCE and since > PATIENCE:
        return "the payer does not top up"
    return None


def _old(row: LaneRow, costs: Costs, now: float) -> bool:
    """Storage is taken from a lane when something happens to it, at the latest by a claim."""
    days = int(now - row.claimed_at) // _DAY
    return now - row.opened_at > OLD or costs.storage_day * max(days, 0) * 2 > RESERVE


# --- the payer ---


@dataclass(frozen=True, slots=True, kw_only=True)
class TopUp:
    """Put so much more on the lane."""

    amount: Nano


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """Take back what is left of a lane whose delay of closing has passed."""


def tend(row: LaneRow, now: float, *, top_up_below: int) -> Wait | TopUp | Finish:
    """What the payer of a lane should do. `top_up_below` is percent of the deposit."""
    if row.phase is Phase.CLOSING and now >= row.close_at + _MARGIN:
        return Finish()
    left = row.unpromised
    if row.phase is Phase.OPEN and left * 100 < row.deposit * top_up_below:
        return TopUp(amount=row.deposit - left)
    return Wait()


_MARGIN: Final = 60
"""seconds past `close_at`: a block's clock may lag the one we saw."""
