"""What a node says of itself, and the canonical map that carries it; no time, no signature."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple, NoReturn, TypeAlias, TypeGuard

from p2p import codec
from p2p.codec import Value
from p2p.errors import AdvertError, CodecError
from p2p.identity import AdnlId
from p2p.onion.path import Role
from p2p.wire import Endpoint

LOAD_IDLE, LOAD_LIGHT, LOAD_QUEUEING, LOAD_FULL = range(4)
"""How busy a node was when it issued its advert."""

ASSURED_NOT, ASSURED_AUDITED, ASSURED_TEE = range(3)
"""Who besides the worker says that it runs what it claims."""

ANCHOR_SIZE: Final = 16

MAX_PRICE: Final = 10**15
"""nano per million tokens: a thousand TON a token is a mistake."""


class OnionKey(NamedTuple):
    """The X25519 key of one onion-key day (UTC day number), accepted until the end of the next."""

    day: int
    key: bytes


class Anchors(NamedTuple):
    """Where the two chains of pulses end, 16 bytes each."""

    open: bytes
    busy: bytes


class Prices(NamedTuple):
    """nano per million tokens."""

    prompt: int
    completion: int


class Capacity(NamedTuple):
    """How much a node can carry, roughly."""

    bandwidth: int
    """floor(log2 Mbit/s)."""
    load: int = LOAD_IDLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model a worker serves."""

    identity: bytes
    """32 bytes: the hash that `inference/gguf.py` gives the file."""
    quant: int
    """GGUF file type."""
    context: int
    """tokens."""
    prompt_rate: int
    """tokens/s read, one stream, by the worker's own benchmark; 3 significant bits."""
    answer_rate: int
    """tokens/s written, as above."""
    slots: int
    prices: Prices
    flags: int = 0
    """1 tools, 2 grammar, 4 vision, 8 embeddings, 16 logprobs, 32 reproducible."""
    assurance: int = ASSURED_NOT
    label: str = ""
    """At most 32 bytes, for people; never trusted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """What a node says of itself. A stack fills in network, seq, addresses and onion key."""

    roles: Role
    """None at all is how a node says that it leaves."""
    network: int = 0
    seq: int = 0
    """Greater than in every advert before; 0 stands for the time of issue."""
    life: int = 0
    """seconds; 0 stands for the network's usual life."""
    addresses: tuple[Endpoint, ...] = ()
    """Where it listens for libp2p over TCP."""
    udp: tuple[Endpoint, ...] = ()
    """Where it listens for ADNL."""
    onion: OnionKey | None = None
    operator: bytes | None = None
    """TON account hash."""
    attachments: tuple[AdnlId, ...] = ()
    """Relays that keep a link to this node, which cannot be dialled."""
    models: tuple[Model, ...] = ()
    anchors: Anchors | None = None
    """What its pulses lead to; without them it is there only while its advert is fresh."""
    capacity: Capacity | None = None
    mint: bytes | None = None
    """SHA-256 of the newest keyset."""
    work: bytes | None = None
    """Nonce that buys a listing for a day; a dev network asks for none."""
    crowd: int | None = None
    """Relays: floor(log2(1 + unlisted link peers in the last hour))."""
    request_cap: int | None = None
    """Workers: KiB of the largest request."""


_parsed = lru_cache(65_536)(ip_address)
"""A parse takes longer than the rest of an address's checks, and an advert needs several."""


def host_of(endpoint: Endpoint) -> IPv4Address | IPv6Address:
    """The address of an endpoint."""
    return _parsed(endpoint.host)


def three_bits(rate: int) -> int:
    """`rate` rounded down to 3 significant bits: an exact speed would be a fingerprint."""
    drop = max(0, rate.bit_length() - 3)
    return rate >> drop << drop


# --- packing ---


def pack_fields(fields: Fields, *, version: int, public: bytes, issued: int) -> bytes:
    """The canonical map of an advert's body; what is absent takes no space."""
    addresses = [pack_address(TCP4, endpoint) for endpoint in fields.addresses]
    addresses += [pack_address(UDP4, endpoint) for endpoint in fields.udp]
    values: dict[int, Value] = {
        0: version,
        1: fields.network,
        2: public,
        3: fields.seq,
        4: issued,
        5: fields.life,
        6: int(fields.roles),
        7: addresses,
        8: fields.onion,
        10: fields.operator,
        11: fields.attachments,
        12: [_pack_model(model) for model in fields.models],
        13: None if fields.anchors is None else fields.anchors.open + fields.anchors.busy,
        14: fields.capacity,
        15: fields.mint,
        16: fields.work,
        17: fields.crowd,
        18: fields.request_cap,
    }
    return codec.pack({key: value for key, value in values.items() if not _absent(value)})


def _absent(value: Value) -> bool:
    return value is None or (isinstance(value, (list, tuple)) and not value)


def pack_address(kind: int, endpoint: Endpoint) -> Value:
    """An address of a transport, UDP4 or TCP4; it is IPv6's if the endpoint is."""
    packed = host_of(endpoint).packed
    kind = kind & ~1 if len(packed) == 4 else kind | 1
    return [kind, packed + endpoint.port.to_bytes(2, "big")]


def _pack_model(model: Model) -> Value:
    values: list[Value] = [
        model.identity,
        model.quant,
        model.context,
        model.prompt_rate,
        model.answer_rate,
        model.slots,
        model.prices,
        model.flags,
        model.assurance,
    ]
    return [*values, model.label] if model.label else values


# --- reading: every reader takes a value of unknown shape and refuses by the rule's name ---

UDP4, UDP6, TCP4, TCP6 = range(4)

U8, U16, U32, U64 = ((1 << bits) - 1 for bits in (8, 16, 32, 64))
I32_LEAST, I32_MOST = -(2**31), 2**31 - 1

_MODEL_SIZES: Final = (9, 10)
_MAX_ADDRESSES: Final = 4
_MAX_ATTACHMENTS: Final = 3
_MAX_MODELS: Final = 4
_MAX_LABEL: Final = 32

Body: TypeAlias = Mapping[int, Value]


def refuse(reason: str) -> NoReturn:
    """Raise `AdvertError`, naming the rule that is broken."""
    raise AdvertError(reason)


def unpack_body(buffer: bytes, limit: int) -> Body:
    """The map in `buffer`. Raises `AdvertError`."""
    try:
        body = codec.unpack(buffer, limit)
    except CodecError as error:
        raise AdvertError("canonical form") from error
    if not _is_body(body):
        refuse("canonical form")
    return body


def _is_body(value: Value) -> TypeGuard[Body]:
    return isinstance(value, Mapping) and all(type(key) is int for key in value)


def read_fields(body: Body) -> Fields:
    """The fields of a body, each within its bounds. Raises `AdvertError`."""
    addresses = [
        read_address(item) for item in array(body.get(7, ()), "addresses", 0, _MAX_ADDRESSES)
    ]
    return Fields(
        network=integer(body.get(1), "network", I32_MOST, least=I32_LEAST),
        seq=integer(body.get(3), "seq", U64),
        life=integer(body.get(5), "life", U32),
        roles=Role(integer(body.get(6), "roles", U16)),
        addresses=tuple(endpoint for kind, endpoint in addresses if kind in (TCP4, TCP6)),
        udp=tuple(endpoint for kind, endpoint in addresses if kind in (UDP4, UDP6)),
        onion=_onion(body[8]) if 8 in body else None,
        operator=binary(body[10], "operator", 32) if 10 in body else None,
        attachments=_attachments(body.get(11, ())),
        models=_models(body.get(12, ())),
        anchors=_anchors(body[13]) if 13 in body else None,
        capacity=_capacity(body[14]) if 14 in body else None,
        mint=binary(body[15], "mint", 32) if 15 in body else None,
        work=binary(body[16], "work", 8) if 16 in body else None,
        crowd=integer(body[17], "crowd", U8) if 17 in body else None,
        request_cap=integer(body[18], "request cap", U16) if 18 in body else None,
    )


def integer(value: Value, name: str, most: int, *, least: int = 0) -> int:
    """An int within its bounds. Raises `AdvertError`."""
    if type(value) is not int or not least <= value <= most:
        refuse(name)
    return value


def binary(value: Value, name: str, size: int) -> bytes:
    """Bytes of exactly this size. Raises `AdvertError`."""
    if not isinstance(value, bytes) or len(value) != size:
        refuse(name)
    return value


def array(value: Value, name: str, least: int, most: int) -> Sequence[Value]:
    """An array of `least` to `most` items. Raises `AdvertError`."""
    if not isinstance(value, tuple) or not least <= len(value) <= most:
        refuse(name)
    return value


def read_address(value: Value) -> tuple[int, Endpoint]:
    """An address of a transport, UDP4 .. TCP6. Raises `AdvertError`."""
    kind, packed = array(value, "address", 2, 2)
    kind = integer(kind, "address", TCP6)
    packed = binary(packed, "address", 18 if kind in (UDP6, TCP6) else 6)
    host, port = ip_address(packed[:-2]), int.from_bytes(packed[-2:], "big")
    mapped = isinstance(host, IPv6Address) and host.ipv4_mapped is not None
    if port == 0 or host.is_unspecified or host.is_multicast or mapped:
        refuse("address")
    return kind, Endpoint(str(host), port)


def _onion(value: Value) -> OnionKey:
    day, key = array(value, "onion key", 2, 2)
    return OnionKey(integer(day, "onion key", U32), binary(key, "onion key", 32))


def _attachments(value: Value) -> tuple[AdnlId, ...]:
    items = array(value, "attachments", 0, _MAX_ATTACHMENTS)
    ids = tuple(AdnlId(binary(item, "attachments", 32)) for item in items)
    if len(dict.fromkeys(ids)) != len(ids):
        refuse("attachments")
    return ids


def _anchors(value: Value) -> Anchors:
    both = binary(value, "pulse anchors", 2 * ANCHOR_SIZE)
    return Anchors(both[:ANCHOR_SIZE], both[ANCHOR_SIZE:])


def _capacity(value: Value) -> Capacity:
    bandwidth, load = array(value, "capacity", 2, 2)
    return Capacity(integer(bandwidth, "capacity", U8), integer(load, "capacity", LOAD_FULL))


def _models(value: Value) -> tuple[Model, ...]:
    return tuple(_model(item) for item in array(value, "models", 0, _MAX_MODELS))


def _model(value: Value) -> Model:
    items = array(value, "model", min(_MODEL_SIZES), max(_MODEL_SIZES))
    identity, quant, context, prompt_rate, answer_rate, slots, prices, flags, assurance = items[:9]
    return Model(
        identity=binary(identity, "model identity", 32),
        quant=integer(quant, "model quant", U8),
        context=integer(context, "model context", U32),
        prompt_rate=_rate(prompt_rate),
        answer_rate=_rate(answer_rate),
        slots=integer(slots, "model slots", U8),
        prices=_prices(prices),
        flags=integer(flags, "model flags", U16),
        assurance=integer(assurance, "model assurance", ASSURED_TEE),
        label=_label(items[9]) if len(items) > 9 else "",
    )


def _rate(value: Value) -> int:
    rate = integer(value, "model rate", U16)
    if rate != three_bits(rate):
        refuse("model rate")
    return rate


def _prices(value: Value) -> Prices:
    prompt, completion = array(value, "model prices", 2, 2)
    return Prices(
        integer(prompt, "model prices", MAX_PRICE), integer(completion, "model prices", MAX_PRICE)
    )


def _label(value: Value) -> str:
    if not isinstance(value, str) or not 0 < len(value.encode()) <= _MAX_LABEL:
        refuse("model label")
    return value
