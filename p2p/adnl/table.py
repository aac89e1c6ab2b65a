"""All peers of a node, within a bound: found by id or by channel, forgotten when idle."""

from itertools import islice
from typing import Final, NamedTuple, final

from p2p.adnl.limits import Limits
from p2p.adnl.peer import Pair, Peer
from p2p.adnl.whereabouts import IDLE
from p2p.bucket import full_bucket
from p2p.errors import NoCapacity
from p2p.identity import AdnlId, Identity
from p2p.timers import Timers
from p2p.wire import Endpoint

TRIES: Final = 16
"""peers that are looked at for one idle enough to make room."""

GRAIN: Final = 1.0
"""seconds: order of use is kept no finer, so that a busy peer is not moved for each packet."""


class Contact(NamedTuple):
    """What upper layers told of a peer."""

    public: bytes
    endpoints: tuple[Endpoint, ...]


@final
class Table:
    """Peers in two orders of use: strangers, and those that once were heard in a channel.

    Whoever invents peers, with addresses that are not theirs, pushes out strangers only.
    """

    def __init__(self, limits: Limits) -> None:
        self.alarms: Timers[Pair] = Timers()
        """When a peer must be looked at again."""
        self.look_at: float | None = None
        """When to look for idle peers: no peer has been idle for long enough before."""
        self._limits = limits
        self._strangers: dict[Pair, Peer] = {}
        self._proven: dict[Pair, Peer] = {}
        self._channels: dict[bytes, Peer] = {}
        self._places: dict[Endpoint, Pair] = {}
        self._contacts: dict[AdnlId, Contact] = {}
        self._floor = 0
        """No peer that was forgotten has had a packet with a greater number from us. It remembers
        the numbers it saw: counted from zero again, packets would be taken for repeated ones."""

    # --- peers ---

    def find(self, pair: Pair) -> Peer | None:
        """The peer, if anything is known of it."""
        return self._proven.get(pair) or self._strangers.get(pair)

    def of_channel(self, in_id: bytes) -> Peer | None:
        """Whose channel a datagram came in."""
        return self._channels.get(in_id)

    def add(self, now: float, local: Identity, peer: AdnlId, *, invited: bool) -> Peer:
        """A peer that `find` does not find. Raises `NoCapacity` if no other is idle enough.

        `invited` if we have something for it: it may then take the place of any idle peer.
        """
        if len(self) >= self._limits.peers and not self._make_room(now, invited=invited):
            raise NoCapacity("all peers are in use")
        bucket = full_bucket(self._limits.peer_rate, self._limits.peer_burst, now)
        added = Peer(now, local, peer, bucket, self._floor)
        self._strangers[added.pair] = added
        if self.look_at is None:
            self.look_at = now + self._limits.idle_time
        return added

    def touch(self, now: float, peer: Peer) -> None:
        """A packet went either way."""
        if now - peer.touched >= GRAIN:
            peer.touched = now
            group = self._group(peer.pair)
            group[peer.pair] = group.pop(peer.pair)

    def place(self, peer: Peer) -> None:
        """The peer was heard in its channel, from its present endpoint."""
        if peer.pair in self._strangers:
            self._proven[peer.pair] = self._strangers.pop(peer.pair)
        self._leave(peer)
        peer.placed = peer.where.endpoint
        if peer.placed is not None:
            self._places[peer.placed] = peer.pair

    def is_place(self, endpoint: Endpoint) -> bool:
        """Whether a peer was heard in its channel from there."""
        return endpoint in self._places

    def index(self, peer: Peer) -> None:
        """The peer's channel may have changed."""
        if peer.indexed is not None:
            self._channels.pop(peer.indexed, None)
        channel = peer.handshake.channel
        peer.indexed = None if channel is None else channel.in_id
        if peer.indexed is not None:
            self._channels[peer.indexed] = peer

    def expire(self, now: float) -> None:
        """Forget the peers that have been idle for long enough, if it is time to look."""
        if self.look_at is None or now < self.look_at:
            return
        for group in self._groups():
            while group:
                peer = next(iter(group.values()))
                if peer.touched + self._limits.idle_time > now:
                    break
                if peer.busy:
                    self.touch(now, peer)
                else:
                    self._forget(peer)
        oldest = [next(iter(group.values())).touched for group in self._groups() if group]
        self.look_at = min(oldest) + self._limits.idle_time if oldest else None

    # --- contacts ---

    def tell(self, peer: AdnlId, contact: Contact) -> None:
        """An upper layer knows of a peer; the one told of longest ago is forgotten when full."""
        self._contacts.pop(peer, None)
        self._contacts[peer] = contact
        if len(self._contacts) > self._limits.contacts:
            del self._contacts[next(iter(self._contacts))]

    def contact(self, peer: AdnlId) -> Contact | None:
        """What upper layers told of it."""
        return self._contacts.get(peer)

    def give_up(self, peer: AdnlId) -> None:
        """The addresses told are wrong."""
        contact = self._contacts.get(peer)
        if contact is not None:
            self._contacts[peer] = contact._replace(endpoints=())

    def __len__(self) -> int:
        return len(self._strangers) + len(self._proven)

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables."""
        return {
            "strangers": len(self._strangers),
            "proven": len(self._proven),
            "channels": len(self._channels),
            "places": len(self._places),
            "contacts": len(self._contacts),
            "alarms": len(self.alarms),
        }

    # --- inside ---

    def _groups(self) -> tuple[dict[Pair, Peer], dict[Pair, Peer]]:
        return self._strangers, self._proven

    def _group(self, pair: Pair) -> dict[Pair, Peer]:
        return self._strangers if pair in self._strangers else self._proven

    def _make_room(self, now: float, *, invited: bool) -> bool:
        for group in self._groups():
            for peer in islice(group.values(), TRIES):
                protected = group is self._proven and not invited and now - peer.touched < IDLE
                if not peer.busy and not protected:
                    self._forget(peer)
                    return True
        return False

    def _forget(self, peer: Peer) -> None:
        del self._group(peer.pair)[peer.pair]
        if peer.indexed is not None:
            self._channels.pop(peer.indexed, None)
        self._leave(peer)
        self.alarms.clear(peer.pair)
        self._floor = max(self._floor, peer.sent)

    def _leave(self, peer: Peer) -> None:
        if peer.placed is not None and self._places.get(peer.placed) == peer.pair:
            del self._places[peer.placed]
