"""How a node comes to know others: seeds are met, neighbours looked for, buckets filled."""

from collections.abc import Callable, Coroutine, Iterable
from typing import Final, NamedTuple, TypeAlias, final

from p2p.core import Procedures
from p2p.dht.asking import Asking
from p2p.dht.events import Alone, Joined
from p2p.dht.lookup import together
from p2p.dht.settings import Settings, between
from p2p.dht.table import ID_BITS, Table
from p2p.entropy import Entropy, choice, sample
from p2p.identity import AdnlId, short_id
from p2p.ton import AdnlAddressList, DhtNode

MAX_SEEDS: Final = 128
"""nodes to begin with that are remembered: those of a configuration, and 64 of before."""

MEET_AT_ONCE: Final = 6
"""of them that are asked at a time."""

Find: TypeAlias = Callable[[bytes], Coroutine[object, None, list[DhtNode]]]


class Seed(NamedTuple):
    """A node to begin with of which no signed record is at hand."""

    public: bytes
    addresses: AdnlAddressList


@final
class Joining:
    """`fill` is a procedure that whoever holds this starts when it is due."""

    def __init__(
        self,
        own: AdnlId,
        table: Table,
        asking: Asking,
        find: Find,
        procedures: Procedures,
        entropy: Entropy,
        settings: Settings,
    ) -> None:
        self._own = own
        self._table = table
        self._asking = asking
        self._find = find
        self._procedures = procedures
        self._entropy = entropy
        self._settings = settings

        self.due: float | None = None
        """When `fill` is."""
        self._seeds: dict[AdnlId, Seed] = {}
        self._sought = self._found = 0
        self._filling = False
        self._joined = False

    @property
    def neighbours_known(self) -> bool:
        """Whether a lookup of our own id was answered since they were sought last.

        Before that nothing should be published: it would stand with whoever was met first.
        """
        return 0 < self._found == self._sought

    def add(self, seeds: Iterable[DhtNode | Seed]) -> None:
        """Remember nodes to begin with; not those whose record is none, nor us, nor too many."""
        for seed in seeds:
            found = self._seed(seed)
            if found is not None and len(self._seeds) < MAX_SEEDS:
                self._seeds[short_id(found.public)] = found

    def seek(self, now: float) -> None:
        """Look for our neighbours soon: to know them and, as a server, to be known by them."""
        self._sought += 1
        self.due = now

    def settle(self, now: float) -> None:
        """Our neighbours are known: go on as if they had been found."""
        self._found = self._sought = max(self._sought, 1)
        self.due = now + between(self._settings.bucket_fill, self._entropy)

    async def fill(self, now: float) -> None:
        """Meet somebody if nobody is known; look for our neighbours, and later fill a bucket."""
        self.due = now + between(self._settings.bucket_fill, self._entropy)
        if self._filling:
            return
        self._filling, sought = True, self._sought
        try:
            if not self._table.active_count:
                await self._meet()
            if self.neighbours_known:
                await self._fill_bucket(choice(self._entropy, self._table.with_room()))
            elif await self._find(self._own):
                await self._know_neighbours(sought)
        finally:
            self._filling = False
        if sought != self._sought:
            self.due = self._asking.now

    def notice(self) -> Joined | Alone | None:
        """What there is to tell: that there is somebody to ask now, or nobody any more."""
        active = self._table.active_count
        if bool(active) is self._joined:
            return None
        self._joined = not self._joined
        return Joined(active) if active else Alone()

    def __len__(self) -> int:
        return len(self._seeds)

    def _seed(self, seed: DhtNode | Seed) -> Seed | None:
        if not isinstance(seed, Seed):
            node = self._asking.believe(seed)
            if node is None:
                return None
            seed = Seed(node.public, node.addresses)
        return seed if short_id(seed.public) != self._own else None

    async def _meet(self) -> None:
        seeds = sample(self._entropy, list(self._seeds.values()), MEET_AT_ONCE)
        await together(self._procedures, [self._asking.meet(*seed) for seed in seeds])

    async def _know_neighbours(self, sought: int) -> None:
        self._found = sought
        for place in self._table.with_room()[:-1]:
            await self._fill_bucket(place)

    async def _fill_bucket(self, place: int) -> None:
        """Look for a random id that shares exactly so many bits with ours."""
        low = ID_BITS - place - 1
        high = int.from_bytes(self._own, "big") >> low ^ 1
        rest = int.from_bytes(self._entropy.token(ID_BITS // 8), "big") & ((1 << low) - 1)
        await self._find((high << low | rest).to_bytes(ID_BITS // 8, "big"))
