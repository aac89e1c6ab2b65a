"""Which directory servers a node asks, and which not for a while.

A few are kept to: each server asked learns our address, and each new one is another chance to meet
one of a kind with the others. They are replaced one by one, some hours after they were chosen.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Final, NamedTuple, final

from p2p import defaults
from p2p.entropy import Entropy, sample
from p2p.identity import AdnlId
from p2p.overlay.epochs import Calendar

KEPT_FOR: Final = (6 * 3_600.0, 12 * 3_600.0)
"""seconds that a server is kept to, uniform: an eclipse ends, and not all change at once."""

ASIDE_FOR: Final = 86_400.0
"""seconds that a server is not asked again after it contradicted others."""

CANDIDATES: Final = 5
"""servers that one fetch may ask."""


class Server(NamedTuple):
    """A directory server known from the settings of a network."""

    peer: AdnlId
    group: bytes
    """Whom to take for its operator."""


@final
class Servers:
    """`choose` some of those there are; tell which answered, and which are set aside.

    At `least` so many are needed: with fewer, nobody is left out.
    """

    def __init__(
        self,
        first: Sequence[Server],
        self_id: AdnlId,
        calendar: Calendar,
        entropy: Entropy,
        *,
        least: int = 2,
    ) -> None:
        self.first: Final = [server for server in first if server.peer != self_id]
        """Those of the settings, but for this node."""
        self._calendar = calendar
        self._entropy = entropy
        self._least = least
        self._kept: dict[AdnlId, float] = {}
        self._aside: dict[AdnlId, float] = {}
        self._met: dict[AdnlId, None] = {}

    def choose(
        self,
        now: float,
        listed: Mapping[AdnlId, bytes],
        last: Mapping[AdnlId, bytes] | None = None,
        shunned: Collection[AdnlId] = (),
    ) -> list[AdnlId]:
        """Whom to ask, in this order: those kept to, other listed ones, those of the settings.

        `listed` are the groups of the servers of our list, if we have one, `last` those of servers
        that come after all. No two are of one group. Those of the settings that are `shunned` are
        asked only if there are too few others.
        """
        self._pass(now)
        first = {server.peer: server.group for server in self.first}
        groups = dict(last or {}) | first | dict(listed)
        kept = [peer for peer in self._kept if peer in groups]
        drawn = [sample(self._entropy, [*some], len(some)) for some in (listed, first, last or {})]
        order = [peer for peer in chain(kept, *drawn) if peer not in self._aside]
        chosen: dict[bytes, AdnlId] = {}
        for peer in order:
            if peer not in shunned:
                chosen.setdefault(groups[peer], peer)
        for peer in order if len(chosen) < self._least else ():
            chosen.setdefault(groups[peer], peer)
        return list(chosen.values())[:CANDIDATES]

    def is_first(self, peer: AdnlId) -> bool:
        """Whether the settings name it."""
        return any(peer == server.peer for server in self.first)

    def keeps(self, peer: AdnlId) -> bool:
        """Whether it has answered of late, and is to be asked again."""
        return peer in self._kept

    def keep(self, now: float, peers: Sequence[AdnlId]) -> None:
        """These were asked and are what they should be: ask them again."""
        least, most = (self._calendar.scaled(seconds) for seconds in KEPT_FOR)
        for peer in peers:
            until = now + least + (most - least) * self._entropy.uniform()
            self._kept.setdefault(peer, until)

    def drop(self, peers: Sequence[AdnlId]) -> None:
        """These did not answer: ask others."""
        for peer in peers:
            self._kept.pop(peer, None)

    def set_aside(self, now: float, peers: Sequence[AdnlId]) -> None:
        """These contradict others: do not ask them for a day."""
        self.drop(peers)
        for peer in peers:
            self._aside[peer] = now + self._calendar.scaled(ASIDE_FOR)

    def meet(self, peers: Sequence[AdnlId]) -> None:
        """These have been asked, and know our address."""
        for peer in peers:
            self._met.pop(peer, None)
            self._met[peer] = None
            if len(self._met) > defaults.SERVERS_MET:
                del self._met[next(iter(self._met))]

    def acquainted(self) -> list[AdnlId]:
        """Who knows our address because we fetch the directory from them, or would."""
        return list(dict.fromkeys([*(server.peer for server in self.first), *self._met]))

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables."""
        return {
            "servers_kept": len(self._kept),
            "servers_aside": len(self._aside),
            "servers_met": len(self._met),
        }

    def _pass(self, now: float) -> None:
        self._kept = {peer: until for peer, until in self._kept.items() if until > now}
        self._aside = {peer: until for peer, until in self._aside.items() if until > now}
