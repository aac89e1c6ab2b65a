"""A node's face that says other things on circuits than the core behind it: what liars speak by.

The core is the real one and believes that it has said what it wanted. A `Twist` is shown each whole
message on its way out, and says what leaves in its place.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, final

from inference import protocol
from inference.protocol import PLAIN
from p2p import codec
from p2p.onion.cell import CircuitId
from p2p.onion.events import Incoming
from simulations.faces import Face

Twist: TypeAlias = Callable[[CircuitId, bytes], Sequence[bytes]]
"""What leaves in the place of one message of a circuit."""

Offering: TypeAlias = Callable[[bytes, bytes], bytes]
"""What a worker offers for a want, in the place of the offer that its core has signed."""


def as_it_is(want: bytes, offer: bytes) -> bytes:
    """An honest offer."""
    return offer


@final
class Mouth:
    """See the module: all else is the face's own."""

    def __init__(self, face: Face, twist: Twist, offering: Offering = as_it_is) -> None:
        self._face: Final = face
        self._twist = twist
        self._offering = offering
        self._unframers: dict[CircuitId, codec.Unframer] = {}

    def send(self, circuit: CircuitId, stream: int, data: bytes) -> None:
        """As `Face.send`."""
        unframer = self._unframers.setdefault(circuit, codec.Unframer(protocol.MAX_UPLOAD))
        unframer.feed(data)
        for message in unframer:
            for leaving in self._twist(circuit, message):
                self._face.send(circuit, stream, codec.frame(leaving))

    def accept(
        self, incoming: Incoming, offer: bytes, *, rate: int = 0, resumable: bool = False
    ) -> None:
        """As `Face.accept`."""
        want = incoming.request.removeprefix(PLAIN)
        signed = self._offering(want, offer.removeprefix(PLAIN))
        self._face.accept(incoming, PLAIN + signed, rate=rate, resumable=resumable)

    def close(self, circuit: CircuitId) -> None:
        """As `Face.close`."""
        self._unframers.pop(circuit, None)
        self._face.close(circuit)

    def __getattr__(self, name: str) -> object:
        return getattr(self._face, name)
