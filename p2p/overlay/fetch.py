"""Fetches the list of a cut from servers of different operators, and believes none of them alone.

    all equal, and we have a list         what differs, from one of them; the root proves it
    else                                  the lists of all; an entry counts if two hold it
    one lacks over 2 % of known nodes     it is set aside, and another asked, five at most
    no two agree on 98 % of them          `DirectorySplit`

What is shown to one victim alone so buys nothing, and what was only late is everywhere an epoch on.
Refusing a list for any difference would let one late advert stop everyone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Final, final

from p2p.entropy import Entropy, sample
from p2p.errors import DirectorySplit, Rejected, RemoteError, Unreachable
from p2p.identity import AdnlId
from p2p.overlay import advert as adverts
from p2p.overlay.advert import Advert, Digest, Rules
from p2p.overlay.asking import TOGETHER, Asking, Failure, Failures
from p2p.overlay.bodies import NO_ROOT, Item, Rooted
from p2p.overlay.collect import Collector
from p2p.overlay.pool import Read
from p2p.overlay.pulse import PREFIX_SIZE
from p2p.overlay.snapshot import BUCKETS, Snapshot, differing
from p2p.overlay.witness import Witness, agreeing, entry_of, holders, tolerance

WITNESSES: Final = 3
"""servers whose lists are compared."""

MOST_ASKED: Final = 5
"""servers asked in one fetch, those in place of others included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A list that servers agree upon."""

    list: Snapshot
    days: Mapping[AdnlId, int]
    """Of a first list: on how many of the last seven days each was listed, by the median."""
    agreeing: int
    """Servers that had this very list,"""
    answering: int
    """of so many that were asked and answered."""
    live: int
    """Nodes that are there, by the median of what servers say."""


@final
class Fetch:
    """One fetch: `run` it once. `asked` and `aside` hold whatever becomes of it.

    `own` is the last list that we had; `held` knows adverts that we have. With `least` 1, which is
    for dev networks, one server is believed if no other answers.
    """

    def __init__(
        self,
        asking: Asking,
        entropy: Entropy,
        rules: Rules,
        *,
        cut: int,
        own: Snapshot | None,
        sources: Sequence[AdnlId],
        held: Callable[[Digest], Advert | None],
        read: Read = adverts.read,
        least: int = 2,
    ) -> None:
        self._asking = asking
        self._entropy = entropy
        self._cut = cut
        self._own = own
        self._sources = list(sources)
        self._least = least
        self._collector = Collector(asking, rules, cut=cut, held=held, read=read)

        adverts_had = () if own is None else own.adverts
        self._known = {advert.id[:PREFIX_SIZE]: None for advert in adverts_had}
        self._answering: list[Witness] = []
        self._witnesses: list[Witness] = []
        self.asked: list[AdnlId] = []
        """Servers that know now that we take the list."""
        self.aside: list[AdnlId] = []
        """Those of them that are not to be asked again for a while."""

    @property
    def good(self) -> list[AdnlId]:
        """Those that are worth being asked again."""
        return [witness.peer for witness in self._witnesses if witness.peer not in self.aside]

    async def run(self) -> Fetched:
        """The list. Raises `DirectorySplit`, and `Unreachable` if too few servers answer."""
        await self._greet(WITNESSES)
        if len(self._witnesses) < self._least:
            raise Unreachable("too few directory servers have answered")
        if self._own is not None and self._agree_on_root():
            updated = await self._update(self._own)
            if updated is not None:
                return self._result(updated, {})
        await self._compare()
        return await self._collect()

    # --- whom to ask ---

    async def _greet(self, count: int) -> bool:
        """Ask for roots until there are so many witnesses; whether there are more than before."""
        before = len(self._witnesses)
        while wanted := self._next_sources(count):
            self.asked += wanted
            roots = await self._asking.all_of(
                [self._asking.root(peer, self._cut, NO_ROOT) for peer in wanted]
            )
            for peer, root in zip(wanted, roots, strict=True):
                if isinstance(root, Rooted):
                    self._witnesses.append(Witness(peer, root))
                    self._answering.append(self._witnesses[-1])
                else:
                    self._blame(peer, root)
        return len(self._witnesses) > before

    def _next_sources(self, count: int) -> list[AdnlId]:
        wanted = min(count - len(self._witnesses), MOST_ASKED - len(self.asked))
        return [peer for peer in self._sources if peer not in self.asked][: max(0, wanted)]

    def _blame(self, peer: AdnlId, failure: Failure) -> None:
        """What came was junk, or it could not be carried."""
        if isinstance(failure, RemoteError) and not isinstance(failure, Rejected):
            self.aside.append(peer)

    def _agree_on_root(self) -> bool:
        return len({witness.rooted.root: None for witness in self._witnesses}) == 1

    # --- all say the same: what differs from ours, from one of them ---

    async def _update(self, own: Snapshot) -> Snapshot | None:
        for witness in sample(self._entropy, self._witnesses, len(self._witnesses)):
            try:
                found = await self._updated(own, witness)
            except Failures as failure:
                self._blame(witness.peer, failure)
                continue
            if found is not None and found.root == witness.rooted.root:
                return found
            if found is not None:
                self.aside.append(witness.peer)
        return None

    async def _updated(self, own: Snapshot, witness: Witness) -> Snapshot | None:
        """Its list, made from ours; None if it did not give all of it."""
        if own.root == witness.rooted.root:
            return Snapshot(self._cut, own.adverts)
        numbers, items = await self._differing(own, witness)
        wanted = {item.digest: [witness.peer] for item in items}
        await self._collector.get(wanted)
        if self._collector.missing(wanted):
            return None
        found = self._collector.fitting(item.entry for item in items)
        return self._collector.snapshot([*_others(own, numbers), *found])

    async def _differing(
        self, own: Snapshot, witness: Witness
    ) -> tuple[Sequence[int], Sequence[Item]]:
        """The buckets that differ from ours, and what the witness has in them."""
        hashes = await self._asking.buckets(witness.peer, self._cut)
        numbers = differing(own.buckets, hashes)
        items = await self._asking.items(witness.peer, self._cut, numbers) if numbers else ()
        return numbers, items

    # --- they differ, or we have nothing: the lists of all ---

    async def _compare(self) -> None:
        """Find witnesses that agree as far as honest ones do, three if there are."""
        while True:
            await self._take_lists()
            honest = agreeing(self._witnesses)
            if len(honest) >= self._least:
                self.aside += [one.peer for one in self._witnesses if one not in honest]
                self._witnesses = honest
                if len(honest) >= WITNESSES or not await self._greet(WITNESSES):
                    return
            elif not await self._greet(MOST_ASKED):
                break
        if len(self._witnesses) < self._least:
            raise Unreachable("too few directory servers have shown their lists")
        raise DirectorySplit("no two directory servers agree")

    async def _take_lists(self) -> None:
        """Have the list of each witness; who does not give it is none."""
        silent = [witness for witness in self._witnesses if witness.entries is None]
        outcomes = await self._asking.all_of([self._entries(witness) for witness in silent])
        for witness, outcome in zip(silent, outcomes, strict=True):
            if isinstance(outcome, dict):
                witness.show(outcome, self._known.__contains__)
            else:
                self._witnesses.remove(witness)
                self._blame(witness.peer, outcome)

    async def _entries(self, witness: Witness) -> dict[bytes, int]:
        """All that it lists; what its hashes say to be as in our list is not asked for."""
        if self._own is None:
            items = await self._asking.items(witness.peer, self._cut, range(BUCKETS))
            return {item.entry: item.days for item in items}
        numbers, listed = await self._differing(self._own, witness)
        same = {entry_of(advert): 0 for advert in _others(self._own, numbers)}
        return same | {item.entry: item.days for item in listed}

    # --- the adverts of what two of them list ---

    async def _collect(self) -> Fetched:
        listed = holders(self._witnesses)
        wanted = {Digest(entry[PREFIX_SIZE:]): peers for entry, peers in listed.items()}
        if self._own is None and self._collector.missing(wanted) > TOGETHER:
            await self._collector.pull(wanted, [witness.peer for witness in self._witnesses])
        await self._collector.get(wanted)
        if self._collector.missing(wanted) > tolerance(len(wanted)):
            raise Unreachable("directory servers do not give what they list")
        found = self._collector.fitting(listed)
        return self._result(self._collector.snapshot(found), self._days(found))

    # --- what came of it ---

    def _days(self, found: Sequence[Advert]) -> dict[AdnlId, int]:
        """None of the witnesses alone makes a relay a stable one."""
        if self._own is not None:
            return {}
        lists = [witness.entries or {} for witness in self._witnesses]
        return {
            advert.id: median_low([entries.get(entry_of(advert), 0) for entries in lists])
            for advert in found
        }

    def _result(self, found: Snapshot, days: Mapping[AdnlId, int]) -> Fetched:
        return Fetched(
            list=found,
            days=days,
            agreeing=sum(witness.rooted.root == found.root for witness in self._answering),
            answering=len(self._answering),
            live=median_low([witness.rooted.live for witness in self._witnesses]),
        )


def _others(own: Snapshot, numbers: Sequence[int]) -> list[Advert]:
    """The adverts of all buckets but these."""
    rest = [number for number in range(BUCKETS) if number not in numbers]
    return [advert for number in rest for advert in own.bucket(number)]
