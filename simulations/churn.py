"""Nodes that come and go: sessions as measured, gaps between them, and who says farewell.

Sessions are Weibull-distributed, which is what Stutzbach and Rejaie measured (2006): most are
short, few are very long. The network starts in equilibrium: at a random instant one is more likely
to find a long session, so the first of a node is drawn by its length, and is part over. Starting
all sessions anew would lose half the network within one median session.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, final

from p2p.core import C
from p2p.entropy import Entropy, exponential
from p2p.transport.fabric import EPOCH
from simulations.samplers import gamma, weibull
from simulations.world import Stage

MINUTE: Final = 60.0
DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """How long a node stays: Weibull of shape `k` and scale `scale`."""

    k: float
    scale: float
    """seconds"""

    @property
    def mean(self) -> float:
        """Seconds, on average."""
        return self.scale * math.gamma(1.0 + 1.0 / self.k)

    @property
    def median(self) -> float:
        """Seconds that half of them reach."""
        return self.scale * math.pow(math.log(2.0), 1.0 / self.k)

    @property
    def residual(self) -> float:
        """Seconds that a node found at a random instant still stays: E[x^2] / 2 E[x]."""
        square = self.scale**2 * math.gamma(1.0 + 2.0 / self.k)
        return square / (2.0 * self.mean)


def covering(entropy: Entropy, sessions: Sessions) -> float:
    """Seconds of the session that covers a random instant: long ones do so more often.

    Its density is x times the plain one's, so (x / scale)^k is gamma of shape 1 + 1/k.
    """
    drawn = gamma(entropy, 1.0 + 1.0 / sessions.k)
    return sessions.scale * math.pow(drawn, 1.0 / sessions.k)


MEASURED: Final[Mapping[str, Sessions]] = MappingProxyType(
    {
        "debian": Sessions(k=0.38, scale=42.4 * MINUTE),
        "redhat": Sessions(k=0.34, scale=21.3 * MINUTE),
        "flatout": Sessions(k=0.59, scale=41.9 * MINUTE),
    }
)
"""Of three torrents: people who fetch Debian or Red Hat, and a game."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A node comes, or goes."""

    at: float
    """Unix seconds"""
    comes: bool
    graceful: bool = False
    """Whether it says farewell."""


@final
class Churn:
    """The comings and goings of nodes, each by its own stream.

    `online` is the share of nodes that are there on average; `diurnal` between 0 and 1 lets it
    swing over the day; `graceful` is the share of goings that are announced.
    """

    def __init__(
        self,
        entropy: Entropy,
        sessions: Sessions,
        *,
        online: float = 0.7,
        diurnal: float = 0.0,
        graceful: float = 0.3,
    ) -> None:
        if not 0.0 < online <= 1.0 or not 0.0 <= diurnal <= 1.0:
            raise ValueError("a share is between 0 and 1")
        self._entropy = entropy
        self._sessions = sessions
        self._online = online
        self._diurnal = diurnal
        self._graceful = graceful

    def moves(self, node: int, until: float, *, begin: float = EPOCH) -> Iterator[Move]:
        """When a node comes and goes from `begin` on, in order; if it is there then, it comes."""
        stream = self._entropy.fork(f"churn/{node}")
        sessions, here = self._sessions, stream.uniform() < self._online
        now = begin
        rest = covering(stream, sessions) * stream.uniform()
        while True:
            if here:
                yield Move(at=now, comes=True)
                now += rest
            else:
                now += self._gap(stream, now)
            if now > until:
                return
            if here:
                yield Move(at=now, comes=False, graceful=stream.uniform() < self._graceful)
            here = not here
            rest = weibull(stream, sessions.k, sessions.scale)

    def run(
        self,
        world: Stage[C],
        node: int,
        until: float,
        *,
        begin: float = EPOCH,
        build: Callable[[float], C] | None = None,
    ) -> None:
        """Enter the moves of a node; who comes later than at the begin is built anew then."""
        for move in self.moves(node, until, begin=begin):
            if not move.comes:
                world.stop(node, at=move.at, graceful=move.graceful)
            else:
                world.start(node, at=move.at, build=build if move.at > begin else None)

    def _gap(self, stream: Entropy, now: float) -> float:
        """Seconds away: exponential, so long that the wanted share is there; at night longer."""
        if self._online == 1.0:
            return 0.0
        mean = self._sessions.mean * (1.0 - self._online) / self._online
        day = 1.0 + self._diurnal * math.sin(2.0 * math.pi * now / DAY)
        return exponential(stream, mean / max(day, 1e-3))
