"""What a mint signs for: that coins are locked for a worker, and that it owes one without a lane.

Both are canonical maps with the mint's signature behind. The asker gets the lock's receipt before
it pays the first tick: should the mint keep the change, the receipt is the proof.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ledger.credit import MAX_COINS
from ledger.fields import I63, VERSION, integer, items, octets, read_map
from ledger.messages import MAX_SIGNED
from ledger.money import MAX_NANO, Nano
from ledger.tick import MAX_TICKS
from p2p import codec
from p2p.codec import Value
from p2p.errors import BadSignature, CodecError
from p2p.identity import SIGNATURE_SIZE, AdnlId, Identity
from p2p.identity import verify as verify_signature

MAX_OWED: Final = MAX_NANO >> 8
"""nano of one debt: far more than anybody has, and debts can be added up."""

_LOCK_DOMAIN: Final = b"tussah/lock/1\0"
_IOU_DOMAIN: Final = b"tussah/iou/1\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class LockReceipt:
    """The terms of a lock, as the mint holds itself to them."""

    lock: bytes
    worker: AdnlId
    session: bytes
    amount: Nano
    tick: Nano
    ticks: int
    root: bytes
    expiry: int
    issued: int
    """Unix time of the lock."""
    nullifiers: tuple[bytes, ...]
    """Of its coins: two receipts for one of them are proof of fraud."""

    def sign(self, mint: Identity) -> bytes:
        """As it travels: `body | signature`. The same bytes again for the same lock."""
        return _sign(
            mint,
            _LOCK_DOMAIN,
            {
                "lock": self.lock,
                "worker": self.worker,
                "session": self.session,
                "amount": self.amount.value,
                "tick": self.tick.value,
                "ticks": self.ticks,
                "root": self.root,
                "expiry": self.expiry,
                "issued": self.issued,
                "nullifiers": self.nullifiers,
            },
        )

    @classmethod
    def parse(cls, signed: bytes, mint_public: bytes) -> "LockReceipt":
        """The receipt of the mint with this key. Raises `BadSignature`, or `CodecError`."""
        fields = _parse(signed, mint_public, _LOCK_DOMAIN, _LOCK_FIELDS)
        return cls(
            lock=octets(fields["lock"]),
            worker=AdnlId(octets(fields["worker"])),
            session=octets(fields["session"]),
            amount=Nano(integer(fields["amount"], MAX_NANO)),
            tick=Nano(integer(fields["tick"], MAX_NANO, 1)),
            ticks=integer(fields["ticks"], MAX_TICKS, 1),
            root=octets(fields["root"]),
            expiry=integer(fields["expiry"], I63),
            issued=integer(fields["issued"], I63),
            nullifiers=tuple(octets(n) for n in items(fields["nullifiers"], 1, MAX_COINS)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Iou:
    """All that a mint owes a worker apart from its lanes, at a moment. A later one replaces it."""

    worker: AdnlId
    owed: Nano
    at: int
    """Unix time"""

    def sign(self, mint: Identity) -> bytes:
        """As it travels: `body | signature`."""
        fields: Mapping[str, Value] = {
            "worker": self.worker,
            "owed": self.owed.value,
            "at": self.at,
        }
        return _sign(mint, _IOU_DOMAIN, fields)

    @classmethod
    def parse(cls, signed: bytes, mint_public: bytes) -> "Iou":
        """The debt of the mint with this key. Raises `BadSignature`, or `CodecError`."""
        fields = _parse(signed, mint_public, _IOU_DOMAIN, _IOU_FIELDS)
        return cls(
            worker=AdnlId(octets(fields["worker"])),
            owed=Nano(integer(fields["owed"], MAX_OWED)),
            at=integer(fields["at"], I63),
        )


_LOCK_FIELDS: Final = (
    *("v", "lock", "worker", "session", "amount", "tick", "ticks"),
    *("root", "expiry", "issued", "nullifiers"),
)
_IOU_FIELDS: Final = ("v", "worker", "owed", "at")


def _sign(mint: Identity, domain: bytes, fields: Mapping[str, Value]) -> bytes:
    body = codec.pack({"v": VERSION, **fields})
    return body + mint.sign(domain + body)


def _parse(
    signed: bytes, mint_public: bytes, domain: bytes, names: tuple[str, ...]
) -> Mapping[str, Value]:
    if not SIGNATURE_SIZE < len(signed) <= MAX_SIGNED:
        raise CodecError("a mint's receipt of a wrong length")
    body, signature = signed[:-SIGNATURE_SIZE], signed[-SIGNATURE_SIZE:]
    if not verify_signature(mint_public, domain + body, signature):
        raise BadSignature("the receipt's signature is not the mint's")
    return read_map(body, MAX_SIGNED, names)
