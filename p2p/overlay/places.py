"""Who has a place in the pool: bounds on all nodes together, and on those of one block or relay.

Who keeps a place depends on the adverts and the last frozen list alone, not on who came first: all
servers keep the same ones. First come those with stake, then those listed before, then those that
did more work; a smaller id decides the rest. Names of nodes that have left make room before all.
"""

from bisect import insort
from collections.abc import Callable
from typing import NamedTuple, final

from p2p import defaults
from p2p.identity import AdnlId
from p2p.overlay.advert import Advert, Rules, work_bits
from p2p.overlay.groups import Registry, crowds


class Rank(NamedTuple):
    """What decides between two nodes: the lesser keeps its place."""

    gone: bool
    debit: int
    """nano of stake, negative"""
    new: bool
    idle: int
    """bits of work, negative"""
    id: AdnlId


@final
class Places:
    """`yielding` tells who must go for an advert; then `give` it its place. Others `free` theirs.

    `was_listed` says whether a node is in the last frozen list; when that changes, call `settle`.
    """

    def __init__(
        self, rules: Rules, registry: Registry, was_listed: Callable[[AdnlId], bool]
    ) -> None:
        self._rules = rules
        self._registry = registry
        self._was_listed = was_listed
        self._held: dict[AdnlId, Advert] = {}
        self._crowds: dict[bytes, dict[AdnlId, None]] = {}
        self._order: list[Rank] | None = None
        """Of all, while they fill the pool; whoever has lost its place since is still in it."""

    def yielding(self, advert: Advert) -> list[AdnlId] | None:
        """The nodes that must yield to this advert; None if it must to them."""
        worst = [self._worst_of(crowd) for crowd in self._full_crowds(advert)]
        if advert.id not in self._held and len(self._held) >= defaults.MAX_ADVERTS:
            worst.append(self._worst())
        if worst and self._rank(advert) > min(worst):
            return None
        return list(dict.fromkeys(other.id for other in worst))

    def give(self, advert: Advert) -> None:
        """Let a node have a place by this advert, its newest."""
        self.free(advert.id)
        self._held[advert.id] = advert
        for key in crowds(advert, self._rules, self._registry):
            self._crowds.setdefault(key, {})[advert.id] = None
        if self._order is not None:
            insort(self._order, self._rank(advert))

    def free(self, node: AdnlId) -> None:
        """Let a node have none; harmless if it had none."""
        advert = self._held.pop(node, None)
        if advert is None:
            return
        for key in crowds(advert, self._rules, self._registry):
            del self._crowds[key][node]
            if not self._crowds[key]:
                del self._crowds[key]

    def settle(self) -> None:
        """There is another frozen list."""
        self._order = None

    def __len__(self) -> int:
        return len(self._held)

    def _full_crowds(self, advert: Advert) -> list[dict[AdnlId, None]]:
        """Those that it would join and that have no room."""
        return [
            there
            for key, bound in crowds(advert, self._rules, self._registry).items()
            if (there := self._crowds.get(key)) and advert.id not in there and len(there) >= bound
        ]

    def _worst_of(self, crowd: dict[AdnlId, None]) -> Rank:
        return max(self._rank(self._held[node]) for node in crowd)

    def _worst(self) -> Rank:
        if self._order is None:
            self._order = sorted(map(self._rank, self._held.values()))
        while not self._is_current(self._order[-1]):
            self._order.pop()
        return self._order[-1]

    def _is_current(self, rank: Rank) -> bool:
        held = self._held.get(rank.id)
        return held is not None and self._rank(held) == rank

    def _rank(self, advert: Advert) -> Rank:
        proven = self._registry(advert)
        return Rank(
            gone=not advert.roles,
            debit=-proven.stake if proven else 0,
            new=not self._was_listed(advert.id),
            idle=0 if self._rules.dev else -work_bits(advert),
            id=advert.id,
        )
