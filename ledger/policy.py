"""The numbers of the ledger that a network's profile chooses: `MAIN`, and `DEV` to watch it live.

A dev network lives on one machine for minutes: what takes days elsewhere takes seconds there, and
prices are high enough that a claim is worth its fee. Nothing else differs.
"""

from dataclasses import dataclass
from typing import Final

from ledger.money import ZERO, Nano


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """See the module. Times are seconds."""

    least_lock: int
    """No lock is shorter: a worker needs a moment to settle."""
    lock_margin: int
    """A lock expires so long after the asker's own limit."""
    final_delay: int
    """After expiry, until the mint finalises a lock by itself."""
    settle_ticks: int
    """Ticks after which a worker settles."""
    settle_every: float
    """seconds after which a worker settles.

    Of the two, what comes first bounds what a worker loses that stays away until a lock is over.
    """
    change_delay: tuple[float, float]
    """Uniform: how long an asker waits before it fetches change, so that times do not join."""
    change_pause: tuple[float, float]
    """Uniform: how long after one change the next is fetched, were both due at once."""
    unknown_after: int
    """After a lock's expiry, until a mint that knows no such lock is believed: its coins are spent
    again then, and a mint whose clock is slower than ours could still have locked them."""
    watch_every: float
    """Between looks at open lanes."""
    iou_limit: Nano
    """What a worker lets a mint owe it without a lane."""
    lane_deposit: Nano
    """What an asker puts on its lane to a mint."""
    payout_deposit: Nano
    """What a mint puts on its lane to a worker, at the least."""
    lane_rest: int
    """After a worker has closed its lane, until it asks the mint for another."""
    top_up_below: int
    """percent of the deposit left at which a lane is topped up."""
    close_delay: int
    min_claim: Nano
    most_fee_bp: int
    """1/10,000 of what is bought: nothing is bought of a mint that asks for more."""
    bundle: str
    """Credits bought at a time."""
    float_cap: Nano
    """Credits held at the most, over all mints."""
    buy_below: int
    """percent of the float at which more is bought ahead of time."""
    buy_within: float
    """Uniform: so long may such a purchase wait."""


MAIN: Final = Policy(
    least_lock=30,
    lock_margin=60,
    final_delay=120,
    settle_ticks=64,
    settle_every=30.0,
    change_delay=(10.0, 600.0),
    change_pause=(1.0, 10.0),
    unknown_after=3_600,
    watch_every=600.0,
    iou_limit=Nano(50_000_000),
    lane_deposit=Nano(200_000_000),
    payout_deposit=Nano(500_000_000),
    lane_rest=3_600,
    top_up_below=30,
    close_delay=86_400,
    min_claim=Nano(100_000_000),
    most_fee_bp=200,
    bundle="S",
    float_cap=Nano(200_000_000),
    buy_below=25,
    buy_within=6 * 3_600.0,
)

DEV: Final = Policy(
    least_lock=5,
    lock_margin=5,
    final_delay=2,
    settle_ticks=1,
    settle_every=2.0,
    change_delay=(0.2, 1.0),
    change_pause=(0.02, 0.1),
    unknown_after=5,
    watch_every=1.0,
    iou_limit=ZERO,
    lane_deposit=Nano(200_000_000),
    payout_deposit=Nano(500_000_000),
    lane_rest=300,
    top_up_below=30,
    close_delay=86_400,
    min_claim=ZERO,
    most_fee_bp=200,
    bundle="M",
    float_cap=Nano(200_000_000),
    buy_below=25,
    buy_within=1.0,
)
