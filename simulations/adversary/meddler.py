"""A relay whose cells do not leave as its core made them: changed, repeated, held or dropped.

The core itself is the real one and knows nothing of it. What a meddler does is found out by the
next honest hop, since every hop checks every cell: there the circuit ends.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias, final

from p2p.core import Core, Event, Send, Source
from p2p.entropy import Entropy
from p2p.onion.cell import FRAME_HEADER, FRAME_SIZE, Command, Frame
from p2p.wire import Kind, Message, pack, unpack

Twist: TypeAlias = Callable[[bytes], Sequence[bytes]]
"""What leaves in the place of one frame."""


def tag(entropy: Entropy) -> Twist:
    """One bit of a cell's body is another, so that whoever meets it again would know it."""

    def twist(frame: bytes) -> Sequence[bytes]:
        size = len(Frame.unpack(frame).body)
        place = FRAME_HEADER + entropy.below(size)
        changed = bytearray(frame)
        changed[place] ^= 1 << entropy.below(8)
        return [bytes(changed)]

    return twist


def replay(frame: bytes) -> Sequence[bytes]:
    """A cell goes out twice, so that whoever watches elsewhere sees one more come out."""
    return [frame, frame]


def drop(frame: bytes) -> Sequence[bytes]:
    """A cell does not leave; what comes behind it is out of turn."""
    return []


class Plotting(Protocol):
    """What becomes of the frames of a node in an attacker's hands."""

    def apply(self, frame: bytes) -> Sequence[bytes]:
        """What leaves in the place of a frame."""


@final
class Plot:
    """Which cell of all that meddlers send is twisted, and how; one at a time."""

    def __init__(self) -> None:
        self._twist: Twist | None = None
        self._after = 0
        self.done = 0
        """cells that were twisted"""

    def arm(self, twist: Twist, *, after: int = 0) -> None:
        """Let so many cells pass, and twist the next."""
        self._twist, self._after = twist, after

    def apply(self, frame: bytes) -> Sequence[bytes]:
        """What leaves in the place of a frame; only cells are meddled with."""
        if self._twist is None or frame[4] != Command.CELL:
            return [frame]
        if self._after:
            self._after -= 1
            return [frame]
        twist, self._twist = self._twist, None
        self.done += 1
        return twist(frame)


@final
class Meddler:
    """A core in the hands of an attacker. Its commands are the core's."""

    def __init__(self, core: Core, plot: Plotting) -> None:
        self._core = core
        self._plot = plot

    def receive(self, now: float, source: Source, datagram: bytes) -> None:
        """See `Core`."""
        self._core.receive(now, source, datagram)

    def handle_timer(self, now: float) -> None:
        """See `Core`."""
        self._core.handle_timer(now)

    def next_deadline(self) -> float | None:
        """See `Core`."""
        return self._core.next_deadline()

    def drain(self) -> tuple[list[Send], list[Event]]:
        """What the core says, its cells twisted as the plot has it."""
        sends, events = self._core.drain()
        return [twisted for send in sends for twisted in self._twisted(send)], events

    def sizes(self) -> dict[str, int]:
        """See `Core`."""
        return self._core.sizes()

    def __getattr__(self, name: str) -> object:
        return getattr(self._core, name)

    def _twisted(self, send: Send) -> Sequence[Send]:
        if send.data[:1] != _ONION:
            return [send]
        message = unpack(send.data)
        frames = [
            leaving
            for start in range(0, len(message.payload), FRAME_SIZE)
            for leaving in self._plot.apply(message.payload[start : start + FRAME_SIZE])
        ]
        if not frames:
            return []
        data = pack(Message(message.kind, message.number, b"".join(frames)))
        return [Send(send.to, data)]


_ONION: Final = bytes([Kind.ONION])
