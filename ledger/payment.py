"""What passes between a paid request and the ledger: the seams `Purse` and `Till`.

Asking and serving are cores that know ticks and terms; coins, mints and lanes stay behind these two
protocols. `ledger/purse.py` and `ledger/till.py` are the real ones, simulations have twins.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Protocol, TypeAlias

from ledger.lane import Phase
from ledger.money import Nano
from ledger.tick import Chain
from p2p.identity import AdnlId


@dataclass(frozen=True, slots=True, kw_only=True)
class PayTerms:
    """What an asker is about to pay for, read from a worker's signed offer."""

    mints: tuple[AdnlId, ...]
    """Whose credits the worker takes."""
    payee: AdnlId
    """The worker."""
    session: bytes
    """32 bytes: SHA-256 of the offer."""
    tick: Nano
    ticks: int
    """The most that may be revealed; `tick * ticks` is locked, and what is not revealed returns."""
    expiry: int
    """Unix time at which the lock ends."""
    may_buy: bool = True
    """Whether credits may be bought for it where there are too few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """Credits about to be bought. Nothing has been promised for them yet, nor left the wallet."""

    mint: AdnlId
    bundle: str
    value: Nano
    price: Nano
    """What a voucher will promise for them: the mint's fee is what it has above the value."""
    lane: Phase | None
    """Of the lane that it goes over: open, or opening; None: there is none yet."""
    deposit: Nano
    """What opens that; 0 if there is one. It is not spent: what is not promised comes back."""
    fees: Nano
    """The most that the chain takes for that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A purchase waits for the chain to open its lane."""

    mint: AdnlId
    block: int
    """The newest."""
    waited: float
    """seconds"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bought:
    """A purchase has been made."""

    value: Nano
    price: Nano
    """0 for what was promised for earlier."""


PurchaseStep: TypeAlias = Purchase | Opening | Bought

Told: TypeAlias = Callable[[PurchaseStep], object]
"""Hears how a purchase goes, while it is waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """Coins set aside for one session, and the chain of hashes that releases them."""

    terms: PayTerms
    mint: AdnlId
    mint_public: bytes
    """Checks the lock receipt."""
    lock_id: bytes
    spend: bytes
    """The `spend` message, for the body of `protocol.Pay`."""
    chain: Chain


class Unpaid(Enum):
    """Why nothing can be set aside."""

    NO_CREDITS = "no_credits"
    """fewer credits than it takes, and none can be bought now"""
    NO_MINT = "no_mint"
    """no mint that both sides use"""
    MINT_DOWN = "mint_down"
    NO_PATH = "no_path"
    """too few relays for a circuit to the mint, which is no relay on the way to itself"""
    CHAIN_DOWN = "chain_down"
    LANE = "lane"
    """the lane to the mint is not open or has too little on it"""
    DEAR = "dear"
    """the mint asks for a greater fee than this node pays"""
    LIMIT = "limit"
    """more than this node may spend in a day"""
    STORE = "store"
    """this node's own disk takes nothing"""
    NOT_AGREED = "not_agreed"
    """there are too few credits, and nobody has said that more may be bought"""


class CannotPay(Exception):  # noqa: N818 - says what happened, like the tree in p2p/errors.py
    """Raised by `Purse.prepare`; nothing was spent."""

    def __init__(self, reason: Unpaid, detail: str = "") -> None:
        super().__init__(detail or reason.value)
        self.reason = reason


class Purse(Protocol):
    """An asker's credits. Nothing that a disk, a mint or a chain does raises but `CannotPay`."""

    def mints(self) -> tuple[AdnlId, ...]:
        """Whose credits are at hand, or can be bought: what a want says, at most 4."""

    async def prepare(self, terms: PayTerms, told: Told) -> Payment:
        """Set coins aside, durably, before the spend leaves. Buys first if it must and may.

        Cancelled, nothing stays set aside; a purchase that has begun may go on. Raises `CannotPay`.
        """

    def release(self, payment: Payment) -> None:
        """The spend never left this machine: its coins are free at once."""

    def collect(self, payment: Payment, *, locked: bool, revealed: int, owed: int) -> None:
        """The session is over; fetch the change in time. Returns at once, and outlives the ask.

        `locked`: the worker showed the mint's receipt. Coins of a session that was perhaps never
        locked come back once the mint says so. Of the ticks that were revealed the worker should
        take no more than it is `owed` by its receipt; that it took more is kept as evidence.
        """


class Decline(IntEnum):
    """Why a mint locks nothing for a worker: the detail of refusal PAYMENT."""

    SPENT = 1
    BAD_AUTH = 2
    EXPIRED = 3
    NO_CAPACITY = 4
    BUSY = 5
    TERMS = 6
    """the worker's own check failed"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """A mint has locked coins for this worker and session."""

    lock_id: bytes
    receipt: bytes
    """Signed by the mint: goes to the asker before work."""
    tick: Nano
    ticks: int
    root: bytes
    expiry: int


class Till(Protocol):
    """A worker's takings."""

    def mints(self) -> Sequence[AdnlId]:
        """Whose credits are taken, at most 4; empty while none can be."""

    async def lock(self, spend: bytes, session: bytes, tick: Nano) -> Locked | Decline:
        """Check a spend against our offer and lock it at its mint. A silent mint is BUSY."""

    def keep(self, lock_id: bytes, index: int, preimage: bytes) -> None:
        """The newest tick: durable within milliseconds, so that a crash loses at most one."""

    def settle(self, lock_id: bytes, *, final: bool, ticks: int) -> None:
        """Have the mint pay `ticks`, were later ones kept too; repeated until it does.

        Returns at once. Nothing is kept or settled after a `final` one.
        """

    def bill(self, lock_id: bytes, receipt: bytes) -> None:
        """Keep a receipt that we have signed, for people: no money hangs on it."""
