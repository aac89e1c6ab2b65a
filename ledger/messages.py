"""What payers, payees and mints say to each other: canonical maps with a type `t` and `v` = 1.

A request is answered by the reply named beside it, or by an `Err`. `spend` is `credit.Spend`, ticks
are the inference protocol's; both travel with the work they pay for. `wire` makes bytes of messages
and reads them; what they mean is for `MintCore` and the lanes to judge.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Final, TypeAlias

from ledger.credit import Signed
from ledger.lane import Account, LaneConfig
from ledger.money import Nano
from ledger.voucher import Voucher
from p2p import codec

RID_SIZE: Final = 16
MAX_RESTORE: Final = 64
"""blinded points one request may ask for"""

MAX_LANES: Final = 48
"""lanes in one reply: 14,000 bytes"""

MAX_CODES: Final = 16
MAX_KEYSETS: Final = 16
"""of which 9 can live at a time"""

MAX_SIGNED: Final = 4_096
"""bytes of a lock receipt; 64 nullifiers take 2,200"""

MAX_DETAIL: Final = 200
"""bytes of what an `Err` says to people"""

MAX_REASON: Final = 64


class Code(StrEnum):
    """Why a request is refused."""

    BAD_REQUEST = "bad_request"
    """it breaks a rule of the protocol: no use in repeating it"""
    BUSY = "busy"

    TERMS = "terms"
    UNKNOWN_CODE = "unknown_code"
    NOT_ACTIVE = "not_active"
    UNKNOWN_LANE = "unknown_lane"

    PRICE = "price"
    """the voucher does not cover it; nothing was taken"""
    STALE_KEYSET = "stale_keyset"
    VOUCHER = "voucher"

    SPENT = "spent"
    """the detail is the other lock, in hexadecimal"""
    BAD_AUTH = "bad_auth"
    EXPIRED = "expired"
    NO_CAPACITY = "no_capacity"
    BAD_PREIMAGE = "bad_preimage"
    UNKNOWN_LOCK = "unknown_lock"


@dataclass(frozen=True, slots=True)
class Err:
    """The refusal of any request: nothing was taken, given or marked."""

    code: Code
    detail: str = ""
    """For people, at most 200 bytes."""


# --- lanes: from a payer to a payee, unless it says otherwise ---


@dataclass(frozen=True, slots=True)
class LaneTerms:
    """What must a lane to you be like? `LaneOffer`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneOffer:
    """The lane that the payee would take."""

    payee: Account
    payee_key: bytes
    network: int
    min_claim: Nano
    close_delay: int
    codes: tuple[bytes, ...]
    """Hashes of the contracts it trusts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LanePropose:
    """There is a lane to you. `LaneAccept`, or `Err` with terms, unknown_code or not_active."""

    config: LaneConfig
    code: bytes
    """Hash of its contract's code."""
    voucher: Voucher
    """Of zero, so that the payee can close from the start."""
    lt: int
    """Logical time of the newest of the lane's transactions that the payer has seen."""


@dataclass(frozen=True, slots=True)
class LaneAccept:
    """The payee counts vouchers of this lane as money from now on."""

    lane: bytes


@dataclass(frozen=True, slots=True)
class LaneVoucher:
    """A higher total. `LaneAck`, or `Err` with voucher or unknown_lane."""

    voucher: Voucher
    reason: str = ""
    """For the payee's people, at most 64 bytes."""


@dataclass(frozen=True, slots=True)
class LaneAck:
    """The highest total the payee holds; durable."""

    cumulative: Nano


@dataclass(frozen=True, slots=True)
class LaneList:
    """From a payee over its own link: which lanes do you pay me on? `LaneLanes`."""


@dataclass(frozen=True, slots=True)
class LaneLanes:
    """Every lane from the asked to the asker, with its newest voucher."""

    lanes: tuple[tuple[LaneConfig, Voucher], ...]


@dataclass(frozen=True, slots=True)
class LaneClose:
    """Please close this lane: cheaper and quicker than to begin it alone. `LaneClosing`."""

    voucher: Voucher
    """The newest: only the two sides have it, and a lane's address is known to everybody."""


@dataclass(frozen=True, slots=True)
class LaneClosing:
    """The payee has posted its close."""

    hash: bytes
    """Normalised hash of the external message, to look for on the chain."""


@dataclass(frozen=True, slots=True)
class LaneWant:
    """From a worker over its own link: open a lane to me. `LaneProgress`."""


class Progress(StrEnum):
    """How far a wanted lane is."""

    OPENING = "opening"
    OPEN = "open"
    LIMIT = "limit"
    """the mint opens no more lanes now"""


@dataclass(frozen=True, slots=True)
class LaneProgress:
    """How far the lane to the asker is; the mint proposes it when it is there."""

    state: Progress


# --- mints: from a client over a circuit ---


@dataclass(frozen=True, slots=True)
class Keysets:
    """Which keysets live? `KeysetList`."""


@dataclass(frozen=True, slots=True)
class KeysetList:
    """All keysets that can still be swapped, signed, the newest last."""

    keysets: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Buy:
    """Sell me a bundle. `Sigs` for the outputs, or `Err` with price, stale_keyset or voucher."""

    rid: bytes
    """16 random bytes: with the same content again it is the same purchase."""
    voucher: Voucher
    """Its total covers the price above all that was bought on this lane before."""
    bundle: str
    epoch: int
    outputs: tuple[bytes, ...]
    """Blinded credits, in the order of the bundle's exponents."""


@dataclass(frozen=True, slots=True)
class Sigs:
    """Blind signatures, one for each output in its order."""

    sigs: tuple[Signed, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """The change of a lock, for whoever knows its secret. `Changed`, or `Pending`."""

    lock: bytes
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Pending:
    """The worker may still settle."""

    until: int
    """Unix time from which the change is there at the latest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """What a lock left over, signed on its first blanks."""

    paid_ticks: int
    sigs: tuple[tuple[int, Signed], ...]
    """Exponent and signature for each blank used, in their order."""


@dataclass(frozen=True, slots=True)
class Swap:
    """New credits for old ones. `Sigs` for the outputs, or the errors of `Buy` and `Lock`.

    `spend` pays the mint itself all it is worth, under the `swap_root` of what it is for.
    """

    spend: bytes
    epoch: int
    """The one on sale."""
    outputs: tuple[tuple[int, bytes], ...]
    """Exponent and blinded credit, worth as much in all."""


def swap_root(epoch: int, outputs: Sequence[tuple[int, bytes]]) -> bytes:
    """What a spend has for a root if it is for a swap, so that nobody puts in other outputs."""
    return sha256(b"tussah/swap" + codec.pack([epoch, list(outputs)])).digest()


@dataclass(frozen=True, slots=True)
class Restore:
    """Which of these did you sign? `Restored`."""

    blinds: tuple[bytes, ...]
    """At most 64 blinded credits."""


@dataclass(frozen=True, slots=True)
class Restored:
    """Those that were signed, in the order asked for."""

    found: tuple[tuple[bytes, int, Signed], ...]
    """Blinded credit, exponent, signature."""


# --- mints: from a worker over a link, which proves who it is ---


@dataclass(frozen=True, slots=True)
class Lock:
    """Lock these coins for me. `Locked`, or `Err`: spent, bad_auth, expired, no_capacity, busy."""

    spend: bytes
    lane: bytes | None = None
    """Where it is to be paid; None: the mint owes it."""


@dataclass(frozen=True, slots=True)
class Locked:
    """The coins are spent and held for the worker."""

    receipt: bytes
    """Signed: see `receipt.LockReceipt`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """Pay the ticks up to `i`. `Settled`, or `Err` with bad_preimage, expired or unknown_lock."""

    lock: bytes
    i: int
    x: bytes
    """The preimage of tick `i`; the root for none."""
    final: bool
    """No more will come: the rest is the asker's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What the mint has paid of a lock so far, and on what the worker has it."""

    i: int
    voucher: Voucher | None
    """The newest of the worker's lane; includes this lock unless `iou` does."""
    iou: bytes | None
    """Signed: all that the mint owes the worker without a lane; see `receipt.Iou`."""
    change_ready: bool


LaneRequest: TypeAlias = LaneTerms | LanePropose | LaneVoucher | LaneList | LaneClose | LaneWant
MintRequest: TypeAlias = Keysets | Buy | Change | Swap | Restore | Lock | Settle
Request: TypeAlias = LaneRequest | MintRequest
LaneReply: TypeAlias = LaneOffer | LaneAccept | LaneAck | LaneLanes | LaneClosing | LaneProgress
MintReply: TypeAlias = KeysetList | Sigs | Pending | Changed | Restored | Locked | Settled
Reply: TypeAlias = LaneReply | MintReply | Err


Message: TypeAlias = Request | Reply
