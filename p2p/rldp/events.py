"""What a `RldpCore` gives to its stack, and why it drops what it drops."""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, NewType, TypeAlias

from p2p.errors import RemoteError, Unreachable
from p2p.identity import AdnlId

Ticket = NewType("Ticket", int)
"""A query of ours."""

Token = NewType("Token", int)
"""A query of a peer's."""


class Payload(NamedTuple):
    """To be carried to a peer as an `adnl.message.custom`."""

    peer: AdnlId
    data: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to a query of ours."""

    ticket: Ticket
    data: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """There will be no answer to a query of ours."""

    ticket: Ticket
    error: RemoteError | Unreachable


@dataclass(frozen=True, slots=True)
class Query:
    """A peer asks, and waits for `answer` with the token for a minute at most."""

    peer: AdnlId
    data: bytes
    token: Token
    max_answer: int
    """bytes that the answer may have"""


@dataclass(frozen=True, slots=True)
class Message:
    """A peer tells something."""

    peer: AdnlId
    data: bytes


Output: TypeAlias = Payload | Answered | Failed | Query | Message


class Drop(Enum):
    """Why something from a peer was not looked at, or not believed."""

    UNKNOWN = "no message of RLDP2"
    SYMBOL = "a symbol of another size, or sizes that contradict one another"
    SEQNO = "a symbol with a number that no sender needs"
    TOO_BIG = "more than was asked for, or than is allowed unasked"
    TOO_MANY = "more transfers from one peer than are kept open"
    MEMORY = "more from all peers than is kept open"
    PART = "a part that is not open, or far ahead"
    UNDECODABLE = "symbols that never decode"
    MISLED = "a confirm or complete of what was never sent, or of more than anybody needs"
    LATE = "a confirm or complete of what is over"
    CONTENT = "a transfer that holds no message, or an answer to nothing"
    EXPIRED = "a query that nobody waits for any longer"
    BUSY = "a query by a peer that has too many unanswered"


@dataclass(frozen=True, slots=True, kw_only=True)
class RldpStatistics:
    """What has happened so far."""

    symbols_sent: int
    symbols_needed: int
    """those that would have been enough for what was sent, had none been lost"""
    symbols_received: int
    answers_refused: int
    """answers of ours that came too late, or were larger than the peer takes"""
    drops: dict[Drop, int]
