"""What a node does for others who want to know whether they can be reached.

It tells them where they seem to be; and it asks a stranger to reach them there, if that is the
address that they come from: nobody can have a third party spoken to by us.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias, final

from p2p.bucket import Buckets, full_bucket
from p2p.entropy import Entropy, choice
from p2p.identity import AdnlId, short_id
from p2p.overlay import bodies
from p2p.overlay.advert import Rules
from p2p.overlay.bodies import Address, Reached, Refusal, Ring
from p2p.overlay.fields import host_of
from p2p.wire import Endpoint

ASK_RATE, ASK_BURST = 0.1, 12.0
"""whoami and probe calls a second of one peer, and at once: it asks for both transports."""

RING_RATE, RING_BURST = 2.0, 20.0
"""strangers reached a second, and at once, for all: each is a packet, or a dial of a link."""

PEERS: Final = 1_024
"""peers whose calls are counted."""


class Seen(NamedTuple):
    """How a peer is known to us: by its key, and where it last spoke to us from."""

    public: bytes
    address: Address
    """Of UDP, if it has spoken to us over that within the last minutes."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send this cast to a peer that we know."""

    peer: AdnlId
    body: bytes


@dataclass(frozen=True, slots=True)
class SendThere:
    """Send this cast to the node of this key, at this address and over its transport alone."""

    public: bytes
    address: Address
    body: bytes


Output: TypeAlias = Send | SendThere


@final
class Doorbell:
    """`answer` calls 7 and 8, `hear` cast 18.

    `seen` says how a peer is known, `servers` others, `said` where a node says that it is.
    """

    def __init__(
        self,
        rules: Rules,
        entropy: Entropy,
        *,
        seen: Callable[[AdnlId], Seen | None],
        servers: Callable[[], Sequence[AdnlId]],
        said: Callable[[AdnlId], Sequence[Endpoint]],
    ) -> None:
        self._rules = rules
        self._entropy = entropy
        self._seen = seen
        self._servers = servers
        self._said = said
        self._asks = Buckets[AdnlId](ASK_RATE, ASK_BURST, PEERS)
        self._rings = full_bucket(RING_RATE, RING_BURST, 0.0)
        self._outputs: list[Output] = []

    def answer(self, now: float, peer: AdnlId, call: bodies.Whoami | bodies.Probe) -> bytes:
        """The answer to a call of this peer."""
        seen = self._seen(peer)
        if seen is None:
            return bodies.pack_refusal(Refusal.UNKNOWN)
        if not self._asks.take(now, peer):
            return bodies.pack_refusal(Refusal.BUSY)
        match call:
            case bodies.Whoami():
                return bodies.pack_seen(seen.address)
            case bodies.Probe(nonce, address):
                return self._probe(now, peer, seen, Ring(nonce, seen.public, address))

    def hear(self, now: float, peer: AdnlId, ring: Ring) -> None:
        """Another node asks us to be the stranger: servers may, and not often."""
        if peer in self._servers() and self._may_be_rung(ring) and self._rings.take(now):
            body = bodies.pack_cast(Reached(ring.nonce))
            self._outputs.append(SendThere(ring.public, ring.address, body))

    def drain(self) -> list[Output]:
        """What to send since the last call."""
        outputs, self._outputs = self._outputs, []
        return outputs

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables."""
        return {"doorbell_peers": len(self._asks), "doorbell_outputs": len(self._outputs)}

    def _probe(self, now: float, peer: AdnlId, seen: Seen, ring: Ring) -> bytes:
        if ring.address.endpoint.host != seen.address.endpoint.host:
            return bodies.pack_refusal(Refusal.REFUSED)
        strangers = [server for server in self._servers() if server != peer]
        if not strangers or not self._rings.take(now):
            return bodies.pack_refusal(Refusal.BUSY)
        body = bodies.pack_cast(ring)
        self._outputs.append(Send(choice(self._entropy, strangers), body))
        return bodies.pack_done()

    def _may_be_rung(self, ring: Ring) -> bool:
        """Not where none of the network can be, nor where its owner says that it is not."""
        endpoint, said = ring.address.endpoint, self._said(short_id(ring.public))
        is_elsewhere = bool(said) and endpoint.host not in [one.host for one in said]
        return not is_elsewhere and (self._rules.dev or host_of(endpoint).is_global)
