"""What the worker's core wants done."""

from dataclasses import dataclass
from typing import TypeAlias

from inference.engine import base as engine
from inference.engine.base import Job
from inference.protocol import Abort
from ledger.money import Nano
from p2p.onion.cell import CircuitId

# --- by the node ---


@dataclass(frozen=True, slots=True)
class Accept:
    """Answer an incoming circuit with yes."""

    circuit: CircuitId
    reply: bytes
    rate: int
    """cells/s at which the asker wants its answer; 0: as it is ready"""


@dataclass(frozen=True, slots=True)
class Deny:
    """Answer an incoming circuit with no."""

    circuit: CircuitId
    reply: bytes


@dataclass(frozen=True, slots=True)
class Say:
    """Send on a stream; there is room for it."""

    circuit: CircuitId
    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """Nothing follows on a stream."""

    circuit: CircuitId
    stream: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Reset a stream."""

    circuit: CircuitId
    stream: int
    code: Abort


# --- by the till ---


@dataclass(frozen=True, slots=True)
class Lock:
    """Check a spend and lock it at its mint: `locked` answers."""

    token: int
    spend: bytes
    session: bytes
    tick: Nano


@dataclass(frozen=True, slots=True)
class Keep:
    """Make the newest tick durable."""

    lock_id: bytes
    index: int
    preimage: bytes


@dataclass(frozen=True, slots=True)
class Settle:
    """Have the mint pay so many ticks of those that were kept; nothing follows a final one."""

    lock_id: bytes
    final: bool
    ticks: int


@dataclass(frozen=True, slots=True)
class Bill:
    """Keep the receipt that the asker gets: what was earned is told by it."""

    lock_id: bytes
    receipt: bytes


# --- by the engine ---


@dataclass(frozen=True, slots=True)
class Prepare:
    """Have the engine make tokens of a prompt: `prepared` answers."""

    token: int
    prompt: engine.Prompt


@dataclass(frozen=True, slots=True)
class Generate:
    """Have the engine answer: `generated` tells each of its events. `job.id` is the token."""

    job: Job


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop preparing or generating; no event of it may follow."""

    token: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Pause generating: the asker is slower than the model, or has not paid."""

    token: int


@dataclass(frozen=True, slots=True)
class GoOn:
    """End a `Hold`."""

    token: int


Effect: TypeAlias = (
    Accept
    | Deny
    | Say
    | End
    | GiveUp
    | Lock
    | Keep
    | Settle
    | Bill
    | Prepare
    | Generate
    | Cancel
    | Hold
    | GoOn
)
