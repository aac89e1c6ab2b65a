"""The circuits of one node in all its roles: asker, relay and endpoint.

`OnionCore` follows `p2p/core.py`. A `Source` is a link; what it receives and sends on one is whole
frames of 1200 bytes, at most 54 at a time. `Dial` and `CloseLink` are events, answered by the
commands `link_up`, `dial_failed` and `link_down`. Links between two calls of `drain` are written to
once, so that frames share writes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import final

from p2p.core import Event, Send, Source
from p2p.entropy import Entropy
from p2p.identity import AdnlId, Identity
from p2p.onion.cell import CircuitId as CircuitId
from p2p.onion.handshake import Target
from p2p.onion.noise import Kem, MlKem768
from p2p.onion.path import DirectoryView

TIMED_OUT = 256
"""`Failed.status`: nobody answered within 10 s."""

GUARD_UNREACHABLE = 257
"""`Failed.status`: no link to the first hop could be had, or it was lost."""

DESTROYED = 258
"""`Failed.status`: the first hop ended the circuit without a word."""

BAD_REPLY = 259
"""`Failed.status`: the reply opened at no hop, or broke a rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnionConfig:
    """What a node does with circuits."""

    network: int
    """Network number of adverts; both ends of a link must agree."""
    relay: bool = False
    endpoint: bool = False
    allow_direct: bool = False
    """An endpoint takes circuits from anyone, not only from listed relays."""
    dev: bool = False
    shaping: int = 0
    """Level; 0 is the only one so far."""
    kem: Kem = field(default_factory=MlKem768)
    """Simulations put a seeded stand-in here."""
    tap: Callable[[str, bytes], None] | None = None
    """Shown every plaintext this node opens: "create-info", "create-request", "cell", "offer"."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The endpoint accepted; `session` is known to it and the asker alone."""

    circuit: CircuitId
    offer: bytes
    session: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """The circuit never opened.

    `hop` is the index in the path of who answered, None if `status` is one of this module (>= 256).
    `reason` is the endpoint's, for `Status.REFUSED`.
    """

    circuit: CircuitId
    hop: int | None
    status: int
    reason: bytes = b""


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of a stream, in order."""

    circuit: CircuitId
    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """The peer's last data of the stream has been given out.

    At an endpoint more `Data` may follow, as the asker pays while it reads the answer.
    """

    circuit: CircuitId
    stream: int


@dataclass(frozen=True, slots=True)
class Reset:
    """The peer gave the stream up."""

    circuit: CircuitId
    stream: int
    code: int


@dataclass(frozen=True, slots=True)
class Lost:
    """An open circuit, or one not answered yet, is gone. Not said of those closed by `close`.

    `hop` is the index in the path of the relay that said so, `code` what it said (`FailCode`);
    None and 0 if unknown.
    """

    circuit: CircuitId
    hop: int | None
    code: int = 0


@dataclass(frozen=True, slots=True)
class Incoming:
    """Someone asks this endpoint: answer with `accept` or `refuse` within 6 s."""

    circuit: CircuitId
    request: bytes
    session: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """The endpoint answered `ping`."""

    circuit: CircuitId


@dataclass(frozen=True, slots=True)
class Dial:
    """A link to this node is wanted; `link_up` or `dial_failed` answers."""

    peer: AdnlId


@dataclass(frozen=True, slots=True)
class CloseLink:
    """The link is of no more use, or its peer broke a rule; `link_down` answers."""

    link: Source


@dataclass(frozen=True, slots=True)
class Misbehaved:
    """The peer of a link broke a rule; counted, and nothing else need be done."""

    source: Source
    reason: str


@final
class OnionKeys:
    """The onion keys of a node: one X25519 key per UTC day, accepted until the end of the next.

    `loaded` are private keys by day from before a restart: CREATEs under one of them meet a quiet
    time, in which replays could not be told. Keys drawn by this process need none.
    """

    def __init__(self, entropy: Entropy, loaded: dict[int, bytes] | None = None) -> None:
        raise NotImplementedError

    def public(self, day: int) -> bytes:
        """The key of `day`, drawn if it is the first time; for the node's advert."""
        raise NotImplementedError


@final
class OnionCore:
    """See the module. Commands on a circuit that is gone do nothing: its end may be on the way."""

    def __init__(
        self,
        identity: Identity,
        keys: OnionKeys,
        view: DirectoryView,
        entropy: Entropy,
        config: OnionConfig,
    ) -> None:
        raise NotImplementedError

    # --- links ---

    def link_up(self, now: float, link: Source, peer: AdnlId, *, dialled: bool) -> None:
        """A link is there; `dialled` if this node asked for it."""
        raise NotImplementedError

    def link_down(self, now: float, link: Source) -> None:
        """A link is gone, and with it all its circuits."""
        raise NotImplementedError

    def dial_failed(self, now: float, peer: AdnlId) -> None:
        """What `Dial` asked for cannot be had."""
        raise NotImplementedError

    # --- circuits ---

    def open(self, now: float, path: Sequence[Target], request: bytes) -> CircuitId:
        """Ask the last of 1-4 `path` through the others; ends in `Opened` or `Failed` in 10 s.

        Raises `NoCapacity` if this node has too many circuits.
        """
        raise NotImplementedError

    def accept(self, now: float, circuit: CircuitId, offer: bytes) -> None:
        """Answer an `Incoming` with yes; `offer` <= 960 bytes."""
        raise NotImplementedError

    def refuse(self, now: float, circuit: CircuitId, reason: bytes) -> None:
        """Answer an `Incoming` with no; `reason` <= 960 bytes."""
        raise NotImplementedError

    def send(self, now: float, circuit: CircuitId, stream: int, data: bytes) -> None:
        """Queue bytes of a stream. Raises `NoCapacity` beyond `writable`."""
        raise NotImplementedError

    def writable(self, circuit: CircuitId) -> int:
        """Bytes that `send` would take now; 0 if the circuit is gone."""
        raise NotImplementedError

    def end(self, now: float, circuit: CircuitId, stream: int) -> None:
        """Nothing follows; the asker may still `send` until the answer has ended."""
        raise NotImplementedError

    def reset(self, now: float, circuit: CircuitId, stream: int, code: int) -> None:
        """Give a stream up, both ways; what is queued of it is dropped."""
        raise NotImplementedError

    def ping(self, now: float, circuit: CircuitId) -> None:
        """Ask the endpoint for a sign of life: `Pong`."""
        raise NotImplementedError

    def close(self, now: float, circuit: CircuitId) -> None:
        """End a circuit at once; no event follows."""
        raise NotImplementedError

    # --- the core's contract ---

    def receive(self, now: float, source: Source, datagram: bytes) -> None:
        """Take whole frames from a link."""
        raise NotImplementedError

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        raise NotImplementedError

    def next_deadline(self) -> float | None:
        """When something is due."""
        raise NotImplementedError

    def drain(self) -> tuple[list[Send], list[Event]]:
        """Writes, `Send.to` a link; and events."""
        raise NotImplementedError

    def sizes(self) -> dict[str, int]:
        """The length of every table and queue."""
        raise NotImplementedError
