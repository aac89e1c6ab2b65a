"""What a directory server says that its list is, and which of several agree.

They are compared by the nodes that are known to have been listed before. New names cost little: who
tells them to half of the servers in the moment of freezing must not set honest servers against each
other. Nor do two versions of a node's advert; an entry that one alone holds serves nobody anyway.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from p2p.identity import AdnlId
from p2p.overlay.advert import Advert
from p2p.overlay.bodies import Rooted
from p2p.overlay.pulse import PREFIX_SIZE

DOUBT: Final = 0.02
"""share of the known nodes that an honest server may lack."""

SLACK: Final = 3
"""nodes it may in any case: in a list of ten, one late advert is a tenth."""

KNOWN_DAYS: Final = 2
"""days on which a node has been listed, by a server's word, to be a known one."""


@dataclass(slots=True, eq=False)
class Witness:
    """A server that has been asked for its list."""

    peer: AdnlId
    rooted: Rooted
    entries: Mapping[bytes, int] | None = None
    """id[0:8] | digest, with the days that its node was listed; None before it has said."""
    nodes: dict[bytes, None] = field(default_factory=dict)
    """id[0:8] of all that it lists,"""
    known: dict[bytes, None] = field(default_factory=dict)
    """and of those among them that were listed before; if there are none, of all."""

    def show(self, entries: Mapping[bytes, int], is_known: Callable[[bytes], bool]) -> None:
        """Its list is this; `is_known` says of an id[0:8] whether our last list has it."""
        self.entries = entries
        self.nodes = {entry[:PREFIX_SIZE]: None for entry in entries}
        known = {
            entry[:PREFIX_SIZE]: None
            for entry, days in entries.items()
            if days >= KNOWN_DAYS or is_known(entry[:PREFIX_SIZE])
        }
        self.known = known or self.nodes

    def agrees(self, other: "Witness") -> bool:
        """Whether neither lacks more of the known nodes of the other than honest ones may."""
        return not self.lacks(other) and not other.lacks(self)

    def lacks(self, other: "Witness") -> bool:
        """Whether it lacks more of the other's known nodes than that."""
        missing = sum(node not in self.nodes for node in other.known)
        return missing > tolerance(len(other.known))


def tolerance(count: int) -> float:
    """How many of so many entries an honest server may lack."""
    return max(SLACK, DOUBT * count)


def entry_of(advert: Advert) -> bytes:
    """How an advert stands in a list."""
    return advert.id[:PREFIX_SIZE] + advert.digest


def agreeing(witnesses: Sequence[Witness]) -> list[Witness]:
    """The most that agree with one of them; nobody, if as many others agree with another.

    A single witness agrees with itself.
    """
    if len(witnesses) == 1:
        return list(witnesses)
    clusters = [[other for other in witnesses if one.agrees(other)] for one in witnesses]
    largest = max(clusters, key=len, default=[])
    rivals = [one for one in clusters if len(one) == len(largest) and one[0] not in largest]
    return largest if len(largest) > 1 and not rivals else []


def holders(witnesses: Sequence[Witness]) -> dict[bytes, list[AdnlId]]:
    """Who lists each entry that counts: that two of them list, or the one that there is."""
    found: dict[bytes, list[AdnlId]] = {}
    for witness in witnesses:
        for entry in witness.entries or ():
            found.setdefault(entry, []).append(witness.peer)
    least = min(2, len(witnesses))
    return {entry: peers for entry, peers in found.items() if len(peers) >= least}
