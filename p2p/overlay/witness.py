"""What a directory server says that its list is, and which of several agree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from p2p.identity import AdnlId
from p2p.overlay.advert import Advert
from p2p.overlay.bodies import PREFIX_SIZE, Rooted

DOUBT: Final = 0.02
"""share of a list that an honest server may lack, or hold alone."""

SLACK: Final = 3
"""entries it may in any case: in a list of ten, one late advert is a tenth."""


@dataclass(slots=True, eq=False)
class Witness:
    """A server that has been asked for its list."""

    peer: AdnlId
    rooted: Rooted
    entries: Mapping[bytes, int] | None = None
    """id[0:8] | digest, with the days that its node was listed; None before it has said."""

    def agrees(self, other: "Witness") -> bool:
        """Whether neither lacks more of the other's list than honest ones may."""
        ours, theirs = self.entries or {}, other.entries or {}
        common = len(ours.keys() & theirs.keys())
        longer = max(len(ours), len(theirs))
        return longer - common <= tolerance(longer)


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
