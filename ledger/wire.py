"""The ledger's messages as bytes, and back: bounded, canonical, exactly the fields of their type.

Bytes of a peer that are none of its messages raise `CodecError`. Signatures are not looked at, nor
whether a blinded credit is a point.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from enum import StrEnum
from typing import Final, TypeAlias, TypeVar, final

from ledger.credit import LEAST, MAX_BLANKS, MAX_COINS, MAX_SPEND, MOST, Signed
from ledger.fields import I63, U32, VERSION, integer, items, octets
from ledger.lane import MAX_CONFIG, Account, LaneConfig
from ledger.messages import (
    MAX_CODES,
    MAX_DETAIL,
    MAX_KEYSETS,
    MAX_LANES,
    MAX_REASON,
    MAX_RESTORE,
    MAX_SIGNED,
    RID_SIZE,
    Buy,
    Change,
    Changed,
    Code,
    Err,
    KeysetList,
    Keysets,
    LaneAccept,
    LaneAck,
    LaneClose,
    LaneClosing,
    LaneLanes,
    LaneList,
    LaneOffer,
    LaneProgress,
    LanePropose,
    LaneTerms,
    LaneVoucher,
    LaneWant,
    Lock,
    Locked,
    Message,
    Pending,
    Progress,
    Reply,
    Request,
    Restore,
    Restored,
    Settle,
    Settled,
    Sigs,
    Swap,
)
from ledger.money import MAX_NANO, Nano
from ledger.tick import MAX_TICKS
from ledger.voucher import MAX_VOUCHER, Voucher
from p2p import codec
from p2p.codec import Value
from p2p.errors import CodecError

MAX_REQUEST: Final = 8 * 1024
MAX_REPLY: Final = 16 * 1024
"""bytes. The longest request restores 64 credits in 2,200, its reply takes 9,200."""

_MAX_KEYSET: Final = 1_024

R = TypeVar("R", bound=Reply)
M = TypeVar("M", Request, Reply)
E = TypeVar("E", bound=StrEnum)


def encode(message: Message) -> bytes:
    """The canonical map of a message. What an `Err` says to people is cut to what may be said."""
    if isinstance(message, Err):
        message = Err(message.code, _sayable(message.detail))
    values = {field.name: _plain(getattr(message, field.name)) for field in fields(message)}
    return codec.pack({"t": _NAMES[type(message)], "v": VERSION, **values})


def read_request(data: bytes) -> Request:
    """The request in bytes from a peer. Raises `CodecError`."""
    return _read(data, MAX_REQUEST, _REQUESTS)


def read_reply(data: bytes) -> Reply:
    """The reply in bytes from a peer. Raises `CodecError`."""
    return _read(data, MAX_REPLY, _REPLIES)


def answer(data: bytes, kind: type[R]) -> R | Err:
    """The reply of the one kind that was asked for, or a refusal. Raises `CodecError`."""
    reply = read_reply(data)
    if not isinstance(reply, (kind, Err)):
        raise CodecError(f"{_NAMES[type(reply)]} is no answer to what was asked")
    return reply


def _sayable(detail: str) -> str:
    """Often an error's text, which may be of any length and kind; never a reason to fail."""
    plain = "".join(c if c.isascii() and c.isprintable() else "?" for c in detail)
    return plain[:MAX_DETAIL]


def _plain(value: object) -> Value:
    match value:
        case Nano():
            return value.value
        case LaneConfig() | Voucher():
            return value.pack()
        case StrEnum():
            return value.value
        case tuple():
            return [_plain(item) for item in value]
        case int() | str() | bytes() | None:
            return value
        case _:
            raise TypeError(f"{type(value).__name__} is no field of a message")


@final
class _Reader:
    """The fields of a map, each taken once; what is left at the end is one too many."""

    def __init__(self, fields: Mapping[str, Value]) -> None:
        self._left = dict(fields)

    def take(self, name: str) -> Value:
        """The raw value of a field that must be there."""
        if name not in self._left:
            raise CodecError(f"no field {name}")
        return self._left.pop(name)

    def end(self) -> None:
        """Raises unless all was taken."""
        if self._left:
            raise CodecError("a message with other fields")

    def octets(self, name: str, size: int = 32) -> bytes:
        """Exactly so many bytes."""
        return octets(self.take(name), size)

    def some(self, name: str, most: int) -> bytes:
        """At most so many bytes."""
        return _some(self.take(name), most)

    def maybe(self, name: str, most: int) -> bytes | None:
        """At most so many bytes, or nil."""
        value = self.take(name)
        return None if value is None else _some(value, most)

    def integer(self, name: str, most: int, least: int = 0) -> int:
        """A whole number from `least` to `most`."""
        return integer(self.take(name), most, least)

    def nano(self, name: str) -> Nano:
        """An amount."""
        return Nano(self.integer(name, MAX_NANO))

    def text(self, name: str, most: int) -> str:
        """Text of at most so many bytes."""
        value = self.take(name)
        if not isinstance(value, str) or len(value.encode()) > most:
            raise CodecError(f"{name} is no text of at most {most} bytes")
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self.take(name)
        if not isinstance(value, bool):
            raise CodecError(f"{name} is neither true nor false")
        return value

    def items(self, name: str, most: int) -> Sequence[Value]:
        """A list of at most so many items."""
        return items(self.take(name), 0, most)

    def hashes(self, name: str, most: int) -> tuple[bytes, ...]:
        """A list of at most so many times 32 bytes."""
        return tuple(octets(item) for item in self.items(name, most))

    def voucher(self, name: str) -> Voucher:
        """A voucher, its signature not looked at."""
        return Voucher.parse(self.some(name, MAX_VOUCHER))


def _some(value: Value, most: int) -> bytes:
    if not isinstance(value, bytes) or len(value) > most:
        raise CodecError(f"not bytes, or more than {most}")
    return value


def _one_of(kind: type[E], value: Value) -> E:
    if not isinstance(value, str):
        raise CodecError(f"no {kind.__name__}")
    try:
        return kind(value)
    except ValueError as error:
        raise CodecError(f"no {kind.__name__}") from error


def _signed(value: Value) -> Signed:
    return Signed(*(octets(item) for item in items(value, 3, 3)))


def _valued(value: Value) -> tuple[int, Signed]:
    j, signed = items(value, 2, 2)
    return integer(j, MOST, LEAST), _signed(signed)


def _output(value: Value) -> tuple[int, bytes]:
    j, blind = items(value, 2, 2)
    return integer(j, MOST, LEAST), octets(blind)


def _found(value: Value) -> tuple[bytes, int, Signed]:
    blind, j, signed = items(value, 3, 3)
    return octets(blind), integer(j, MOST, LEAST), _signed(signed)


def _lane(value: Value) -> tuple[LaneConfig, Voucher]:
    config, voucher = items(value, 2, 2)
    return _config(config), Voucher.parse(_some(voucher, MAX_VOUCHER))


def _config(value: Value) -> LaneConfig:
    return LaneConfig.parse(_some(value, MAX_CONFIG))


_Parsers: TypeAlias = Mapping[str, Callable[[_Reader], M]]

_REQUESTS: Final[_Parsers[Request]] = {
    "lane.terms": lambda r: LaneTerms(),
    "lane.propose": lambda r: LanePropose(
        config=_config(r.take("config")),
        code=r.octets("code"),
        voucher=r.voucher("voucher"),
        lt=r.integer("lt", I63),
    ),
    "lane.voucher": lambda r: LaneVoucher(r.voucher("voucher"), r.text("reason", MAX_REASON)),
    "lane.list": lambda r: LaneList(),
    "lane.close?": lambda r: LaneClose(r.voucher("voucher")),
    "lane.want": lambda r: LaneWant(),
    "mint.keysets": lambda r: Keysets(),
    "mint.buy": lambda r: Buy(
        rid=r.octets("rid", RID_SIZE),
        voucher=r.voucher("voucher"),
        bundle=r.text("bundle", 1),
        epoch=r.integer("epoch", U32),
        outputs=r.hashes("outputs", MAX_COINS),
    ),
    "mint.change": lambda r: Change(r.octets("lock"), r.octets("secret")),
    "mint.swap": lambda r: Swap(
        r.some("spend", MAX_SPEND),
        r.integer("epoch", U32),
        tuple(_output(item) for item in r.items("outputs", MAX_COINS)),
    ),
    "mint.restore": lambda r: Restore(r.hashes("blinds", MAX_RESTORE)),
    "mint.lock": lambda r: Lock(r.some("spend", MAX_SPEND), _maybe_lane(r)),
    "mint.settle": lambda r: Settle(
        lock=r.octets("lock"),
        i=r.integer("i", MAX_TICKS),
        x=r.octets("x"),
        final=r.flag("final"),
    ),
}

_REPLIES: Final[_Parsers[Reply]] = {
    "err": lambda r: Err(_one_of(Code, r.take("code")), r.text("detail", MAX_DETAIL)),
    "lane.offer": lambda r: LaneOffer(
        payee=Account(r.octets("payee")),
        payee_key=r.octets("payee_key"),
        network=r.integer("network", 2**31 - 1, -(2**31)),
        min_claim=r.nano("min_claim"),
        close_delay=r.integer("close_delay", U32),
        codes=r.hashes("codes", MAX_CODES),
    ),
    "lane.accept": lambda r: LaneAccept(r.octets("lane")),
    "lane.ack": lambda r: LaneAck(r.nano("cumulative")),
    "lane.lanes": lambda r: LaneLanes(tuple(_lane(item) for item in r.items("lanes", MAX_LANES))),
    "lane.closing": lambda r: LaneClosing(r.octets("hash")),
    "lane.progress": lambda r: LaneProgress(_one_of(Progress, r.take("state"))),
    "mint.keyset_list": lambda r: KeysetList(
        tuple(_some(item, _MAX_KEYSET) for item in r.items("keysets", MAX_KEYSETS))
    ),
    "mint.sigs": lambda r: Sigs(tuple(_signed(item) for item in r.items("sigs", MAX_COINS))),
    "mint.pending": lambda r: Pending(r.integer("until", I63)),
    "mint.changed": lambda r: Changed(
        paid_ticks=r.integer("paid_ticks", MAX_TICKS),
        sigs=tuple(_valued(item) for item in r.items("sigs", MAX_BLANKS)),
    ),
    "mint.restored": lambda r: Restored(
        tuple(_found(item) for item in r.items("found", MAX_RESTORE))
    ),
    "mint.locked": lambda r: Locked(r.some("receipt", MAX_SIGNED)),
    "mint.settled": lambda r: Settled(
        i=r.integer("i", MAX_TICKS),
        voucher=_maybe_voucher(r),
        iou=r.maybe("iou", MAX_SIGNED),
        change_ready=r.flag("change_ready"),
    ),
}


def _maybe_lane(r: _Reader) -> bytes | None:
    value = r.take("lane")
    return None if value is None else octets(value)


def _maybe_voucher(r: _Reader) -> Voucher | None:
    value = r.maybe("voucher", MAX_VOUCHER)
    return None if value is None else Voucher.parse(value)


def _read(data: bytes, limit: int, parsers: _Parsers[M]) -> M:
    value = codec.unpack(data, limit)
    if not isinstance(value, Mapping):
        raise CodecError("not a map")
    reader = _Reader({key: item for key, item in value.items() if isinstance(key, str)})
    kind = reader.take("t")
    if not isinstance(kind, str) or kind not in parsers:
        raise CodecError("a message of an unknown type")
    reader.integer("v", VERSION, VERSION)
    message = parsers[kind](reader)
    reader.end()
    return message


_NAMES: Final[Mapping[type[Message], str]] = {
    Err: "err",
    LaneTerms: "lane.terms",
    LaneOffer: "lane.offer",
    LanePropose: "lane.propose",
    LaneAccept: "lane.accept",
    LaneVoucher: "lane.voucher",
    LaneAck: "lane.ack",
    LaneList: "lane.list",
    LaneLanes: "lane.lanes",
    LaneClose: "lane.close?",
    LaneClosing: "lane.closing",
    LaneWant: "lane.want",
    LaneProgress: "lane.progress",
    Keysets: "mint.keysets",
    KeysetList: "mint.keyset_list",
    Buy: "mint.buy",
    Sigs: "mint.sigs",
    Change: "mint.change",
    Pending: "mint.pending",
    Changed: "mint.changed",
    Swap: "mint.swap",
    Restore: "mint.restore",
    Restored: "mint.restored",
    Lock: "mint.lock",
    Locked: "mint.locked",
    Settle: "mint.settle",
    Settled: "mint.settled",
}
