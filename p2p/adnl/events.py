"""What an ADNL core tells the layers above."""

from dataclasses import dataclass
from typing import NamedTuple, NewType

from p2p.errors import RemoteError, Unreachable
from p2p.identity import AdnlId
from p2p.wire import Endpoint

Ticket = NewType("Ticket", bytes)
"""Names a query of ours until it has ended."""


class Token(NamedTuple):
    """Names a peer's query until it is answered. Its fields are the core's business."""

    local: AdnlId
    peer: AdnlId
    query_id: bytes


class Message(NamedTuple):
    """An `adnl.message.custom`."""

    local: AdnlId
    peer: AdnlId
    payload: bytes


class Query(NamedTuple):
    """A peer asks: `AdnlCore.answer` wants the token, and None for a query left unanswered."""

    local: AdnlId
    peer: AdnlId
    payload: bytes
    token: Token


class Answered(NamedTuple):
    """The answer to a query of ours."""

    ticket: Ticket
    payload: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """There will be no answer to a query of ours."""

    ticket: Ticket
    error: RemoteError | Unreachable


@dataclass(frozen=True, slots=True)
class NoAddress:
    """Messages wait for a peer whose key or address is not known: `add_peer` sends them.

    Said again when others wait after these have left or were given up.
    """

    peer: AdnlId


@dataclass(frozen=True, slots=True)
class PeerReset:
    """A peer has started anew: what it knew of us, and what was on its way to it, is lost."""

    local: AdnlId
    peer: AdnlId


@dataclass(frozen=True, slots=True)
class PeerSeen:
    """A packet of a peer was accepted that came from another place than the last, or the first."""

    local: AdnlId
    peer: AdnlId
    public: bytes
    endpoint: Endpoint
