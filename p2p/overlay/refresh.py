"""Fetches each epoch's list and the pulses of its nodes, from the servers that a node keeps to.

Procedures do not know the time: what they bring is reported, and taken when there is one.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias, final

from p2p import defaults
from p2p.core import Procedures
from p2p.entropy import Entropy
from p2p.errors import DirectorySplit, Unreachable
from p2p.identity import AdnlId
from p2p.overlay.advert import Rules
from p2p.overlay.asking import Asking, Failures
from p2p.overlay.epochs import Calendar
from p2p.overlay.fetch import Fetch, Fetched
from p2p.overlay.lists import Lists
from p2p.overlay.pool import Read
from p2p.overlay.servers import Servers
from p2p.overlay.snapshot import BUCKETS

RETRY_FIRST: Final = 1.0
"""seconds after a fetch that brought nothing; doubled each time, up to a tenth of an epoch."""

PULSE_SOURCES: Final = 2
"""servers asked for pulses, if the first shows fewer nodes than servers claim to be there."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A fetch of an epoch's list has ended."""

    epoch: int
    outcome: Fetched | DirectorySplit | Unreachable


@dataclass(frozen=True, slots=True)
class Beats:
    """A server has given the pulses of everybody."""

    peer: AdnlId
    pulses: bytes
    left: Sequence[AdnlId]
    """Servers to ask if these are too few."""


Finding: TypeAlias = Listed | Beats


@final
class Refresh:
    """`fetch` the list, `feel` for pulses; `report` hears what comes of it."""

    def __init__(
        self,
        asking: Asking,
        procedures: Procedures,
        entropy: Entropy,
        *,
        rules: Rules,
        calendar: Calendar,
        servers: Servers,
        lists: Lists,
        read: Read,
        report: Callable[[Finding], None],
    ) -> None:
        self._asking = asking
        self._procedures = procedures
        self._entropy = entropy
        self._rules = rules
        self._calendar = calendar
        self._servers = servers
        self._lists = lists
        self._read = read
        self._report = report

        self._wait = RETRY_FIRST
        self._is_failing = False
        self._fetch: Fetch | None = None
        self.count = 0
        """Fetches that have ended,"""
        self.failures = 0
        """those of them that brought no list,"""
        self.splits = 0
        """and those of these for which servers did not agree."""

    @property
    def is_failing(self) -> bool:
        """Whether the last fetch brought no list."""
        return self._is_failing

    def fetch(
        self,
        now: float,
        listed: Mapping[AdnlId, bytes],
        last: Mapping[AdnlId, bytes],
        shunned: Collection[AdnlId],
    ) -> None:
        """Fetch the list of the epoch that `now` falls into; nothing while another is fetched.

        `listed` are the servers of our list, if we have one, with their groups; those of `last` are
        asked after all others, those of `shunned` while there are enough others not at all.
        """
        if self._fetch is not None:
            return
        epoch = self._calendar.number(now)
        self._fetch = Fetch(
            self._asking,
            self._entropy,
            self._rules,
            cut=self._calendar.cut(epoch),
            own=self._lists.newest(),
            sources=self._servers.choose(now, listed, last, shunned),
            held=self._lists.body,
            read=self._read,
            least=1 if self._rules.dev else 2,
        )
        self._procedures.start(self._run(epoch, self._fetch))

    def ended(self, now: float, finding: Listed) -> float:
        """Take note of how a fetch has ended; when to try again if it brought nothing."""
        fetch, self._fetch = self._fetch, None
        assert fetch is not None  # one at a time, and each ends once
        self.count += 1
        self._servers.meet(fetch.asked)
        self._servers.set_aside(now, fetch.aside)
        if isinstance(finding.outcome, Fetched):
            self._servers.drop([peer for peer in fetch.asked if peer not in fetch.good])
            self._servers.keep(now, fetch.good)
            self._wait, self._is_failing = RETRY_FIRST, False
            return now
        self._is_failing = True
        self.failures += 1
        self.splits += isinstance(finding.outcome, DirectorySplit)
        self._servers.drop(fetch.asked)
        wait = self._wait * (1.0 - 0.5 * self._entropy.uniform())
        self._wait = min(2 * self._wait, self._calendar.scaled(defaults.RETRY_LAST))
        return now + wait

    def feel(self, peers: Sequence[AdnlId]) -> None:
        """Fetch the pulses of all nodes from the first of these that gives them."""
        self._procedures.start(self._feel(peers[:PULSE_SOURCES]))

    async def _run(self, epoch: int, fetch: Fetch) -> None:
        outcome: Fetched | DirectorySplit | Unreachable
        try:
            outcome = await fetch.run()
        except (DirectorySplit, Unreachable) as error:
            outcome = error.with_traceback(None)  # it would hold this frame, which holds it
        self._report(Listed(epoch, outcome))

    async def _feel(self, peers: Sequence[AdnlId]) -> None:
        for number, peer in enumerate(peers):
            with suppress(*Failures):
                pulses = await self._asking.pulses(peer, 0, BUCKETS - 1)
                self._report(Beats(peer, pulses, peers[number + 1 :]))
                return
