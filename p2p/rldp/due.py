"""What the timers of a `RldpCore` are set for."""

from enum import IntEnum, auto
from typing import NamedTuple

from p2p.identity import AdnlId
from p2p.rldp.transfer import TransferId

NOBODY = AdnlId(b"")


class Due(IntEnum):
    """See the core for what is done then. Integers, as their hash is taken for each symbol."""

    SEND = auto()
    """Symbols may leave for a peer again."""
    PROBE = auto()
    """No confirm has come for a part for long."""
    OUTGOING = auto()
    """A transfer of ours has not been completed in time."""
    CONFIRM = auto()
    """A part's symbols are to be confirmed."""
    INCOMING = auto()
    """A transfer has not come in in time."""
    QUERY = auto()
    """A query of ours has not been answered in time."""
    ANSWER = auto()
    """A query of a peer's has not been answered in time."""


class Key(NamedTuple):
    """Which of them, for whom, and of what."""

    due: Due
    peer: AdnlId
    transfer: TransferId = TransferId(b"")
    number: int = 0
    """a part, or a query"""
