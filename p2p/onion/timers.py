"""What of circuits and links falls due."""

from enum import IntEnum
from typing import NamedTuple, TypeAlias

from p2p import timers


class Due(IntEnum):
    """What a timer is for."""

    HELLO = 0
    """A link's first frame from the peer."""
    WRITE = 1
    """A link's bucket lets a write through."""
    PADDING = 2
    """A link has been silent."""
    REST = 3
    """A link has had no circuits."""
    HALF = 4
    """The second frame of a CREATE."""
    LANE = 5
    """What an ended circuit still has queued."""
    GONE = 6
    """The number of an ended circuit."""
    BUILD = 7
    """The rest of the path of a circuit relayed here."""
    LIFE = 8
    """A circuit relayed here, at its longest."""
    OPEN = 9
    """A circuit of ours, until it opens."""
    ANSWER = 10
    """A circuit to us, until it is accepted or refused."""
    IDLE = 11
    """A circuit of ours without cells."""
    AGE = 12
    """A circuit of ours or to us, at its longest."""
    SLOT = 13
    """The next slot of a shaped circuit of ours or to us."""
    PACE = 14
    """A look at the link to the guard, which is to be paced."""
    PACED = 15
    """A pace that was granted, unless it is asked anew."""
    QUIET = 16
    """A look at whether the endpoint of a circuit of ours is still there."""
    BROKEN = 17
    """A circuit that broke in mid-answer, as long as it may be gone on with."""


class Key(NamedTuple):
    """One timer: its purpose, and the link or circuit that it is about."""

    due: Due
    of: int
    circuit: int = 0
    """The circuit's number on the link, where `of` is a link."""


Timers: TypeAlias = timers.Timers[Key]
"""The timers of an onion core."""
