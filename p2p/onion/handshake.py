"""CREATE and CREATED: a whole path agrees on its keys in one round trip.

The client nests one Noise message per hop; each hop opens its own, passes the inner one on, and
wraps the reply on its way back. Nothing here decides anything: admission, time window, replay and
routing are the relay's and the endpoint's, between `open_create` and the answer.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import blake2b
from typing import final

from p2p.entropy import Entropy
from p2p.errors import OnionError
from p2p.identity import AdnlId
from p2p.onion.cell import (
    INFO_SIZE,
    MAX_DEPTH,
    STATUS_SIZE,
    Code,
    Hop,
    Info,
    Layers,
    Status,
    create_size,
    reply_size,
)
from p2p.onion.noise import (
    KEM_CIPHERTEXT_SIZE,
    KEM_PUBLIC_SIZE,
    KEY_SIZE,
    MESSAGE_OVERHEAD,
    NK,
    NKPSK2,
    Initiator,
    Kem,
    Responder,
    Split,
    Suite,
    kem_psk,
)

MAX_REQUEST = 512
"""bytes of a request: what the endpoint reads before it says yes."""

MAX_OFFER = 960
"""bytes of an offer, or of the reason of a refusal."""

ISSUED_STEP = 60
"""seconds: `issued` is rounded down to this, so that it tells little about the client's clock."""

_LENGTH_SIZE = 2


class HopRole(IntEnum):
    """What a hop is on this circuit; part of its prologue."""

    RELAY = 0
    ENDPOINT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A hop as the client knows it from the directory."""

    id: AdnlId
    onion_key: bytes
    """X25519 public, today's."""


def prologue(network: int, role: HopRole, hop: AdnlId) -> bytes:
    """What both sides of a layer must agree on before they meet."""
    return b"tussah-onion/1" + network.to_bytes(4, "little", signed=True) + bytes([role]) + hop


# --- the client ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The circuit stands."""

    offer: bytes = field(repr=False)
    layers: Layers = field(repr=False)
    session: bytes = field(repr=False)
    """32 bytes that only the two ends know: names this circuit in a later resume."""
    resume: bytes = field(repr=False)
    """The key that proves a resume."""
    statuses: tuple[Status, ...]
    """What each hop said, guard first; all OK, with their clocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A hop said no."""

    depth: int
    """1 = guard."""
    reason: bytes = field(repr=False)
    """The endpoint's words; empty from a relay."""
    statuses: tuple[Status, ...]
    """What each hop said up to the one that refused, which is the last."""

    @property
    def status(self) -> Status:
        """Why."""
        return self.statuses[-1]


@final
class ClientHandshake:
    """One attempt to build a circuit: `create` once, then `read` the reply once.

    The ephemeral keys are drawn at once and can be read before `create`: a puzzle and the proof of
    a resume are computed over them.
    """

    __slots__ = ("_hops", "_initiators", "_kem", "_private", "_public", "ephemerals")

    def __init__(self, hops: Sequence[Target], *, network: int, kem: Kem, entropy: Entropy) -> None:
        if not 1 <= len(hops) <= MAX_DEPTH:
            raise ValueError("a path has an endpoint behind 0 to 3 relays")
        self._hops = tuple(hops)
        self._kem = kem
        roles = [HopRole.RELAY] * (len(hops) - 1) + [HopRole.ENDPOINT]
        self._initiators = [
            _initiator(hop, role, network, entropy) for hop, role in zip(hops, roles, strict=True)
        ]
        self._private, self._public = kem.generate(entropy)
        self.ephemerals = tuple(initiator.ephemeral for initiator in self._initiators)
        """`e` of each hop, guard first."""

    def create(self, issued: int, request: bytes, puzzles: Sequence[int] = ()) -> bytes:
        """The CREATE for the guard, 2384 bytes.

        `issued` is Unix time, rounded down here; `puzzles` holds a nonce per hop, none meaning 0.
        Raises `OnionError` if a hop's onion key is of low order: its advert lies.
        """
        minute = issued - issued % ISSUED_STEP
        last = len(self._hops)
        nonces = tuple(puzzles) or (0,) * last

        info = Info(next=None, issued=minute, puzzle=nonces[-1])
        room = create_size(last) - MESSAGE_OVERHEAD - INFO_SIZE - KEM_PUBLIC_SIZE
        text = info.pack() + self._public + _pad(request, MAX_REQUEST, room)
        message = self._initiators[-1].write(text)

        for i in reversed(range(last - 1)):
            info = Info(next=self._hops[i + 1].id, issued=minute, puzzle=nonces[i])
            message = self._initiators[i].write(info.pack() + message)
        return message

    def read(self, reply: bytes) -> Accepted | Refused:
        """What the path answered. Raises `OnionError` if a layer does not open."""
        if len(reply) != reply_size(1):
            raise OnionError("a CREATED of a wrong size")
        statuses: list[Status] = []
        for depth, initiator in enumerate(self._initiators[:-1], 1):
            text = initiator.read(reply)
            statuses.append(Status.unpack(text[:STATUS_SIZE]))
            if statuses[-1].code != Code.OK:
                return Refused(depth=depth, reason=b"", statuses=tuple(statuses))
            reply = text[STATUS_SIZE:]
        return self._read_end(reply, statuses)

    def _read_end(self, reply: bytes, statuses: list[Status]) -> Accepted | Refused:
        ciphertext, message = reply[:KEM_CIPHERTEXT_SIZE], reply[KEM_CIPHERTEXT_SIZE:]
        secret = self._kem.decapsulate(self._private, ciphertext)
        text = self._initiators[-1].read(message, kem_psk(secret, self._public, ciphertext))

        statuses.append(Status.unpack(text[:STATUS_SIZE]))
        words = _unpad(text[STATUS_SIZE:], MAX_OFFER)
        if statuses[-1].code != Code.OK:
            return Refused(depth=len(self._hops), reason=words, statuses=tuple(statuses))
        keys = [initiator.split() for initiator in self._initiators]
        session, resume = _secrets(keys[-1])
        return Accepted(
            offer=words,
            layers=Layers(keys),
            session=session,
            resume=resume,
            statuses=tuple(statuses),
        )


def _initiator(hop: Target, role: HopRole, network: int, entropy: Entropy) -> Initiator:
    start = prologue(network, role, hop.id)
    return Initiator(hop.onion_key, start, entropy, suite=_SUITES[role])


# --- the hops ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Relayed:
    """A CREATE that this node may pass on. Answer it once, by `wrap` or `refuse`."""

    info: Info
    create: bytes = field(repr=False)
    """For the next hop."""
    depth: int
    """1 = guard."""
    ephemeral: bytes
    """The client's `e`: what the replay window and the puzzle are about."""
    _responder: Responder = field(repr=False)
    _entropy: Entropy = field(repr=False)

    @property
    def next(self) -> AdnlId:
        """Whom to pass `create` to."""
        assert self.info.next is not None, "open_create has looked"
        return self.info.next

    def wrap(self, unix: int, reply: bytes) -> tuple[bytes, Hop]:
        """The CREATED for the hop behind, around the one from ahead, and the keys of the cells.

        Raises `OnionError` if the reply from ahead has a wrong size.
        """
        if len(reply) != reply_size(self.depth + 1):
            raise OnionError("a CREATED of a wrong size")
        message = self._responder.write(Status(code=Code.OK, unix=unix).pack() + reply)
        return message, Hop(self._responder.split(), self.depth)

    def refuse(self, status: Status) -> bytes:
        """The CREATED for the hop behind when this one says no."""
        filler = self._entropy.token(reply_size(self.depth + 1))
        return self._responder.write(status.pack() + filler)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A CREATE that ends at this node. Answer it once, by `accept` or `refuse`."""

    info: Info
    request: bytes = field(repr=False)
    depth: int
    """Hops of the circuit, this node included."""
    ephemeral: bytes
    """The client's `e`: what the replay window, the puzzle and a resume are about."""
    _responder: Responder = field(repr=False)
    _ciphertext: bytes = field(repr=False)
    _psk: bytes = field(repr=False)

    def accept(self, unix: int, offer: bytes) -> "Answered":
        """Yes, with these words (at most `MAX_OFFER` bytes)."""
        reply = self._reply(Status(code=Code.OK, unix=unix), offer)
        keys = self._responder.split()
        session, resume = _secrets(keys)
        return Answered(reply=reply, hop=Hop(keys, self.depth), session=session, resume=resume)

    def refuse(self, status: Status, reason: bytes = b"") -> bytes:
        """No, with these words (at most `MAX_OFFER` bytes)."""
        return self._reply(status, reason)

    def _reply(self, status: Status, words: bytes) -> bytes:
        room = reply_size(self.depth) - KEM_CIPHERTEXT_SIZE - MESSAGE_OVERHEAD - STATUS_SIZE
        text = status.pack() + _pad(words, MAX_OFFER, room)
        return self._ciphertext + self._responder.write(text, self._psk)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What an endpoint keeps of a circuit that it accepted."""

    reply: bytes = field(repr=False)
    hop: Hop = field(repr=False)
    session: bytes = field(repr=False)
    resume: bytes = field(repr=False)
    """The key that a resume of this circuit is proved with."""


def open_create(
    create: bytes,
    privates: Sequence[bytes],
    *,
    me: AdnlId,
    network: int,
    kem: Kem,
    entropy: Entropy,
) -> Relayed | Ended:
    """What a complete CREATE wants of this node; its length tells the depth.

    `privates` are the onion keys still accepted, today's first. Both roles are tried, so that a
    node can say that it is not the one asked for. Raises `OnionError` if no key opens it, and for
    any content that no honest client writes: DESTROY is all it deserves.
    """
    depth = _DEPTHS.get(len(create))
    if depth is None:
        raise OnionError("a CREATE of a wrong size")
    for private in privates:
        for role in HopRole:
            responder = Responder(
                private, prologue(network, role, me), entropy, suite=_SUITES[role]
            )
            text = _read(responder, create)
            if text is not None and role == HopRole.RELAY:
                return _relayed(text, create[:KEY_SIZE], depth, responder, entropy)
            if text is not None:
                return _ended(text, create[:KEY_SIZE], depth, responder, kem, entropy)
    raise OnionError("a CREATE that no key of ours opens")


_DEPTHS = {create_size(depth): depth for depth in range(1, MAX_DEPTH + 1)}
_SUITES: dict[HopRole, Suite] = {HopRole.RELAY: NK, HopRole.ENDPOINT: NKPSK2}


def _read(responder: Responder, create: bytes) -> bytes | None:
    try:
        return responder.read(create)
    except OnionError:
        return None


def _relayed(
    text: bytes, ephemeral: bytes, depth: int, responder: Responder, entropy: Entropy
) -> Relayed:
    info = Info.unpack(text[:INFO_SIZE])
    if info.next is None or depth == MAX_DEPTH:
        raise OnionError("a relay as the end of a path")
    return Relayed(
        info=info,
        create=text[INFO_SIZE:],
        depth=depth,
        ephemeral=ephemeral,
        _responder=responder,
        _entropy=entropy,
    )


def _ended(
    text: bytes, ephemeral: bytes, depth: int, responder: Responder, kem: Kem, entropy: Entropy
) -> Ended:
    info = Info.unpack(text[:INFO_SIZE])
    if info.next is not None:
        raise OnionError("an endpoint in the middle of a path")
    public, request = text[INFO_SIZE:][:KEM_PUBLIC_SIZE], text[INFO_SIZE + KEM_PUBLIC_SIZE :]
    ciphertext, secret = kem.encapsulate(public, entropy)
    return Ended(
        info=info,
        request=_unpad(request, MAX_REQUEST),
        depth=depth,
        ephemeral=ephemeral,
        _responder=responder,
        _ciphertext=ciphertext,
        _psk=kem_psk(secret, public, ciphertext),
    )


# --- the admission puzzle ---

MAX_PUZZLE = 20
"""zero bits a client is ready to find: 2^20 tries take 0.4 s."""


def puzzle_bits(hop: AdnlId, ephemeral: bytes, issued: int, nonce: int) -> int:
    """The zero bits that a nonce is worth to this hop."""
    text = hop + ephemeral + issued.to_bytes(4, "little") + nonce.to_bytes(8, "little")
    digest = blake2b(text, digest_size=8, person=b"tussah-pow-1").digest()
    return 64 - int.from_bytes(digest, "big").bit_length()


def solve_puzzle(hop: AdnlId, ephemeral: bytes, issued: int, bits: int) -> int:
    """The first nonce worth `bits`; `issued` as in `ClientHandshake.create`."""
    minute = issued - issued % ISSUED_STEP
    nonce = 0
    while puzzle_bits(hop, ephemeral, minute, nonce) < bits:
        nonce += 1
    return nonce


# --- inside ---


def _secrets(keys: Split) -> tuple[bytes, bytes]:
    """(session, resume)."""
    session = hmac.digest(keys.exporter, b"tussah-session/1", "sha256")
    return session, hmac.digest(keys.exporter, b"tussah-resume/1", "sha256")


def _pad(words: bytes, limit: int, room: int) -> bytes:
    if len(words) > limit:
        raise ValueError(f"more than {limit} bytes")
    return (len(words).to_bytes(_LENGTH_SIZE, "little") + words).ljust(room, b"\0")


def _unpad(text: bytes, limit: int) -> bytes:
    end = _LENGTH_SIZE + int.from_bytes(text[:_LENGTH_SIZE], "little")
    if end > min(len(text), _LENGTH_SIZE + limit) or text[end:].strip(b"\0"):
        raise OnionError("a length or filler that no honest side writes")
    return text[_LENGTH_SIZE:end]
