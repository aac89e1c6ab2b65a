"""How far news gets when real memberships choose whom to tell. In rounds: time has no part in it.

What a node does with news is the overlay's: it tells `fanout` others once, never back whence it
came. Who they are is `p2p.overlay.membership`'s choice.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Final, final

from p2p.entropy import Entropy, sample
from p2p.identity import AdnlId, short_id
from p2p.overlay.membership import Membership
from p2p.overlay.settings import Settings
from p2p.ton import OverlayNode, PubEd25519
from p2p.transport.fabric import EPOCH

OVERLAY: Final = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How one piece of news went."""

    reached: int
    """nodes that have it, the first included"""
    messages: int

    @property
    def duplicates(self) -> int:
        """Messages to who had it."""
        return self.messages - self.reached + 1


@final
class Village:
    """Nodes and whom each knows; `links` are pairs of which the first knows the second."""

    def __init__(
        self, nodes: int, links: Iterable[tuple[int, int]], neighbours: int, entropy: Entropy
    ) -> None:
        keys = [sha256(b"villager %d" % node).digest() for node in range(nodes)]
        self._ids = [short_id(key) for key in keys]
        self._indexes = {peer: node for node, peer in enumerate(self._ids)}
        records = [OverlayNode(PubEd25519(key), OVERLAY, int(EPOCH), b"") for key in keys]
        settings = Settings(max_members=nodes, neighbours=neighbours)
        self._entropy = entropy
        self._tables = [
            Membership(self._ids[node], OVERLAY, entropy.fork(f"node/{node}"), settings)
            for node in range(nodes)
        ]
        for knower, known in links:
            self._tables[knower].admit(EPOCH, records[known])

    def tell(self, first: int, fanout: float) -> Spread:
        """Let news start at a node; a broken `fanout` is the mean of two whole ones."""
        sources: dict[int, AdnlId | None] = {first: None}
        fresh = deque([first])
        messages = 0
        while fresh:
            node = fresh.popleft()
            told = self._tables[node].draw(self._whole(fanout), sources[node])
            messages += len(told)
            for peer in told:
                index = self._indexes[peer]
                if index not in sources:
                    sources[index] = self._ids[node]
                    fresh.append(index)
        return Spread(reached=len(sources), messages=messages)

    def _whole(self, fanout: float) -> int:
        below = int(fanout)
        return below + (self._entropy.uniform() < fanout - below)


def strangers(nodes: int, known: int, entropy: Entropy) -> Iterable[tuple[int, int]]:
    """Links of nodes that each know so many others, drawn evenly."""
    for node in range(nodes):
        others = sample(entropy, range(nodes - 1), known)
        yield from ((node, other + (other >= node)) for other in others)


def mesh(nodes: int, chords: int, entropy: Entropy) -> list[tuple[int, int]]:
    """Edges of a ring of all with so many chords, so that everybody is reached; each edge once."""
    edges = dict.fromkeys(pairwise([*range(nodes), 0]))
    while len(edges) < nodes + chords:
        one, other = sample(entropy, range(nodes), 2)
        if (one, other) not in edges and (other, one) not in edges:
            edges[one, other] = None
    return list(edges)
