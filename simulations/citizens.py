"""Nodes with an overlay and a directory on the message seam: who is there, and what each hears.

The cores are the real ones, put together as a stack does. Two things stand in for a DHT that
always works: everybody knows where everybody is, and members are found under one record.
"""

from collections.abc import Callable, Sequence
from typing import Final, final

from p2p.entropy import Entropy
from p2p.identity import AdnlId, Identity, short_id
from p2p.overlay.advert import Fields, Role, Rules
from p2p.overlay.announcer import Announcer
from p2p.overlay.core import PREFIXES, Broadcast, NeighboursChanged, OverlayCore
from p2p.overlay.directory_core import DirectoryCore, SayAgain, Server
from p2p.overlay.settings import Settings
from p2p.sender import MAX_DATAGRAM_PAYLOAD
from p2p.ton import AdnlAddressList, OverlayNode, PubEd25519
from p2p.wire import Endpoint
from simulations.memo import AdvertMemo
from simulations.network.places import address_of, endpoint_of
from simulations.seat import Seat

TOLD: Final = 5
"""members that one lookup in the DHT names at most"""


@final
class Register:
    """Where everybody is, and who says to be a member."""

    def __init__(self, identities: Sequence[Identity]) -> None:
        self._places = {one.id: (one.public, address_of(n)) for n, one in enumerate(identities)}
        self._members: dict[AdnlId, tuple[float, OverlayNode]] = {}

    def place(self, peer: AdnlId) -> tuple[bytes, AdnlAddressList] | None:
        """The key and the addresses of a node."""
        return self._places.get(peer)

    def told(self, now: float) -> list[OverlayNode]:
        """The last who said so before this instant, whoever has its turn first in it."""
        before = sorted((when, peer) for peer, (when, _) in self._members.items() if when < now)
        return [self._members[peer][1] for _, peer in before[-TOLD:]]

    def tell(self, now: float, record: OverlayNode) -> None:
        """A member says that it is one."""
        if isinstance(record.id, PubEd25519):
            self._members[short_id(record.id.key)] = now, record


@final
class Records:
    """What the overlay of a node finds and stores of members: by the clock of its seat."""

    def __init__(self, seat: Seat, register: Register) -> None:
        self._seat = seat
        self._register = register

    async def find(self, name: bytes) -> list[OverlayNode]:
        """Who is known to be a member."""
        return self._register.told(self._seat.now)

    async def store(self, name: bytes, record: OverlayNode) -> None:
        """Be known as one."""
        self._register.tell(self._seat.now, record)


@final
class Finding:
    """A `Sender` that looks peers up in the register before it speaks to them."""

    def __init__(self, seat: Seat, register: Register) -> None:
        self._seat = seat
        self._register = register
        self._found: dict[AdnlId, None] = {}

    def send(self, peer: AdnlId, payload: bytes) -> None:
        """See `Sender`."""
        self._find(peer)
        self._seat.send(peer, payload)

    async def query(
        self,
        peer: AdnlId,
        payload: bytes,
        *,
        timeout: float,  # noqa: ASYNC109 (of the protocol: how long a core waits in its own time)
        max_answer: int = MAX_DATAGRAM_PAYLOAD,
    ) -> bytes:
        """See `Sender`."""
        self._find(peer)
        return await self._seat.query(peer, payload, timeout=timeout, max_answer=max_answer)

    def learn(self, public: bytes, addresses: AdnlAddressList) -> None:
        """See `Sender`."""
        self._seat.learn(public, addresses)

    def _find(self, peer: AdnlId) -> None:
        place = None if peer in self._found else self._register.place(peer)
        if place is not None:
            self._found[peer] = None
            self._seat.learn(*place)


@final
class Citizen:
    """One life of a node: an `Upper` of its seat."""

    def __init__(
        self,
        seat: Seat,
        register: Register,
        roles: Role,
        entropy: Entropy,
        *,
        rules: Rules,
        settings: Settings,
        servers: Sequence[AdnlId],
        memo: AdvertMemo,
        heard: Callable[[int, float, bytes, bool], None],
    ) -> None:
        self._seat = seat
        self._roles = roles
        self._servers = servers
        self._heard = heard
        self._said = 0
        self.overlay = OverlayCore(
            seat.identity,
            Finding(seat, register),
            seat.procedures,
            entropy.fork("overlay"),
            network=rules.network,
            settings=settings,
            records=Records(seat, register),
        )
        self.directory = DirectoryCore(
            seat.identity.id,
            self.overlay.call,
            seat.procedures,
            entropy.fork("directory"),
            rules=rules,
            servers=[Server(peer, peer) for peer in servers],
            book=self.overlay.pulses,
            read=memo,
        )
        self.overlay.attach(self.directory)
        self._announcer = Announcer(
            seat.identity, rules, entropy.fork("advert"), lambda day: bytes(32), beating=True
        )
        there = endpoint_of(seat.index)
        self._announcer.listen((Endpoint(there.host, there.port),))
        seat.attach(self, *PREFIXES)

    def start(self, now: float) -> None:
        """Join."""
        serves = bool(self._roles)
        self.overlay.join(now, self._servers, serve=serves)
        self.directory.start(now, serve=serves)
        self._settle(now)

    def say(self, now: float) -> None:
        """Say what one is, from now on; a client says nothing."""
        if self._roles:
            self._announcer.say(now, Fields(roles=self._roles))
        self._settle(now)

    def sizes(self) -> dict[str, int]:
        """The length of every table."""
        return {**self._seat.sizes(), **self.overlay.sizes(), **self.directory.sizes()}

    # --- Upper ---

    def message(self, now: float, peer: AdnlId, payload: bytes) -> None:
        """See `Handler`."""
        self.overlay.message(now, peer, payload)
        self._settle(now)

    def query(self, now: float, peer: AdnlId, payload: bytes) -> bytes | None:
        """See `Handler`."""
        answer = self.overlay.query(now, peer, payload)
        self._settle(now)
        return answer

    def handle_timer(self, now: float) -> None:
        """See `Upper`."""
        self.overlay.handle_timer(now)
        self.directory.handle_timer(now)
        self._announcer.renew(now)
        pulse = self._announcer.beat(now)
        if pulse is not None:
            self.overlay.pulses.take(now, self._seat.identity.id, [pulse])
            self.overlay.pulse(now, [pulse])
        self._settle(now)

    def next_deadline(self) -> float | None:
        """See `Upper`."""
        cores = (self.overlay.next_deadline(), self.directory.next_deadline())
        times = (*cores, self._announcer.due())
        return min((when for when in times if when is not None), default=None)

    # --- inside ---

    def _settle(self, now: float) -> None:
        advert = self._announcer.advert
        if self._announcer.seq > self._said and advert is not None:
            self._said = self._announcer.seq
            self.overlay.broadcast(now, advert)
            self.directory.say(now, self._said, advert)
            self._heard(self._seat.index, now, advert, True)
        for event in self.overlay.drain():
            match event:
                case Broadcast(id=broadcast, source=source, data=data):
                    is_news = self.directory.offer(now, data, source)
                    (self.overlay.accept if is_news else self.overlay.refuse)(now, broadcast)
                    self._heard(self._seat.index, now, data, is_news)
                case NeighboursChanged(neighbours=neighbours):
                    self.directory.neighbours(now, neighbours)
                case _:
                    pass
        for told in self.directory.drain():
            if isinstance(told, SayAgain):
                self.overlay.broadcast(now, told.advert)
