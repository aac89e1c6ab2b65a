"""Who is in the overlay, as far as this node knows, and who of them are its neighbours.

| a node is | once | until |
|---|---|---|
| stranger | its record, signed by itself, was heard of | it answers, or is given up |
| member | it has answered us | its record is too old, it misses three answers, or is crowded out |
| neighbour | drawn from the members | it is no member any more, or a draw replaces it |

Identities are free, so that a member may be one of thousands of a single party. Those that somebody
vouches for, as the directory does by its work and its limits for each block of addresses, make up
two thirds of the neighbours while there are so many; of the others half a table is kept.

A record is believed for 600 s, so that members are known by what they said lately. Nothing here
sends or waits: `discovery.py` does, and tells.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, final

from p2p.dht import value as records
from p2p.entropy import Entropy, choice, sample
from p2p.errors import BadSignature, DhtError
from p2p.identity import AdnlId, short_id
from p2p.overlay.settings import Settings
from p2p.ton import OverlayNode, PubEd25519

NAME: Final = b"tussah/directory/1"
"""What this overlay is for, in front of the network's number: one overlay is for everything, as one
for each model would tell neighbours what a node is interested in."""

SHARED_LIFE: Final = 60.0
"""seconds for which a record that we hand on must still be believed."""

VOUCHED: Final = 2 / 3
"""share of the neighbours that are drawn from members somebody vouches for"""

UNVOUCHED: Final = 1 / 2
"""share of a full table that other members may have, as do newcomers until they are listed"""


def name_of(network: int) -> bytes:
    """The name of the overlay of the network of this number, as a `pub.overlay` holds it."""
    return NAME + network.to_bytes(4, "little", signed=True)


class Fate(Enum):
    """What becomes of a record that was heard of."""

    STRANGER = "of nobody we know"
    RENEWED = "of a member, and newer than what we had"
    KNOWN = "of a member, and no newer"
    OWN = "our own"
    UNBELIEVED = "of another overlay, or too old, or of the future"
    UNSIGNED = "not signed by whom it names"


@dataclass(slots=True)
class _Member:
    record: OverlayNode
    misses: int = 0


@final
class Membership:
    """See the module."""

    def __init__(self, own: AdnlId, overlay: bytes, entropy: Entropy, settings: Settings) -> None:
        self._own = own
        self._overlay = overlay
        self._entropy = entropy
        self._settings = settings
        self._members: dict[AdnlId, _Member] = {}
        self._neighbours: list[AdnlId] = []
        self._callers: dict[AdnlId, None] = {}
        self._is_vouched: Callable[[AdnlId], bool] = _nobody
        self._drawn_of = settings.neighbours
        """How many members there were at the last draw. When they have doubled, it is time for the
        next: else those known first, and so known to all, would be everybody's neighbours."""
        self._changed = False
        self._fates = dict.fromkeys(Fate, 0)

    def trust(self, is_vouched: Callable[[AdnlId], bool]) -> None:
        """Ask this from now on whether somebody vouches for a member."""
        self._is_vouched = is_vouched

    # --- what is known ---

    @property
    def neighbours(self) -> tuple[AdnlId, ...]:
        """Who is told what comes."""
        return tuple(self._neighbours)

    @property
    def members(self) -> list[AdnlId]:
        """Everybody who has answered, longest known first."""
        return list(self._members)

    def draw(self, most: int, but: AdnlId | None = None) -> list[AdnlId]:
        """Whom to tell something, other than one: neighbours, a third of them who called us.

        Without callers those in few tables would hear little; with more, any who calls often most.
        """
        callers = [peer for peer in self._callers if peer in self._members and peer != but]
        drawn = sample(self._entropy, callers, max(1, most // 3))
        others = [peer for peer in self._neighbours if peer != but and peer not in drawn]
        return drawn + sample(self._entropy, others, most - len(drawn))

    def share(self, now: float, but: AdnlId) -> list[OverlayNode]:
        """Records of some members, for another to be told of: none that it would not believe."""
        drawn = sample(self._entropy, self.members, 2 * self._settings.shared)
        fresh = [
            self._members[peer].record
            for peer in drawn
            if peer != but and records.is_believed(self._members[peer].record, now + SHARED_LIFE)
        ]
        return fresh[: self._settings.shared]

    def __contains__(self, peer: AdnlId) -> bool:
        return peer in self._members

    def __len__(self) -> int:
        return len(self._members)

    # --- what is learnt ---

    def hear(self, now: float, record: OverlayNode) -> AdnlId | None:
        """Take a record; the id of a stranger whose record is right, to be pinged, else None."""
        fate, peer = self._judge(now, record)
        self._fates[fate] += 1
        if fate is Fate.RENEWED:
            self._members[peer].record = record
        return peer if fate is Fate.STRANGER else None

    def admit(self, now: float, record: OverlayNode) -> bool:
        """A stranger has answered, and is a member from now on, unless its record has aged."""
        assert isinstance(record.id, PubEd25519)
        peer = short_id(record.id.key)
        if peer in self._members or not records.is_believed(record, now):
            return False
        if len(self._members) >= self._settings.max_members:
            self._crowd_out()
        self._members[peer] = _Member(record)
        if len(self._members) > 2 * self._drawn_of:
            self.reshuffle()
        self._fill()
        return True

    def called(self, peer: AdnlId) -> None:
        """It asked us for members, as one does with neighbours; the last few are remembered."""
        self._callers.pop(peer, None)
        self._callers[peer] = None
        if len(self._callers) > self._settings.neighbours:
            del self._callers[next(iter(self._callers))]

    def answered(self, peer: AdnlId) -> None:
        """It owes us nothing."""
        if peer in self._members:
            self._members[peer].misses = 0

    def missed(self, peer: AdnlId) -> None:
        """It did not answer; harmless for who is no member."""
        member = self._members.get(peer)
        if member is None:
            return
        member.misses += 1
        if member.misses >= self._settings.misses:
            self._remove(peer)
            self._fill()

    def forget_old(self, now: float) -> None:
        """Members whose record nobody believes any more are none."""
        members = self._members.items()
        for peer in [p for p, m in members if not records.is_believed(m.record, now)]:
            self._remove(peer)
        self._fill()

    def reshuffle(self) -> None:
        """Draw all neighbours anew: of those vouched for, each is as likely as any other."""
        neighbours = self._drawn([])
        self._changed |= neighbours != self._neighbours
        self._neighbours = neighbours
        self._drawn_of = len(self._members)

    # --- what is told ---

    def take_change(self) -> bool:
        """Whether the neighbours are others than at the last call."""
        changed, self._changed = self._changed, False
        return changed

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables."""
        return {
            "overlay_members": len(self._members),
            "overlay_neighbours": len(self._neighbours),
            "overlay_callers": len(self._callers),
        }

    def statistics(self) -> Mapping[Fate, int]:
        """How many records met which fate so far."""
        return dict(self._fates)

    # --- inside ---

    def _judge(self, now: float, record: OverlayNode) -> tuple[Fate, AdnlId]:
        """Cheapest checks first: most records are of members, and known."""
        nobody = AdnlId(b"")
        if record.overlay != self._overlay or not isinstance(record.id, PubEd25519):
            return Fate.UNBELIEVED, nobody
        if not records.is_believed(record, now):
            return Fate.UNBELIEVED, nobody

        peer = short_id(record.id.key)
        member = self._members.get(peer)
        if peer == self._own:
            return Fate.OWN, peer
        if member is not None and member.record.version >= record.version:
            return Fate.KNOWN, peer
        if not self._is_signed(record):
            return Fate.UNSIGNED, nobody
        return (Fate.STRANGER if member is None else Fate.RENEWED), peer

    def _is_signed(self, record: OverlayNode) -> bool:
        try:
            records.check_member(record, self._overlay)
        except (DhtError, BadSignature):
            return False
        return True

    def _crowd_out(self) -> None:
        """Any member but a neighbour: who fills our table with names does not choose our links.

        Nor does it push out those vouched for: of the others, half a table is enough.
        """
        others = [peer for peer in self._members if peer not in self._neighbours]
        unvouched = [peer for peer in others if not self._is_vouched(peer)]
        if len(unvouched) >= UNVOUCHED * self._settings.max_members:
            others = unvouched
        self._remove(choice(self._entropy, others or self.members))

    def _remove(self, peer: AdnlId) -> None:
        del self._members[peer]
        if peer in self._neighbours:
            self._neighbours.remove(peer)
            self._changed = True

    def _fill(self) -> None:
        room = self._settings.neighbours - len(self._neighbours)
        if room > 0 and len(self._members) > len(self._neighbours):
            self._neighbours = self._drawn(self._neighbours)
            self._changed = True

    def _drawn(self, kept: list[AdnlId]) -> list[AdnlId]:
        """A full set of neighbours, with these among them."""
        most = self._settings.neighbours
        others = [peer for peer in self._members if peer not in kept]
        vouched = [peer for peer in others if self._is_vouched(peer)]
        wanted = math.ceil(VOUCHED * most) - sum(map(self._is_vouched, kept))
        drawn = sample(self._entropy, vouched, max(0, min(wanted, most - len(kept))))
        rest = [peer for peer in others if peer not in drawn]
        return kept + drawn + sample(self._entropy, rest, most - len(kept) - len(drawn))


def _nobody(peer: AdnlId) -> bool:
    """Who is vouched for where nobody vouches."""
    return False
