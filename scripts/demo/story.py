"""What a demonstration tells of: who took part, what was asked, and what must hold."""

from collections.abc import Sequence
from dataclasses import dataclass

from ledger.money import Nano
from p2p.identity import AdnlId
from scripts.demo.books import Books
from scripts.failure import Document
from scripts.parties import Party
from scripts.recorder import Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One statement about the run, tested on what was recorded."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """One party and what its recorder says after the answer."""

    party: Party
    id: AdnlId
    seen: Seen

    @property
    def name(self) -> str:
        """The party's name."""
        return self.party.name

    @property
    def role(self) -> str:
        """The party's role."""
        return self.party.role


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one party knows of the others, and whence."""

    name: str
    bootstrap: int
    """nodes that its invitation named, itself among them"""
    dht: int
    """nodes of the DHT that have answered it"""
    members: int
    """members of the overlay that it knows"""
    listed: int
    """nodes in its list"""
    epoch: int
    root: str
    """Hash over the list: equal roots, equal lists."""

    def document(self) -> Document:
        """As it stands in the demonstration's document."""
        return {
            "name": self.name,
            "bootstrap": self.bootstrap,
            "dht": self.dht,
            "members": self.members,
            "listed": self.listed,
            "epoch": self.epoch,
            "root": self.root,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The question, how it ended, and who saw what."""

    question: str
    result: Document
    witnesses: Sequence[Witness]
    path: Sequence[Witness]
    """Client, relays, worker."""
    checks: Sequence[Check]
    books: Books | None
    """None: a network that answers for free."""
    found: Sequence[Found]
    """How the parties found each other."""


def ton(nano: object) -> str:
    """An amount as people read it."""
    return str(Nano(whole(nano)))


def whole(value: object) -> int:
    """A number of nano in a document."""
    assert isinstance(value, int)
    return value
