"""What one node of a demonstration could not help seeing, searched for what it must not know.

Every message that reaches or leaves a node inside its links' encryption, and every plaintext its
onion layers open or seal, is kept in memory. Afterwards the demonstration names the markers (an
id, an address, the prompt, the answer) and the recorder says which of them are in there. It
belongs to `tussah demo` and tests alone: a node that people run records nothing.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Final, final

from p2p import codec, wire
from p2p.errors import CodecError
from p2p.identity import AdnlId, short_id
from p2p.onion import cell
from p2p.wire import Endpoint, Kind, Link
from scripts.networks import format_endpoint

MAX_BYTES: Final = 128 * 1024 * 1024
"""bytes kept: a demonstration's few answers need a hundredth; beyond it nothing is measured."""

WINDOW: Final = 12
"""bytes of a text that must stand in one piece for it to count as seen."""

CIRCUIT_COMMANDS: Final = range(2, 7)
"""commands of onion frames that belong to a circuit: CREATE .. DESTROY."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Who a node is to its neighbours."""

    public: bytes
    addresses: tuple[str, ...]
    """Its own end of each TCP connection and of UDP, as the other end sees it."""

    def to_json(self) -> Mapping[str, object]:
        """As it travels to the demonstration."""
        return {"public": self.public.hex(), "addresses": list(self.addresses)}

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> "About":
        """What `to_json` made."""
        addresses = document["addresses"]
        assert isinstance(addresses, list)
        public = bytes.fromhex(str(document["public"]))
        return cls(public=public, addresses=tuple(map(str, addresses)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Markers:
    """What to search for: facts of the one request that was watched."""

    client_public: bytes
    client_addresses: tuple[str, ...]
    worker_public: bytes
    prompt: str
    answer: str
    payer: tuple[bytes, ...] = ()
    """Accounts on the chain that are the asker's: its wallet, its lane to the mint."""

    def to_json(self) -> Mapping[str, object]:
        """As it travels to a recorder in another process."""
        binary = {
            "client_public": self.client_public.hex(),
            "worker_public": self.worker_public.hex(),
            "payer": [account.hex() for account in self.payer],
        }
        return asdict(self) | binary

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> "Markers":
        """What `to_json` made."""
        addresses, payer = document["client_addresses"], document["payer"]
        assert isinstance(addresses, list)
        assert isinstance(payer, list)
        return cls(
            payer=tuple(bytes.fromhex(str(account)) for account in payer),
            client_public=bytes.fromhex(str(document["client_public"])),
            client_addresses=tuple(map(str, addresses)),
            worker_public=bytes.fromhex(str(document["worker_public"])),
            prompt=str(document["prompt"]),
            answer=str(document["answer"]),
        )

    def names_asker(self, text: bytes) -> bool:
        """Whether a text holds the asker's id, key or address, or a piece of what was said."""
        return (
            _has_id(text, self.client_public)
            or _has_account(text, self.payer)
            or any(address.encode() in text for address in self.client_addresses)
            or _has_text(text, self.prompt)
            or _has_text(text, self.answer)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Saw:
    """Which facts of the request one node held."""

    client_address: bool
    client_id: bool
    worker_id: bool
    prompt: bool
    answer: bool
    payer: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a recorder answers."""

    saw: Saw
    clear_on_links: bool
    """The prompt or the answer stood in a message of a link."""
    neighbours: tuple[AdnlId, ...]
    """Nodes with which frames of circuits were exchanged, in the order they were met."""
    frames: int
    odd_frames: int
    bytes: int
    complete: bool
    """Nothing was left out for want of room."""

    def to_json(self) -> Mapping[str, object]:
        """As it travels back to the demonstration."""
        return asdict(self) | {"neighbours": [neighbour.hex() for neighbour in self.neighbours]}

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> "Seen":
        """What `to_json` made."""
        saw, neighbours = document["saw"], document["neighbours"]
        assert isinstance(saw, Mapping)
        assert isinstance(neighbours, list)
        return cls(
            saw=Saw(**saw),
            clear_on_links=bool(document["clear_on_links"]),
            neighbours=tuple(AdnlId(bytes.fromhex(str(neighbour))) for neighbour in neighbours),
            frames=int(str(document["frames"])),
            odd_frames=int(str(document["odd_frames"])),
            bytes=int(str(document["bytes"])),
            complete=bool(document["complete"]),
        )


@final
class Recorder:
    """The taps of one node, and the search in what they took."""

    def __init__(self) -> None:
        self._links: list[bytes] = []
        self._opened: list[bytes] = []
        self._streams: dict[tuple[str, int], bytearray] = {}
        self._neighbours: dict[AdnlId, None] = {}
        self._own: dict[str, None] = {}
        self._addresses: dict[str, None] = {}
        self._frames = self._odd_frames = self._bytes = 0
        self._complete = True

    def about(self, public: bytes) -> About:
        """Who this node is to its neighbours."""
        return About(public=public, addresses=tuple(self._own))

    def meet(self, link: Link, ours: Endpoint, theirs: Endpoint) -> None:
        """Take the two ends of the connection under a link."""
        self._own[format_endpoint(ours)] = None
        self._addresses[format_endpoint(theirs)] = None

    def meet_udp(self, peer: AdnlId, ours: Endpoint, theirs: Endpoint) -> None:
        """Take the two ends between which datagrams go."""
        self._own[format_endpoint(ours)] = None
        self._addresses[format_endpoint(theirs)] = None

    def datagram(self, peer: AdnlId, sent: bool, payload: bytes) -> None:
        """Take one payload of UDP, as it stood inside ADNL's encryption."""
        self._keep(self._links, payload)

    def message(self, link: Link, sent: bool, data: bytes) -> None:
        """Take one message of a link, as it stood inside the link's encryption."""
        self._keep(self._links, data)
        try:
            message = wire.unpack(data)
        except CodecError:
            # The stack has its own way with it; here it counts if frames of another size are why.
            self._odd_frames += data[:1] == bytes([Kind.ONION])
            return
        if message.kind == Kind.ONION:
            self._count(link.peer, message.payload)

    def plaintext(self, what: str, data: bytes) -> None:
        """Take one plaintext of an onion layer: what this node opened, or is about to seal."""
        if self._keep(self._opened, data) and what in STREAMS:
            head = cell.Cell.unpack(data)
            self._streams.setdefault((what, head.stream), bytearray()).extend(head.data)

    def seen(self, markers: Markers, own: AdnlId) -> Seen:
        """Which markers are in what this node held; `own` is its id, which it knows of course."""
        links, opened = b"\0".join(self._links), b"\0".join([*self._opened, *self._messages()])
        client, worker = short_id(markers.client_public), short_id(markers.worker_public)
        texts = [markers.prompt, markers.answer]
        saw = Saw(
            client_address=any(
                address in known
                for address in markers.client_addresses
                for known in (self._addresses, self._own if own == client else {})
            ),
            client_id=client in (own, *self._neighbours)
            or _has_id(links + opened, markers.client_public),
            # Everybody's directory lists every worker: what counts is meeting one on a circuit.
            worker_id=worker in (own, *self._neighbours) or _has_id(opened, markers.worker_public),
            prompt=_has_text(links + opened, markers.prompt),
            answer=_has_text(links + opened, markers.answer),
            payer=_has_account(links + opened, markers.payer),
        )
        return Seen(
            saw=saw,
            clear_on_links=any(_has_text(links, text) for text in texts),
            neighbours=tuple(self._neighbours),
            frames=self._frames,
            odd_frames=self._odd_frames,
            bytes=self._bytes,
            complete=self._complete,
        )

    def _count(self, peer: AdnlId, frames: bytes) -> None:
        self._frames += len(frames) // wire.FRAME
        if any(frames[at + 4] in CIRCUIT_COMMANDS for at in range(0, len(frames), wire.FRAME)):
            self._neighbours[peer] = None

    def _keep(self, where: list[bytes], data: bytes) -> bool:
        self._bytes += len(data)
        if self._bytes > MAX_BYTES:
            self._complete = False
            return False
        where.append(data)
        return True

    def _messages(self) -> Iterator[bytes]:
        """The texts inside the messages of each stream, joined: an answer comes in many pieces."""
        for stream in self._streams.values():
            columns: dict[int, bytearray] = {}
            for column, text in _texts(bytes(stream)):
                columns.setdefault(column, bytearray()).extend(text)
            yield from map(bytes, columns.values())


STREAMS: Final = ("opened", "sealed")
"""Plaintexts that begin with the header of a stream."""


def _has_id(held: bytes, public: bytes) -> bool:
    node = short_id(public)
    return any(form in held for key in (node, public) for form in (key, key.hex().encode()))


def _has_account(held: bytes, accounts: Iterable[bytes]) -> bool:
    return any(form in held for one in accounts for form in (one, one.hex().encode()))


def _has_text(held: bytes, text: str) -> bool:
    """Whether any `WINDOW` bytes of the text stand in `held`, plain or as JSON escapes them."""
    forms = (text.encode(), json.dumps(text)[1:-1].encode())
    return any(window in held for form in forms for window in _windows(form))


def _windows(form: bytes) -> Iterator[bytes]:
    if not form:
        return
    if len(form) < WINDOW:
        # So few bytes stand in noise by chance: the quotes of JSON make them enough.
        yield form if len(form) > WINDOW // 2 else b'"' + form + b'"'
        return
    for at in range(0, len(form) - WINDOW + 1, WINDOW):
        yield form[at : at + WINDOW]


def _texts(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Every string inside the messages of a stream, in order, with its place in the message."""
    unframer = codec.Unframer(len(stream))
    unframer.feed(stream)
    try:
        for message in unframer:
            fields = codec.unpack(message, len(message))
            parts = fields if isinstance(fields, tuple) else (fields,)  # a mint's are maps
            yield from ((at, text) for at, field in enumerate(parts) for text in _flat(field))
    except CodecError:
        return


def _flat(value: codec.Value) -> Iterator[bytes]:
    match value:
        case bytes():
            yield value
        case str():
            yield value.encode()
        case Mapping():
            for item in value.values():
                yield from _flat(item)
        case list() | tuple():
            for item in value:
                yield from _flat(item)
        case _:
            return
