"""The bodies of the calls by which nodes compare and fetch the directory, and learn to be reached.

Canonical msgpack, inside `tussah.call` and `tussah.reply`:

    [0, cut, own root]                -> [0, count, root, live]            root
    [1, cut]                          -> [0, bin 4096]                     buckets
    [2, cut, bin of bucket numbers]   -> [0, [bin n x 25 per bucket]]      list
    [3, [digest, ... <= 512]]         -> [0, [advert, ...]]                get
    [4, cut, first, last]             -> [0, next bucket, [advert, ...]]   pull
    [5, first, last]                  -> [0, bin n x 26]                   pulses
    [7]                               -> [0, [kind, bin]]                  whoami
    [8, nonce, [kind, bin]]           -> [0]                               probe

and of casts, which nobody answers:

    [17, nonce]                       a stranger shows a nonce where it was asked to
    [18, nonce, public, [kind, bin]]  a server asks a stranger to do so

An item of a list is id[0:8] | digest | days listed of the last 7. Who does not do what was asked
answers [1, code]. Readers of calls raise `CodecError`; readers of answers that, and `Rejected`.
"""

from collections.abc import Sequence
from enum import Enum, IntEnum
from typing import Final, NamedTuple, TypeAlias

from p2p import codec, defaults
from p2p.codec import Value
from p2p.errors import AdvertError, CodecError, Rejected
from p2p.overlay import fields
from p2p.overlay.advert import Digest
from p2p.overlay.pulse import PREFIX_SIZE, PULSE_SIZE
from p2p.overlay.snapshot import BUCKETS, HASH_SIZE
from p2p.wire import Endpoint

ROOT_SIZE: Final = 32
DIGEST_SIZE: Final = 16
ENTRY_SIZE: Final = PREFIX_SIZE + DIGEST_SIZE
ITEM_SIZE: Final = ENTRY_SIZE + 1
NONCE_SIZE: Final = 16
PUBLIC_SIZE: Final = 32

NO_ROOT: Final = bytes(ROOT_SIZE)
"""What a client, which nobody asks back, says for its own root."""

DAYS: Final = 7

MAX_GET: Final = 512
"""adverts asked for at once."""

MAX_BODY: Final = 16_384
"""bytes of a call: 512 digests take 9.2 kB."""

MAX_SHORT: Final = 4_200
"""bytes of an answer with a root, the buckets or an address."""

MAX_LIST: Final = defaults.MAX_ADVERTS * ITEM_SIZE + BUCKETS * 5 + 16

MAX_GOT: Final = 512 * 1024

MAX_PULLED: Final = 2 * 1024 * 1024

MAX_PULSES: Final = 2 * defaults.MAX_ADVERTS * PULSE_SIZE + 16
"""bytes of an answer with the pulses of everybody, open and busy."""


class Refusal(IntEnum):
    """Why a call was not done."""

    BUSY = 1
    UNKNOWN = 2
    TOO_MUCH = 3
    REFUSED = 4


class Transport(Enum):
    """What carries to an address; the value is its kind for IPv4 in an advert, IPv6 being next."""

    UDP = 0
    TCP = 2


class Address(NamedTuple):
    """Where a node is reached, and over which transport."""

    kind: int
    """As in an advert: 0 and 1 UDP, 2 and 3 TCP; odd for IPv6."""
    endpoint: Endpoint

    @property
    def transport(self) -> Transport:
        """What carries there."""
        return Transport(self.kind & ~1)


def address_of(transport: Transport, endpoint: Endpoint) -> Address:
    """An endpoint as the address of a transport."""
    return Address(transport.value | (":" in endpoint.host), endpoint)


class Root(NamedTuple):
    """Ask whether two lists are equal."""

    cut: int
    own: bytes


class Buckets(NamedTuple):
    """Ask where they differ."""

    cut: int


class List(NamedTuple):
    """Ask what is in these buckets."""

    cut: int
    numbers: bytes


class Get(NamedTuple):
    """Ask for adverts by their digests."""

    digests: Sequence[Digest]


class Pull(NamedTuple):
    """Ask for all adverts of a range of buckets, both ends included."""

    cut: int
    first: int
    last: int


class Pulses(NamedTuple):
    """Ask for the newest pulses of the nodes in a range of buckets."""

    first: int
    last: int


class Whoami(NamedTuple):
    """Ask where we seem to be."""


class Probe(NamedTuple):
    """Ask to be reached there by a stranger, who shows the nonce."""

    nonce: bytes
    address: Address


Call: TypeAlias = Root | Buckets | List | Get | Pull | Pulses | Whoami | Probe


class Rooted(NamedTuple):
    """The answer to `Root`."""

    nodes: int
    root: bytes
    live: int


class Item(NamedTuple):
    """One node in the answer to `List`."""

    entry: bytes
    """id[0:8] | digest"""
    days: int

    @property
    def digest(self) -> Digest:
        """Of its advert."""
        return Digest(self.entry[PREFIX_SIZE:])


class Pulled(NamedTuple):
    """The answer to `Pull`: the adverts of whole buckets, before `next`."""

    next: int
    adverts: Sequence[bytes]


class Reached(NamedTuple):
    """We have been asked to reach you, by whom you gave this nonce."""

    nonce: bytes


class Ring(NamedTuple):
    """Please reach the node of this key there."""

    nonce: bytes
    public: bytes
    address: Address


Cast: TypeAlias = Reached | Ring


# --- calls ---


def pack_call(call: Call) -> bytes:
    """The bytes of a call."""
    match call:
        case Root(cut, own):
            return codec.pack([0, cut, own])
        case Buckets(cut):
            return codec.pack([1, cut])
        case List(cut, numbers):
            return codec.pack([2, cut, numbers])
        case Get(digests):
            return codec.pack([3, digests])
        case Pull(cut, first, last):
            return codec.pack([4, cut, first, last])
        case Pulses(first, last):
            return codec.pack([5, first, last])
        case Whoami():
            return codec.pack([7])
        case Probe(nonce, address):
            return codec.pack([8, nonce, fields.pack_address(*address)])


def read_call(body: bytes) -> Call | None:
    """The call in `body`; None if it is of another kind."""
    match codec.unpack(body, MAX_BODY):
        case (bool(), *_):
            raise CodecError("not a call")
        case (0, int(cut), bytes(own)):
            return Root(_cut(cut), _sized(own, ROOT_SIZE))
        case (1, int(cut)):
            return Buckets(_cut(cut))
        case (2, int(cut), bytes(numbers)):
            return List(_cut(cut), _ascending(numbers))
        case (3, tuple(digests)):
            return Get(_digests(digests))
        case (4, int(cut), int(first), int(last)):
            return Pull(_cut(cut), *_range(first, last))
        case (5, int(first), int(last)):
            return Pulses(*_range(first, last))
        case (7,):
            return Whoami()
        case (8, bytes(nonce), address):
            return Probe(_sized(nonce, NONCE_SIZE), _address(address))
        case (int(kind), *_) if kind not in _KINDS:
            return None
        case _:
            raise CodecError("not a call")


_KINDS: Final = frozenset([0, 1, 2, 3, 4, 5, 7, 8])


def _cut(cut: int) -> int:
    if type(cut) is not int or not 0 <= cut < 2**40:
        raise CodecError("no time of a cut")
    return cut


def _sized(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise CodecError("bytes of another length")
    return data


def _ascending(numbers: bytes) -> bytes:
    if list(numbers) != sorted(dict.fromkeys(numbers)):
        raise CodecError("buckets not ascending")
    return numbers


def _digests(items: Sequence[Value]) -> Sequence[Digest]:
    if len(items) > MAX_GET:
        raise CodecError("too many adverts at once")
    return [Digest(_sized(_binary(item), DIGEST_SIZE)) for item in items]


def _binary(item: Value) -> bytes:
    if not isinstance(item, bytes):
        raise CodecError("not bytes")
    return item


def _range(first: int, last: int) -> tuple[int, int]:
    if type(first) is not int or type(last) is not int or not 0 <= first <= last < BUCKETS:
        raise CodecError("no range of buckets")
    return first, last


def _address(value: Value) -> Address:
    try:
        return Address(*fields.read_address(value))
    except AdvertError as error:
        raise CodecError("no address") from error


# --- casts ---


def pack_cast(cast: Cast) -> bytes:
    """The bytes of a cast."""
    match cast:
        case Reached(nonce):
            return codec.pack([17, nonce])
        case Ring(nonce, public, address):
            return codec.pack([18, nonce, public, fields.pack_address(*address)])


def read_cast(body: bytes) -> Cast | None:
    """The cast in `body`; None if it is of another kind."""
    match codec.unpack(body, MAX_BODY):
        case (17, bytes(nonce)):
            return Reached(_sized(nonce, NONCE_SIZE))
        case (18, bytes(nonce), bytes(public), address):
            nonce, public = _sized(nonce, NONCE_SIZE), _sized(public, PUBLIC_SIZE)
            return Ring(nonce, public, _address(address))
        case (int(kind), *_) if kind not in (17, 18):
            return None
        case _:
            raise CodecError("not a cast")


# --- answers ---


def pack_refusal(code: Refusal) -> bytes:
    """The answer to a call that is not done."""
    return codec.pack([_REFUSED, int(code)])


def pack_done() -> bytes:
    """The answer to a call that is done and brings nothing."""
    return codec.pack([_DONE])


def pack_rooted(answer: Rooted) -> bytes:
    """The answer to `Root`."""
    return codec.pack([_DONE, *answer])


def pack_buckets(hashes: bytes) -> bytes:
    """The answer to `Buckets`."""
    return codec.pack([_DONE, hashes])


def pack_item(item: Item) -> bytes:
    """25 bytes of a list."""
    return item.entry + bytes([item.days])


def pack_list(buckets: Sequence[bytes]) -> bytes:
    """The answer to `List`, each bucket being items one after another."""
    return codec.pack([_DONE, buckets])


def pack_adverts(adverts: Sequence[bytes]) -> bytes:
    """The answer to `Get`."""
    return codec.pack([_DONE, adverts])


def pack_pulled(answer: Pulled) -> bytes:
    """The answer to `Pull`."""
    return codec.pack([_DONE, *answer])


def pack_pulses(pulses: bytes) -> bytes:
    """The answer to `Pulses`."""
    return codec.pack([_DONE, pulses])


def pack_seen(address: Address) -> bytes:
    """The answer to `Whoami`."""
    return codec.pack([_DONE, fields.pack_address(*address)])


def read_done(body: bytes) -> None:
    """Nothing, if it was done."""
    match _done(body, MAX_SHORT):
        case ():
            return
        case _:
            raise CodecError("not an answer")


def read_rooted(body: bytes) -> Rooted:
    """The answer to `Root`."""
    match _done(body, MAX_SHORT):
        case (int(count), bytes(root), int(live)) if len(root) == ROOT_SIZE:
            return Rooted(_count(count), root, _count(live))
        case _:
            raise CodecError("not a root")


def read_buckets(body: bytes) -> bytes:
    """The answer to `Buckets`."""
    match _done(body, MAX_SHORT):
        case (bytes(hashes),) if len(hashes) == BUCKETS * HASH_SIZE:
            return hashes
        case _:
            raise CodecError("not the buckets")


def read_list(body: bytes, asked: bytes) -> Sequence[Sequence[Item]]:
    """The answer to `List`: the items of each bucket asked for, no more than may be listed."""
    match _done(body, MAX_LIST):
        case (tuple(buckets),) if len(buckets) == len(asked):
            return [_items(_binary(bucket)) for bucket in buckets]
        case _:
            raise CodecError("not the buckets asked for")


def read_adverts(body: bytes) -> Sequence[bytes]:
    """The answer to `Get`."""
    match _done(body, MAX_GOT):
        case (tuple(adverts),) if len(adverts) <= MAX_GET:
            return [_binary(item) for item in adverts]
        case _:
            raise CodecError("not adverts")


def read_pulled(body: bytes, call: Pull) -> Pulled:
    """The answer to `Pull`, which comes nearer to its end each time."""
    match _done(body, MAX_PULLED):
        case (int(following), tuple(adverts)) if call.first < _count(following) <= call.last + 1:
            return Pulled(following, [_binary(item) for item in adverts])
        case _:
            raise CodecError("not a range of adverts")


def read_pulses(body: bytes) -> bytes:
    """The answer to `Pulses`, unread but for its length."""
    match _done(body, MAX_PULSES):
        case (bytes(pulses),) if len(pulses) % PULSE_SIZE == 0:
            return pulses
        case _:
            raise CodecError("not pulses")


def read_seen(body: bytes) -> Address:
    """The answer to `Whoami`."""
    match _done(body, MAX_SHORT):
        case (address,):
            return _address(address)
        case _:
            raise CodecError("not an address")


_DONE, _REFUSED = 0, 1


def _done(body: bytes, limit: int) -> Sequence[Value]:
    match codec.unpack(body, limit):
        case (bool(), *_):
            raise CodecError("not an answer")
        case (int(done), *rest) if done == _DONE:
            return tuple(rest)
        case (int(refused), int(code)) if refused == _REFUSED:
            raise Rejected(code)
        case _:
            raise CodecError("not an answer")


def _count(number: int) -> int:
    if type(number) is not int or not 0 <= number <= defaults.MAX_ADVERTS:
        raise CodecError("no number of nodes")
    return number


def _items(bucket: bytes) -> Sequence[Item]:
    if len(bucket) % ITEM_SIZE:
        raise CodecError("not whole items")
    return [_item(bucket[begin : begin + ITEM_SIZE]) for begin in range(0, len(bucket), ITEM_SIZE)]


def _item(item: bytes) -> Item:
    if item[ENTRY_SIZE] > DAYS:
        raise CodecError("more days than a week has")
    return Item(item[:ENTRY_SIZE], item[ENTRY_SIZE])
