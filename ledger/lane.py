"""A lane: coins of one payer that one payee may claim, by vouchers of a rising total.

`LaneConfig` fixes a lane for life: the contract's address is a hash of it. What the chain said of a
lane last is a `LaneState`; all that one side remembers of it is a `LaneRow`, and `PayerLane` and
`PayeeLane` are the two sides, each a row and the few things that may happen to it.

    proposed -> opening -> open <-> close_signed       the payee signed a close that may still come
                             |            |
                             +-> closing -+-> closed   the payer began to close alone; it is over

Money goes one way and the total only rises, so nobody can gain by showing an old voucher, and a
side that has slept loses nothing that it does not leave lying past `close_at`.

Time is the chain's, for it decides what is too late: a look says when it was taken.
"""

from dataclasses import dataclass, replace
from enum import Enum, IntEnum
from typing import Final, NamedTuple, NewType, final

from ledger import voucher as vouchers
from ledger.money import MAX_NANO, ZERO, Nano
from ledger.voucher import Voucher
from p2p import codec
from p2p.codec import Value
from p2p.errors import (
    BadSignature,
    Closing,
    CodecError,
    LocalError,
    NoCapacity,
    OverCapacity,
    Stale,
)
from p2p.identity import Identity

Account = NewType("Account", bytes)
"""32 bytes: the address of an account of workchain 0."""

RESERVE: Final = Nano(20_000_000)
"""What a lane keeps to live on: over three years of storage at 0.0060 TON a year."""

MIN_CLOSE_DELAY: Final = 86_400
MAX_CLOSE_DELAY: Final = 2_592_000
"""seconds. A payee that looks once a day is in time; a payer waits a month at the most."""

MOST_MIN_CLAIM: Final = Nano(100_000_000)
"""A payer may not make the payee wait for more than this."""

LOOK_LIFE: Final = 600
"""seconds a look at the chain is good for: what was there then is taken to be there still."""

ORDER_LIFE: Final = 600
"""seconds a signed claim or close may live at the most."""

CLOCK_MARGIN: Final = 60
"""seconds of doubt about when the chain lets an order die."""

LAG: Final = 10
"""seconds that a server of the chain may be behind another: two blocks of TON."""

CLOSED_AT: Final = 1
"""`close_at` of a lane that closed for good."""

MAX_CONFIG: Final = 192
"""bytes of a packed `LaneConfig`; the longest takes 164."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneConfig:
    """What a lane is, for its whole life."""

    payer_key: bytes
    """32 bytes: the Ed25519 key whose vouchers count."""
    payee_key: bytes
    """32 bytes: the Ed25519 key that signs claims and closes."""
    payer: Account
    """The payer's wallet: gets back what is left, and may begin to close."""
    payee: Account
    """The payee's wallet: gets what vouchers say."""
    network: int
    """Global id of the chain: mainnet -239, testnet -3, embedded -4242."""
    lane_id: int
    """64 random bits, never used twice: an address that comes back to life revives its vouchers."""
    close_delay: int
    """seconds between a payer's wish to close and its right to take the rest."""
    min_claim: Nano

    def pack(self) -> bytes:
        """As it is kept: a canonical array of the fields in their order."""
        return codec.pack(
            [
                self.payer_key,
                self.payee_key,
                self.payer,
                self.payee,
                self.network,
                self.lane_id,
                self.close_delay,
                self.min_claim.value,
            ]
        )

    @classmethod
    def parse(cls, packed: bytes) -> "LaneConfig":
        """The terms of canonical bytes, of the right sizes. Raises `CodecError`."""
        fields = codec.unpack(packed, MAX_CONFIG)
        if not isinstance(fields, tuple) or len(fields) != 8:
            raise CodecError("a lane's terms are eight values")
        return cls(
            payer_key=_key(fields[0]),
            payee_key=_key(fields[1]),
            payer=Account(_key(fields[2])),
            payee=Account(_key(fields[3])),
            network=_integer(fields[4], -(2**31), 2**31 - 1),
            lane_id=_integer(fields[5], 0, 2**64 - 1),
            close_delay=_integer(fields[6], 0, 2**32 - 1),
            min_claim=Nano(_integer(fields[7], 0, MAX_NANO)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneState:
    """What the chain says of a lane."""

    claimed: Nano
    close_at: int
    """Unix time from which the payer may take the rest; 0: not asked for; 1: closed."""
    balance: Nano
    seen_at: float
    """Unix time of the look, by the chain's clock."""
    lt: int = 0
    """The lane's newest transaction."""


class Role(Enum):
    """Which side of a lane we are."""

    PAYER = "payer"
    PAYEE = "payee"


class Phase(Enum):
    """Where a lane is in its life; see the module."""

    PROPOSED = "proposed"
    """thought of, nothing sent"""
    OPENING = "opening"
    """the coins are on their way"""
    OPEN = "open"
    CLOSE_SIGNED = "close_signed"
    """a close of ours may still be taken by the chain: no voucher counts meanwhile"""
    CLOSING = "closing"
    """from `close_at` on the payer may take what was not claimed"""
    CLOSED = "closed"


class Op(IntEnum):
    """Operations of the contract, as they stand in its messages."""

    TOP_UP = 0x4C4E0002
    CLAIM = 0x4C4E0003
    CLOSE = 0x4C4E0004
    START_CLOSE = 0x4C4E0005
    FINISH = 0x4C4E0006


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneRow:
    """All that one side remembers of a lane."""

    lane: bytes
    """32 bytes: its address."""
    role: Role
    config: LaneConfig
    phase: Phase
    cumulative: Nano = ZERO
    """Payer: what vouchers promise, sent or not. Payee: the best voucher held."""
    sig: bytes = b""
    """Payee: of that voucher. Payer: empty, for it signs again."""
    deposit: Nano = ZERO
    """Payer: what it wants the lane to hold after each top-up."""
    claimed: Nano = ZERO
    """What the payee took, as far as is known."""
    balance: Nano = ZERO
    close_at: int = 0
    seen_at: float = 0.0
    """When the chain was looked at; with the three above it is the newest `LaneState`."""
    opened_at: float = 0.0
    """When the lane was first seen to be there."""
    claimed_at: float = 0.0
    """When `claimed` was last seen to have risen, or the lane to be there."""
    poor_since: float = 0.0
    """Since when hardly anything on the lane is unpromised; 0: enough is."""
    valid_until: int = 0
    """Unix time until which the newest close that we signed may be taken; 0: none."""
    lt: int = 0
    """The newest transaction that was seen, as the chain counts them; 0: not known."""
    returned: Nano = ZERO
    """Payer: what came back when the lane ended."""

    @property
    def funded(self) -> Nano:
        """What was put on the lane so far, as far as it is claimed or still there."""
        return self.balance + self.claimed

    @property
    def spare(self) -> Nano:
        """What is on the lane above its reserve, promised or not."""
        return _less(self.balance, RESERVE)

    @property
    def due(self) -> Nano:
        """What a claim would take now."""
        return min(_less(self.cumulative, self.claimed), self.spare)

    @property
    def unpromised(self) -> Nano:
        """How far the total may still rise with coins behind it."""
        return _less(self.spare, _less(self.cumulative, self.claimed))

    @property
    def live(self) -> bool:
        """Whether the chain may still change it."""
        return self.phase is not Phase.CLOSED


class Order(NamedTuple):
    """What the payee signs for the contract: a claim or a close."""

    op: Op
    voucher: Voucher
    valid_until: int
    """Unix time"""


@final
class PayerLane:
    """The side that promises. Its `row` is durable before a voucher of it leaves."""

    def __init__(self, row: LaneRow) -> None:
        if row.role is not Role.PAYER:
            raise LocalError("not the payer of this lane")
        self.row = row

    @classmethod
    def new(cls, config: LaneConfig, lane: bytes, deposit: Nano) -> "PayerLane":
        """A lane that is only thought of: `lane` is the address that `config` gives."""
        phase = Phase.PROPOSED
        row = LaneRow(lane=lane, role=Role.PAYER, config=config, phase=phase, deposit=deposit)
        return cls(row)

    @property
    def capacity(self) -> Nano:
        """How much more can be paid now."""
        return self.row.unpromised if self.row.phase is Phase.OPEN else ZERO

    def opening(self) -> None:
        """The deposit is about to be sent; from here on the lane may be there."""
        if self.row.phase is Phase.PROPOSED:
            self.row = replace(self.row, phase=Phase.OPENING)

    def pay(self, amount: Nano, key: Identity) -> Voucher:
        """Promise so much more. Raises `NoCapacity`, and then nothing has changed."""
        if amount > self.capacity:
            raise NoCapacity(f"{amount} is more than the {self.capacity} left on the lane")
        self.row = replace(self.row, cumulative=self.row.cumulative + amount)
        return self.voucher(key)

    def voucher(self, key: Identity) -> Voucher:
        """All that is promised so far; the same bytes each time."""
        return vouchers.sign(key, self.row.lane, self.row.cumulative)

    def voucher0(self, key: Identity) -> Voucher:
        """A promise of nothing, sent with a proposal so that the payee can close from the start."""
        return vouchers.sign(key, self.row.lane, ZERO)

    def on_chain(self, state: LaneState | None, now: float) -> None:
        """A look at the chain: None if no contract is there. An older look changes nothing."""
        self.row = _seen(self.row, state, now)

    def gone(self, now: float) -> bool:
        """Whether a chain that shows no contract may be believed that the lane has ended."""
        return self.row.live and _gone(self.row, now)

    def ended(self, claimed: Nano, returned: Nano) -> None:
        """The lane is over, and its last message has told what became of its coins."""
        self.row = replace(
            self.row, phase=Phase.CLOSED, claimed=claimed, balance=ZERO, returned=returned
        )


@final
class PayeeLane:
    """The side that is promised to. Its `row` is durable before a voucher is answered."""

    def __init__(self, row: LaneRow) -> None:
        if row.role is not Role.PAYEE:
            raise LocalError("not the payee of this lane")
        self.row = row

    @classmethod
    def new(cls, config: LaneConfig, voucher0: Voucher, state: LaneState) -> "PayeeLane":
        """A lane that `check_lane` and `check_voucher0` had nothing against."""
        row = LaneRow(
            lane=voucher0.lane,
            role=Role.PAYEE,
            config=config,
            phase=Phase.OPENING,
            sig=voucher0.sig,
        )
        return cls(_seen(row, state, state.seen_at))

    @property
    def capacity(self) -> Nano:
        """How much more a voucher may promise now."""
        return self.row.unpromised if self.row.phase is Phase.OPEN else ZERO

    @property
    def voucher(self) -> Voucher:
        """The best there is, of zero at the least."""
        row = self.row
        return Voucher(lane=row.lane, cumulative=row.cumulative, sig=row.sig)

    def receive(self, voucher: Voucher, now: float) -> Nano:
        """What a voucher adds to the best one so far; nothing if it is no higher, a resend.

        Raises `BadSignature`, `Closing`, `Stale` if the chain was not looked at for `LOOK_LIFE`,
        and `OverCapacity` if it promises more than is on the lane; then nothing has changed.
        """
        self._authentic(voucher)
        if voucher.cumulative <= self.row.cumulative:
            return ZERO

        self._takes_vouchers(now)
        gained = voucher.cumulative - self.row.cumulative
        if _less(voucher.cumulative, self.row.claimed) > self.row.spare:
            raise OverCapacity("the voucher promises more than is on the lane")
        self.row = replace(self.row, cumulative=voucher.cumulative, sig=voucher.sig)
        return gained

    def order(self, op: Op, valid_until: int, now: float) -> Order:
        """What to sign to claim, or to close; after a close no voucher is taken until it is dead.

        `valid_until` is at most `ORDER_LIFE` after `now`. Raises `LocalError` otherwise, and if
        the lane is past claiming or closing.
        """
        if not now < valid_until <= now + ORDER_LIFE:
            raise LocalError(f"an order lives at most {ORDER_LIFE} seconds")
        if not self.may(op):
            raise LocalError(f"no {op.name} of a lane that is {self.row.phase.value}")
        if op is Op.CLOSE:
            until = max(valid_until, self.row.valid_until)
            self.row = replace(self.row, phase=Phase.CLOSE_SIGNED, valid_until=until)
        return Order(op, self.voucher, valid_until)

    def may(self, op: Op) -> bool:
        """Whether an order may be signed in this phase."""
        return self.row.phase in _MAY.get(op, ())

    def on_chain(self, state: LaneState | None, now: float) -> None:
        """A look at the chain: None if no contract is there. An older look changes nothing."""
        self.row = _seen(self.row, state, now)

    def _authentic(self, voucher: Voucher) -> None:
        if voucher.lane != self.row.lane:
            raise BadSignature("a voucher of another lane")
        vouchers.verify(self.row.config.payer_key, voucher)

    def _takes_vouchers(self, now: float) -> None:
        if self.row.phase is not Phase.OPEN:
            raise Closing(f"the lane is {self.row.phase.value}")
        if now - self.row.seen_at > LOOK_LIFE:
            raise Stale("the chain has not been looked at for too long")


_MAY: Final = {
    Op.CLAIM: (Phase.OPEN, Phase.CLOSING),
    Op.CLOSE: (Phase.OPEN, Phase.CLOSING, Phase.CLOSE_SIGNED),
}


# --- what a look at the chain does to either side ---


def _seen(row: LaneRow, state: LaneState | None, now: float) -> LaneRow:
    if row.phase is Phase.CLOSED:
        return row  # for ever: whatever stands at the address later is no lane of ours
    if state is None:
        return _ended(row) if _gone(row, now) else row
    if state.seen_at < row.seen_at or state.claimed < row.claimed:
        return row  # an old view: time and the total claimed never run back
    row = replace(row, opened_at=row.opened_at or state.seen_at, phase=_phase(row, state))
    return _remember(row, state)


def _gone(row: LaneRow, now: float) -> bool:
    """A server that lags may not know a young lane yet; one that is to close may be believed."""
    if row.phase in (Phase.PROPOSED, Phase.OPENING):
        return False
    return row.phase is not Phase.OPEN or now - row.opened_at > LAG


def _ended(row: LaneRow) -> LaneRow:
    """What the payee took at last is not to be seen any more; it had a right to all that was due.

    But if the payer began to close, it may have slept.
    """
    last = ZERO if row.phase is Phase.CLOSING else row.due
    return replace(row, phase=Phase.CLOSED, claimed=row.claimed + last, balance=ZERO)


def _phase(row: LaneRow, state: LaneState) -> Phase:
    if state.close_at == CLOSED_AT:
        return Phase.CLOSED
    if row.phase is Phase.CLOSE_SIGNED and state.seen_at <= row.valid_until + CLOCK_MARGIN:
        return Phase.CLOSE_SIGNED
    return Phase.CLOSING if state.close_at else Phase.OPEN


def _remember(row: LaneRow, state: LaneState) -> LaneRow:
    rose = state.claimed > row.claimed or not row.claimed_at
    row = replace(
        row,
        claimed=state.claimed,
        balance=state.balance,
        close_at=state.close_at,
        seen_at=state.seen_at,
        lt=state.lt,
        claimed_at=state.seen_at if rose else row.claimed_at,
    )
    poor = row.unpromised * 100 < row.spare * POOR
    return replace(row, poor_since=(row.poor_since or state.seen_at) if poor else 0.0)


POOR: Final = 30
"""percent of what is on a lane that should be unpromised; below, its payer should top it up."""


# --- what a payee demands before a lane is money ---


class Unfit(NamedTuple):
    """Why a proposed lane is refused."""

    code: str
    """One of `terms`, `unknown_code`, `not_active`: what the payer is told."""
    detail: str


def check_lane(
    config: LaneConfig,
    code_hash: bytes | None,
    state: LaneState | None,
    *,
    allowed_codes: frozenset[bytes],
    network: int,
    payee_key: bytes,
    payee: Account,
) -> Unfit | None:
    """What speaks against counting a lane as money, None if nothing does.

    `code_hash` and `state` are what the chain has at the address that `config` hashes to, which
    proves all of `config`; None if nothing is there.
    """
    if (detail := _terms(config, network, payee_key, payee)) is not None:
        return Unfit("terms", detail)
    if state is None or code_hash is None:
        return Unfit("not_active", "the chain has no such lane yet")
    if code_hash not in allowed_codes:
        return Unfit("unknown_code", "the contract is not one that is trusted here")
    if state.close_at:
        return Unfit("not_active", "the lane is closing")
    if state.claimed:
        return Unfit("terms", "the lane has been claimed from already: open another")
    return None


def _terms(config: LaneConfig, network: int, payee_key: bytes, payee: Account) -> str | None:
    if config.network != network:
        return f"the lane is of network {config.network}, this is {network}"
    if config.payee_key != payee_key or config.payee != payee:
        return "the lane pays somebody else"
    if not MIN_CLOSE_DELAY <= config.close_delay <= MAX_CLOSE_DELAY:
        return f"the delay of closing is not {MIN_CLOSE_DELAY} to {MAX_CLOSE_DELAY} seconds"
    if config.min_claim > MOST_MIN_CLAIM:
        return f"the least claim is above {MOST_MIN_CLAIM}"
    return None


def check_voucher0(config: LaneConfig, lane: bytes, voucher0: Voucher) -> Unfit | None:
    """What speaks against the voucher of zero that comes with a proposal."""
    if voucher0.lane != lane or voucher0.cumulative != ZERO:
        return Unfit("terms", "the first voucher is not one of zero on this lane")
    try:
        vouchers.verify(config.payer_key, voucher0)
    except BadSignature:
        return Unfit("terms", "the first voucher is not signed by the lane's payer")
    return None


def _less(amount: Nano, taken: Nano) -> Nano:
    """The difference, zero if it would be below."""
    return amount - taken if amount > taken else ZERO


def _key(value: Value) -> bytes:
    if not isinstance(value, bytes) or len(value) != 32:
        raise CodecError("a key or account of a lane is 32 bytes")
    return value


def _integer(value: Value, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise CodecError("a number in a lane's terms is out of range")
    return value
