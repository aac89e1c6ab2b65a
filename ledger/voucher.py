"""A voucher: the payer's word that a lane owes so much in all, which the contract believes.

What is signed is the hash of a TVM cell, because that is what `lane.fc` computes:

    voucher_body#4c414e45 lane:MsgAddressInt cumulative:Coins

An ordinary cell without references hashes as SHA-256(d1 | d2 | data), its bits padded by a one and
zeros to whole bytes (TVM whitepaper, 3.1.4), so no cell library is needed here.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from ledger.money import MAX_NANO, Nano
from p2p import codec
from p2p.codec import Value
from p2p.errors import BadSignature, CodecError
from p2p.identity import SIGNATURE_SIZE, Identity
from p2p.identity import verify as verify_signature

LANE_SIZE: Final = 32
MAX_VOUCHER: Final = 128
"""bytes of a packed voucher; the longest takes 110."""

_TAG: Final = 0x4C414E45
_ADDR_STD: Final = 0b100
"""`addr_std$10`, no anycast; the 8 bits of workchain 0 follow."""
_HEAD: Final = (_TAG << 11 | _ADDR_STD << 8) << 256
"""What stands before the lane's 256 bits."""
_DESCRIPTORS: Final = tuple(bytes((0, 75 + 2 * size)) for size in range(9))
"""d1 and d2 by the bytes of the amount."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Voucher:
    """A total owed by a lane. A higher one replaces it; nothing else ever does."""

    lane: bytes
    """32 bytes: the contract's address, which its network and parties are hashed into."""
    cumulative: Nano
    """All that was ever promised, what was claimed included."""
    sig: bytes
    """64 bytes by the lane's payer key."""

    def pack(self) -> bytes:
        """As it travels and is kept: canonical `[lane, cumulative, sig]`."""
        return codec.pack([self.lane, self.cumulative.value, self.sig])

    @classmethod
    def parse(cls, packed: bytes) -> "Voucher":
        """The voucher of canonical bytes, its signature not looked at. Raises `CodecError`."""
        fields = codec.unpack(packed, MAX_VOUCHER)
        if not isinstance(fields, tuple) or len(fields) != 3:
            raise CodecError("a voucher is three values")
        lane, cumulative, sig = fields
        return cls(
            lane=_bytes(lane, LANE_SIZE),
            cumulative=_amount(cumulative),
            sig=_bytes(sig, SIGNATURE_SIZE),
        )


def sign(key: Identity, lane: bytes, cumulative: Nano) -> Voucher:
    """The voucher of a lane for a total. Deterministic: signing again gives the same bytes."""
    signature = key.sign(body_hash(lane, cumulative))
    return Voucher(lane=lane, cumulative=cumulative, sig=signature)


def verify(payer_key: bytes, voucher: Voucher) -> None:
    """Raises `BadSignature` unless the lane's payer signed."""
    body = body_hash(voucher.lane, voucher.cumulative)
    if not verify_signature(payer_key, body, voucher.sig):
        raise BadSignature("the voucher's signature is not the payer's")


def body_hash(lane: bytes, cumulative: Nano) -> bytes:
    """32 bytes: the hash of the cell that the payer signs."""
    if len(lane) != LANE_SIZE:
        raise ValueError(f"a lane's address is {LANE_SIZE} bytes")
    amount = cumulative.value
    size = (amount.bit_length() + 7) >> 3
    bits = ((_HEAD | int.from_bytes(lane, "big")) << 4 | size) << 8 * size | amount
    # 303 bits and those of the amount; one more completes the last byte.
    data = (bits << 1 | 1).to_bytes(38 + size, "big")
    return sha256(_DESCRIPTORS[size] + data).digest()


def _bytes(value: Value, size: int) -> bytes:
    if not isinstance(value, bytes) or len(value) != size:
        raise CodecError(f"a field of a voucher is not {size} bytes")
    return value


def _amount(value: Value) -> Nano:
    if type(value) is not int or not 0 <= value <= MAX_NANO:
        raise CodecError("a voucher's total is no amount")
    return Nano(value)
