"""A circuit as each of its two ends keeps it.

The asker knows the whole path; the endpoint knows the link that the circuit came by, by number, and
nothing else of where it comes from.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias, final

from p2p import defaults
from p2p.errors import OnionError
from p2p.identity import AdnlId
from p2p.onion.cell import Cell, Hop, Layers
from p2p.onion.handshake import Accepted, Answered, ClientHandshake, Target
from p2p.onion.handshake import Ended as EndCreate
from p2p.onion.link import Port
from p2p.onion.resuming import Claim
from p2p.onion.shaping import AskerShape, EndShape
from p2p.onion.streams import Streams


class Secrets(NamedTuple):
    """What only the two ends of a circuit know, for it to be gone on with."""

    session: bytes
    key: bytes


@final
class ClientCircuit:
    """A circuit this node asked for: building until it has layers."""

    __slots__ = (
        "asked",
        "broken",
        "create",
        "half",
        "handshake",
        "layers",
        "left",
        "looks",
        "path",
        "port",
        "puzzles",
        "request",
        "secrets",
        "shape",
        "streams",
        "used",
    )

    def __init__(
        self,
        now: float,
        path: Sequence[Target],
        request: bytes,
        *,
        rate: int,
        resumable: bool,
    ) -> None:
        self.asked = now
        """When it was asked for."""
        self.path = tuple(path)
        """The relays, then the endpoint."""
        self.request = request
        self.puzzles: dict[int, int] = {}
        """Zero bits that hops of this path want, by their places."""
        self.handshake: ClientHandshake | None = None
        self.create = b""
        self.port: Port | None = None
        self.half: bytes | None = None
        """The first frame of the CREATED."""
        self.layers: Layers | None = None
        self.streams = Streams(asker=True, most=1 if rate else defaults.STREAMS, keep=resumable)
        self.shape = AskerShape(rate, self.streams) if rate else None
        self.used = 0.0
        """When a cell last came or went."""
        self.looks = 0
        """in a row at which nothing had come that is owed"""
        self.left = False
        """The caller wants to hear no more; only the shape goes on."""
        self.secrets: Secrets | None = None
        """Of the newest circuit that it stood over."""
        self.broken = False
        """It stood, and does not: it may be gone on with."""

    @property
    def is_open(self) -> bool:
        """Whether cells may be sent."""
        return self.layers is not None

    @property
    def guard(self) -> AdnlId:
        """The first hop."""
        return self.path[0].id

    def reroute(self, path: Sequence[Target]) -> None:
        """Go on over another path."""
        self.path, self.puzzles = tuple(path), {}

    def write(self, issued: int, handshake: ClientHandshake, nonces: Sequence[int] = ()) -> None:
        """Make the CREATE of a handshake. Raises `OnionError`."""
        request = self.request
        if self.secrets is not None:
            received, _ = self.streams.heard
            claim = Claim.make(*self.secrets, handshake.ephemerals[-1], received)
            request = claim.pack()
        self.create = handshake.create(issued, request, nonces)
        self.handshake = handshake

    def opened(self, now: float, answer: Accepted) -> None:
        """The path stands."""
        self.handshake = self.half = None
        self.request = b""
        self.layers = answer.layers
        self.secrets = Secrets(answer.session, answer.resume)
        self.used = now
        self.looks, self.broken = 0, False

    def cease(self) -> None:
        """The path is gone, or came to nothing."""
        self.handshake = self.half = self.layers = self.port = None
        self.create = b""

    def seal(self, cell: Cell) -> bytes:
        """The body of a frame to the guard."""
        assert self.layers is not None, "only an open circuit sends"
        return self.layers.seal(cell.pack(self.layers.hops))

    def open(self, body: bytes) -> bytes:
        """The endpoint's text. Raises `OnionError`."""
        if self.layers is None:
            raise OnionError("a cell before the circuit is open")
        return self.layers.open(body)


@final
class EndCircuit:
    """A circuit that ends here: asked for until it has a hop's keys."""

    __slots__ = ("broken", "create", "hop", "port", "secrets", "shape", "streams", "used")

    def __init__(self, port: Port, create: EndCreate) -> None:
        self.port: Port | None = port
        self.create: EndCreate | None = create
        """The CREATE, until it is answered."""
        self.hop: Hop | None = None
        self.streams = Streams(asker=False)
        self.shape: EndShape | None = None
        self.used = 0.0
        """When a cell last came or went."""
        self.secrets: Secrets | None = None
        """Of the newest circuit that it stood over, if it may be gone on with."""
        self.broken = False
        """It stood, and does not: it may be gone on with."""

    @property
    def is_open(self) -> bool:
        """Whether cells may be sent."""
        return self.hop is not None

    def keep(self) -> None:
        """Keep what is said, for the asker to come by another way if this one ends."""
        self.streams = Streams(asker=False, keep=True)

    def opened(self, port: Port, answered: Answered) -> None:
        """It stands over this link."""
        self.port, self.hop, self.create = port, answered.hop, None
        self.secrets = Secrets(answered.session, answered.resume)
        self.broken = False

    def cease(self) -> None:
        """What it stood over is gone."""
        self.port = self.hop = None

    def shaped(self, rate: int) -> None:
        """Answer at so many cells a second."""
        self.shape = EndShape(rate, self.streams)

    def seal(self, cell: Cell) -> bytes:
        """The body of a frame to the last relay."""
        assert self.hop is not None, "only an open circuit sends"
        return self.hop.backward(cell.pack(self.hop.depth))

    def open(self, body: bytes) -> bytes:
        """The asker's text. Raises `OnionError`."""
        if self.hop is None:
            raise OnionError("a cell before the circuit is open")
        return self.hop.forward(body)


Circuit: TypeAlias = ClientCircuit | EndCircuit
