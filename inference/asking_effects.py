"""What the asker's core wants done; answered by commands with the number of the try."""

from dataclasses import dataclass
from typing import TypeAlias

from ledger.payment import Payment, PayTerms
from p2p.identity import AdnlId


@dataclass(frozen=True, slots=True)
class Open:
    """Open a circuit: `opening`, then `opened`, `failed` or `unopened` answer."""

    attempt: int
    worker: AdnlId
    request: bytes
    suspects: tuple[AdnlId, ...]
    """Relays to avoid if there are others."""
    rate: int
    """cells/s of a shaped circuit, as the request names it; 0: not shaped"""


@dataclass(frozen=True, slots=True)
class Resume:
    """Replace a circuit that broke: `resuming`, then `resumed` or `unresumed` answer."""

    attempt: int
    worker: AdnlId
    suspects: tuple[AdnlId, ...]
    """Relays to avoid if there are others."""


@dataclass(frozen=True, slots=True)
class Reserve:
    """Set coins aside, durably: `reserved` or `unreserved` answers."""

    attempt: int
    terms: PayTerms


@dataclass(frozen=True, slots=True)
class Upload:
    """Send this on the request's stream, and END, behind which only ticks come: `uploaded`
    answers."""

    attempt: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Say:
    """Send this on the request's stream, behind the upload and once there is room: `said` answers.

    A later one is sent in the place of one that has not left.
    """

    attempt: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Leave:
    """Close the circuit, if there is one."""

    attempt: int
    whole: bool
    """The answer is there; else the stream is reset before, since the worker is to stop."""


@dataclass(frozen=True, slots=True)
class Release:
    """The spend never left: its coins are free again."""

    payment: Payment


@dataclass(frozen=True, slots=True)
class Collect:
    """A session is over whose spend has left: its change is to be fetched."""

    payment: Payment
    locked: bool
    """The mint's receipt has come."""
    revealed: int
    """Ticks that the worker can have."""
    owed: int
    """Ticks that it may have by its receipt; as many as were revealed if there is none."""


Effect: TypeAlias = Open | Resume | Reserve | Upload | Say | Leave | Release | Collect
