"""One datagram: an `adnl.packetContents`, signed and sealed to a key, or sealed in a channel.

A direct datagram is `id of the key it is for | a public key | digest | ciphertext`: the secret is
the two keys', the second of which is fresh for each packet (some clients send their own key again
and again; both are taken). A channel's is `id of its secret | digest | ciphertext`.

This module knows bytes and signatures. Whether a packet is new, and whose, is the peer's matter.
"""

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from p2p import identity
from p2p.adnl import box
from p2p.adnl.drops import Drop
from p2p.adnl.keys import Curve, KeyPair
from p2p.entropy import Entropy
from p2p.errors import AdnlError, BadSignature
from p2p.identity import PUB_ED25519, AdnlId, Identity, short_id
from p2p.tl import parse, parse_at
from p2p.ton import AdnlAddressList, AdnlMessage, AdnlPacketContents, PubEd25519

MAX_DATAGRAM: Final = 1_440
"""bytes of a datagram that we send: TON's own limit, which fits every path of the internet."""

MAX_RECEIVED: Final = 2_048
"""bytes of a datagram that we take: as much as TON reads, though no node should send it."""

CHANNEL_HEAD: Final = 64
"""bytes in front of the ciphertext in a channel."""

DIRECT_HEAD: Final = 96
"""bytes in front of the ciphertext outside of channels."""

SIGNATURE: Final = 68
"""bytes that a signature adds to a packet: as TL `bytes`, with length and padding."""

DIRECT_ROOM: Final = MAX_DATAGRAM - DIRECT_HEAD - 36 - 16 - 8 - SIGNATURE - 4 - 4 - 4 - 2 * 16
"""bytes of messages and addresses that fit in a direct datagram: besides these there are source,
numbers, dates, signature, id, flags, a count, and two paddings at their longest. TON's messages of
1152 bytes go in."""

_ID: Final = AdnlPacketContents.tl.id
_FROM: Final = 1 << 0
_MESSAGE: Final = 1 << 2
_MESSAGES: Final = 1 << 3
_ADDRESSES: Final = 1 << 4
_NUMBERED: Final = 1 << 6 | 1 << 7
_DATED: Final = 1 << 10
_SIGNED: Final = 1 << 11
"""Bits of the flags."""

_USUAL: Final = (_MESSAGE | _NUMBERED).to_bytes(4, "little")
_PADDINGS: Final = (7, 15)
_LEAST_USUAL: Final = 4 + 8 + 4 + 4 + 16 + 8
"""bytes of a packet with an empty message."""

_NUMBERS: Final = struct.Struct("<qq")
_DATES: Final = struct.Struct("<ii")


class Packet(NamedTuple):
    """What a packet of a peer says. Zero stands for a number or date that is not there."""

    messages: tuple[AdnlMessage, ...]
    seqno: int = 0
    confirm_seqno: int = 0
    source: bytes | None = None
    """Public key in full."""
    source_id: AdnlId | None = None
    """Id of the source, whether that is there in full or not."""
    addresses: AdnlAddressList | None = None
    received_version: int = 0
    """Version of the receiver's addresses that the sender has."""
    reinit_date: int = 0
    """When the sender started."""
    dst_reinit_date: int = 0
    """When the receiver started, as far as the sender knows."""


class Signed(NamedTuple):
    """A packet that came outside of channels, not verified yet."""

    packet: Packet
    signature: bytes
    message: bytes
    """What the signature is over: the packet without it."""

    def verify(self, public: bytes) -> None:
        """Raise `AdnlError` unless this key signed."""
        if not identity.verify_once(public, self.message, self.signature):
            raise AdnlError(Drop.SIGNATURE)


class Padding(NamedTuple):
    """The random bytes at both ends of a packet: they hide its length a little."""

    first: bytes
    last: bytes


def draw_padding(entropy: Entropy) -> Padding:
    """Seven or fifteen bytes each, as TON draws them: with their length no byte is wasted."""
    drawn = entropy.token(31)
    return Padding(
        drawn[1:16] if drawn[0] & 1 else drawn[1:8],
        drawn[16:] if drawn[0] & 2 else drawn[16:23],
    )


# --- datagrams outside of channels ---


def seal_direct(key: KeyPair, to: AdnlId, their_curve: Curve, plain: bytes) -> bytes:
    """The datagram for the node `to`, sealed by a key drawn for it alone."""
    return to + key.public + box.seal(key.shared(their_curve), plain)


def unseal_direct(own: Identity, datagram: bytes) -> bytes:
    """The packet in a datagram of at least `DIRECT_HEAD` bytes that begins with our id."""
    try:
        secret = own.shared(datagram[32:64])
    except BadSignature as error:
        raise AdnlError(Drop.KEY) from error
    return box.unseal(secret, datagram, 64)


# --- packets ---


class Introduction(NamedTuple):
    """What a direct packet of ours says about us, and a packet in a channel does not."""

    source: bytes
    """Public key."""
    addresses: bytes | None
    """A bare `adnl.addressList`."""
    reinit_date: int
    dst_reinit_date: int


def write(
    messages: Sequence[bytes],
    padding: Padding,
    seqno: int,
    confirm_seqno: int,
    introduction: Introduction | None = None,
) -> bytes:
    """The `adnl.packetContents` of boxed messages, unsigned.

    Written out by hand, as it is done for each datagram: a tenth of what going through the
    schema takes.
    """
    flags, count = _NUMBERED | _MESSAGE, b""
    if len(messages) != 1:
        flags, count = _NUMBERED | _MESSAGES, len(messages).to_bytes(4, "little")

    source = addresses = dates = b""
    if introduction is not None:
        flags |= _FROM | _DATED
        source = PUB_ED25519 + introduction.source
        dates = _DATES.pack(introduction.reinit_date, introduction.dst_reinit_date)
        if introduction.addresses is not None:
            flags |= _ADDRESSES
            addresses = introduction.addresses

    first, last = padding
    head = (_ID, bytes([len(first)]), first, flags.to_bytes(4, "little"), source, count)
    tail = (addresses, _NUMBERS.pack(seqno, confirm_seqno), dates, bytes([len(last)]), last)
    return b"".join((*head, *messages, *tail))


def sign(plain: bytes, padding: Padding, own: Identity) -> bytes:
    """What `write` made, with our signature over all of it."""
    at, end = _flags_at(padding), _signature_at(plain, padding)
    signature = _SIGNATURE_HEAD + own.sign(plain) + _SIGNATURE_TAIL
    return plain[:at] + _signed_flag(plain, at) + plain[at + 4 : end] + signature + plain[end:]


def read(plain: bytes) -> Packet:
    """The packet of a datagram in a channel. Raises `AdnlError` or `TlError`."""
    return _read_usual(plain) or _packet(parse(AdnlPacketContents, plain))


def read_signed(plain: bytes) -> Signed:
    """The packet of a direct datagram. Raises `AdnlError` or `TlError`."""
    contents = parse(AdnlPacketContents, plain)
    packet = _packet(contents)
    if packet.source_id is None:
        raise AdnlError(Drop.SOURCE)
    if contents.signature is None or len(contents.signature) != identity.SIGNATURE_SIZE:
        raise AdnlError(Drop.SIGNATURE)
    message = _without_signature(plain, Padding(contents.rand1, contents.rand2))
    return Signed(packet, contents.signature, message)


def _read_usual(plain: bytes) -> Packet | None:
    """What nearly all packets in channels are: one message and two numbers; else None.

    It takes a third of the time that reading all fields by the schema does.
    """
    size = len(plain)
    if size < _LEAST_USUAL or not plain.startswith(_ID) or plain[4] not in _PADDINGS:
        return None
    at = 5 + plain[4]
    if not plain.startswith(_USUAL, at):
        return None
    message, end = parse_at(plain, at + 4)
    if size < end + 17 or plain[end + 16] not in _PADDINGS or size != end + 17 + plain[end + 16]:
        return None
    seqno, confirm_seqno = _NUMBERS.unpack_from(plain, end)
    if seqno < 0 or confirm_seqno < 0 or not isinstance(message, AdnlMessage):
        return None
    return Packet((message,), seqno, confirm_seqno)


def _packet(contents: AdnlPacketContents) -> Packet:
    messages = contents.messages or ()
    if contents.message is not None:
        if contents.messages is not None:
            raise AdnlError(Drop.MALFORMED)
        messages = (contents.message,)
    seqno, confirm_seqno = contents.seqno or 0, contents.confirm_seqno or 0
    if seqno < 0 or confirm_seqno < 0:
        raise AdnlError(Drop.MALFORMED)

    source, source_id = _source(contents)
    return Packet(
        messages,
        seqno,
        confirm_seqno,
        source,
        source_id,
        contents.address,
        contents.recv_addr_list_version or 0,
        contents.reinit_date or 0,
        contents.dst_reinit_date or 0,
    )


def _source(contents: AdnlPacketContents) -> tuple[bytes | None, AdnlId | None]:
    short = contents.from_short
    match contents.from_:
        case None:
            return None, AdnlId(short.id) if short is not None else None
        case PubEd25519(key):
            found = short_id(key)
            if short is not None and short.id != found:
                raise AdnlError(Drop.SOURCE)
            return key, found
        case _:  # keys that sign nothing
            raise AdnlError(Drop.SOURCE)


# --- a signature is put in and taken out where it stands: before the last random bytes ---

_SIGNATURE_HEAD: Final = bytes([identity.SIGNATURE_SIZE])
_SIGNATURE_TAIL: Final = bytes(SIGNATURE - identity.SIGNATURE_SIZE - 1)


def _without_signature(plain: bytes, padding: Padding) -> bytes:
    at, end = _flags_at(padding), _signature_at(plain, padding)
    return plain[:at] + _signed_flag(plain, at) + plain[at + 4 : end - SIGNATURE] + plain[end:]


def _signed_flag(plain: bytes, at: int) -> bytes:
    """The flags, with that of the signature turned over."""
    flags = int.from_bytes(plain[at : at + 4], "little") ^ _SIGNED
    return flags.to_bytes(4, "little")


def _flags_at(padding: Padding) -> int:
    return 4 + _size(padding.first)


def _signature_at(plain: bytes, padding: Padding) -> int:
    return len(plain) - _size(padding.last)


def _size(data: bytes) -> int:
    """Bytes of TL `bytes`, which has one form for each length."""
    head = 1 if len(data) < 254 else 4
    return (head + len(data) + 3) & ~3
