"""A circuit as each of its two ends keeps it.

The asker knows the whole path; the endpoint knows the link that the circuit came by, by number, and
nothing else of where it comes from.
"""

from typing import TypeAlias, final

from p2p import defaults
from p2p.errors import OnionError
from p2p.identity import AdnlId
from p2p.onion.cell import Cell, Hop, Layers
from p2p.onion.handshake import ClientHandshake
from p2p.onion.handshake import Ended as EndCreate
from p2p.onion.link import Port
from p2p.onion.shaping import AskerShape, EndShape
from p2p.onion.streams import Streams


@final
class ClientCircuit:
    """A circuit this node asked for: building until it has layers."""

    __slots__ = (
        "create",
        "guard",
        "half",
        "handshake",
        "layers",
        "left",
        "port",
        "shape",
        "streams",
        "used",
    )

    def __init__(
        self, guard: AdnlId, handshake: ClientHandshake, create: bytes, *, rate: int
    ) -> None:
        self.guard = guard
        self.handshake: ClientHandshake | None = handshake
        self.create = create
        self.port: Port | None = None
        self.half: bytes | None = None
        """The first frame of the CREATED."""
        self.layers: Layers | None = None
        self.streams = Streams(asker=True, most=1 if rate else defaults.STREAMS)
        self.shape = AskerShape(rate, self.streams) if rate else None
        self.used = 0.0
        """When a cell last came or went."""
        self.left = False
        """The caller wants to hear no more; only the shape goes on."""

    @property
    def is_open(self) -> bool:
        """Whether cells may be sent."""
        return self.layers is not None

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

    __slots__ = ("create", "hop", "port", "shape", "streams", "used")

    def __init__(self, port: Port, create: EndCreate) -> None:
        self.port = port
        self.create: EndCreate | None = create
        """The CREATE, until it is answered."""
        self.hop: Hop | None = None
        self.streams = Streams(asker=False)
        self.shape: EndShape | None = None
        self.used = 0.0
        """When a cell last came or went."""

    @property
    def is_open(self) -> bool:
        """Whether cells may be sent."""
        return self.hop is not None

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
