"""What the circuits of a node tell its driver and its callers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from p2p.core import Source
from p2p.identity import AdnlId
from p2p.kept import KeptGuard
from p2p.onion.cell import CircuitId

Tap: TypeAlias = Callable[[str, bytes], None]
"""Shown the plaintexts of this node's layers: what it opens as a relay ("create-info", "cell") and
as an end ("create-request", "offer", "opened"), and what it is about to seal as an end ("sealed").
"""

TIMED_OUT = 256
"""`Failed.status`: nobody answered within 10 s."""

GUARD_UNREACHABLE = 257
"""`Failed.status`: no link to the first hop could be had, or it was lost."""

DESTROYED = 258
"""`Failed.status`: the first hop ended the circuit without a word."""

BAD_REPLY = 259
"""`Failed.status`: the reply opened at no hop, or broke a rule."""


SILENT = 260
"""`Broken.code`: nothing came for seconds in which something had to."""


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
class Broken:
    """As `Lost`, of a circuit whose request can be gone on with: `resume` or `close` within 30 s.

    `code` may be `SILENT`. What is sent meanwhile waits.
    """

    circuit: CircuitId
    hop: int | None
    code: int = 0


@dataclass(frozen=True, slots=True)
class Resumed:
    """The request goes on where it broke off, over another path."""

    circuit: CircuitId


@dataclass(frozen=True, slots=True)
class Unresumed:
    """`resume` came to nothing, and may be tried again; `hop` and `status` as in `Failed`."""

    circuit: CircuitId
    hop: int | None
    status: int


class Puzzle(NamedTuple):
    """What a hop that is hard pressed wants found: `p2p.onion.handshake.solve_puzzle`."""

    hop: AdnlId
    ephemeral: bytes
    bits: int
    """0: nothing"""


@dataclass(frozen=True, slots=True)
class PuzzlesWanted:
    """A circuit goes on being built once these are solved: `solved`. It takes up to a second."""

    circuit: CircuitId
    issued: int
    puzzles: tuple[Puzzle, ...]
    """one for each hop"""


@dataclass(frozen=True, slots=True)
class GuardsChanged:
    """Another relay has become a guard, or one is banned: to be written down before it is used."""

    guards: tuple[KeptGuard, ...]


@dataclass(frozen=True, slots=True)
class NotKept:
    """A relay that was asked to keep our link, since we cannot be dialled, does not."""

    relay: AdnlId


@dataclass(frozen=True, slots=True)
class Incoming:
    """Someone asks this endpoint: answer with `accept` or `refuse` within 6 s."""

    circuit: CircuitId
    request: bytes


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
    """A link is of no more use here; `link_down` answers.

    `reason` is "idle", which a driver that uses the link otherwise may ignore, "dead": nothing that
    is written to it arrives, or "network", "silent", "strikes" or "too many".
    """

    link: Source
    reason: str


@dataclass(frozen=True, slots=True)
class Misbehaved:
    """The peer of a link broke a rule; counted, and nothing else need be done."""

    source: Source
    reason: str
