"""Strangers judge whether a node can be reached, and it rings at others' doors in turn.

Joins the judgement (`overlay.reach`) and the doorbell (`overlay.doorbell`) to what carries: UDP,
links and the casts of the overlay. Whoever owns this dials where it wants to `Knock`, and moves the
node to the addresses that hold (`Holds`).

What its operator says of where it is holds until strangers have failed to reach that very address,
or have found it at another of the same family.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias, final

from p2p.core import Procedures
from p2p.entropy import Entropy
from p2p.errors import CodecError
from p2p.identity import AdnlId, short_id
from p2p.overlay import bodies, doorbell
from p2p.overlay.advert import Rules
from p2p.overlay.asking import Asking
from p2p.overlay.bodies import Reached, Ring, Transport, address_of
from p2p.overlay.core import OverlayCore
from p2p.overlay.directory_core import DirectoryCore
from p2p.overlay.doorbell import Doorbell, Seen, SendThere
from p2p.overlay.epochs import calendar_of
from p2p.overlay.reach import PATIENCE, PROBES, Dialable, Reach, Reachability
from p2p.sending import Sending
from p2p.timers import soonest
from p2p.wire import Endpoint, Link

OPENED_FOR: Final = 300.0
"""seconds for which a router may let in whom we have sent a datagram (RFC 4787, REQ-5)."""

ERRANDS: Final = 64
"""nodes whose link is dialled only to show them a nonce."""

ERRAND_FOR: Final = PATIENCE
"""seconds after which nobody waits for that any longer."""


@dataclass(frozen=True, slots=True)
class Knock:
    """Try this node at this very endpoint, once, beside a dial of its own; `link_up` may answer."""

    peer: AdnlId
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class Holds:
    """Others can reach this node here, as far as anybody knows."""

    tcp: tuple[Endpoint, ...]
    udp: tuple[Endpoint, ...]


@dataclass(slots=True)
class _Errand:
    """What is to be shown to a peer once there is a link to this endpoint."""

    endpoint: Endpoint
    bodies: list[bytes]
    until: float

    def add(self, endpoint: Endpoint, body: bytes) -> None:
        """Two servers may send us to one door at once."""
        if endpoint == self.endpoint and len(self.bodies) < PROBES:
            self.bodies.append(body)


Output: TypeAlias = Knock | Holds | doorbell.Output


@final
class Reaching:
    """See the module. A node that does not `listen` is not judged, but rings at doors all the same.

    Its owner tells it of every link and every cast of the overlay, after `sending` knows of them.
    """

    def __init__(
        self,
        self_id: AdnlId,
        procedures: Procedures,
        entropy: Entropy,
        *,
        rules: Rules,
        sending: Sending,
        overlay: OverlayCore,
        directory: DirectoryCore,
    ) -> None:
        self._self_id = self_id
        self._sending = sending
        self._overlay = overlay
        self._bell = Doorbell(
            rules,
            entropy.fork("bell"),
            seen=self._seen,
            servers=directory.all_servers,
            said=directory.said_where,
        )
        directory.attach(self._bell)
        self._reach = Reach(
            Asking(self._call, procedures),
            procedures,
            entropy.fork("reach"),
            rules=rules,
            calendar=calendar_of(rules),
            servers=directory.servers,
            spoken_to=self._may_be_let_in,
        )

        self._configured: dict[Transport, tuple[Endpoint, ...]] = dict.fromkeys(Transport, ())
        self._held = Holds((), ())
        self._links: dict[AdnlId, dict[Link, bool]] = {}
        self._errands: dict[AdnlId, _Errand] = {}
        self._malformed = 0
        self._outputs: list[Output] = []

    # --- commands ---

    def listen(
        self,
        now: float,
        ports: Mapping[Transport, int],
        *,
        tcp: tuple[Endpoint, ...],
        udp: tuple[Endpoint, ...],
    ) -> None:
        """This node listens on these ports; its operator says that it can be reached there."""
        self._configured = {Transport.TCP: tcp, Transport.UDP: udp}
        self._held = Holds(tcp, udp)
        self._reach.listen(now, ports, self._configured)

    def link_up(self, now: float, link: Link, dialled: bool) -> None:
        """A link is open: what was to be shown to its peer is."""
        self._links.setdefault(link.peer, {})[link] = dialled
        errand = self._errands.pop(link.peer, None)
        for body in errand.bodies if errand else ():
            self._overlay.cast_to(now, link.peer, body)

    def link_down(self, link: Link) -> None:
        """A link is gone."""
        links = self._links[link.peer]
        del links[link]
        if not links:
            del self._links[link.peer]

    def dialling(self, peer: AdnlId, endpoints: Collection[Endpoint]) -> None:
        """The node itself dials: a link to another endpoint would prove nothing of an errand's."""
        errand = self._errands.get(peer)
        if errand is not None and errand.endpoint not in endpoints:
            del self._errands[peer]

    def hear(self, now: float, peer: AdnlId, body: bytes) -> None:
        """Take a cast of the overlay; those about other things are none of ours."""
        try:
            cast = bodies.read_cast(body)
        except CodecError:
            self._malformed += 1
            return
        match cast:
            case Reached(nonce):
                self._reach.reached(now, peer, nonce)
            case Ring():
                self._bell.hear(now, peer, cast)
            case None:
                pass

    def ring(self, now: float, output: doorbell.Output) -> None:
        """Send another to a door, or ring there: what `drain` gave, in its time."""
        match output:
            case doorbell.Send(peer, body):
                self._overlay.cast_to(now, peer, body)
            case SendThere():
                self._ring_there(now, output)

    # --- asking ---

    def known(self) -> list[Reachability]:
        """What is known, for each transport that is judged."""
        return self._reach.known()

    # --- the core's contract ---

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self._reach.handle_timer(now)
        for peer in [peer for peer, errand in self._errands.items() if errand.until <= now]:
            del self._errands[peer]

    def next_deadline(self) -> float | None:
        """When something is due."""
        errands = (errand.until for errand in self._errands.values())
        return soonest(self._reach.next_deadline(), *errands)

    def drain(self) -> list[Output]:
        """What the owner must do; `ring` does what is for doors."""
        if self._reach.drain():
            self._judge()
        outputs, self._outputs = [*self._bell.drain(), *self._outputs], []
        return outputs

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables."""
        return {
            **self._bell.sizes(),
            **self._reach.sizes(),
            "reach_links": sum(map(len, self._links.values())),
            "reach_errands": len(self._errands),
        }

    # --- for the judgement ---

    async def _call(
        self,
        peer: AdnlId,
        body: bytes,
        /,
        *,
        timeout: float,  # noqa: ASYNC109 (of the protocol, as in `Sender.query`)
        max_answer: int,
    ) -> bytes:
        """Over UDP, where that can be: a link does not show where our socket is."""
        query = partial(self._sending.query, shown=True)
        return await self._overlay.call(
            peer, body, timeout=timeout, max_answer=max_answer, query=query
        )

    def _may_be_let_in(self, peer: AdnlId, transport: Transport) -> bool:
        """For TCP a link that the peer has dialled proves what it should."""
        if transport is Transport.TCP:
            return all(self._links.get(peer, {}).values())
        return self._sending.spoken_to(peer, OPENED_FOR)

    def _judge(self) -> None:
        """What holds, of what strangers and the operator say."""
        verdicts = {known.transport: known for known in self._reach.known()}
        tcp, udp = (
            holding(verdicts.get(transport), self._configured[transport])
            for transport in (Transport.TCP, Transport.UDP)
        )
        holds = Holds(tcp, udp)
        if holds != self._held:
            self._held = holds
            self._outputs.append(holds)

    # --- at others' doors ---

    def _seen(self, peer: AdnlId) -> Seen | None:
        seen = self._sending.seen(peer)
        return seen and Seen(seen.public, address_of(Transport.UDP, seen.endpoint))

    def _ring_there(self, now: float, there: SendThere) -> None:
        peer, endpoint = short_id(there.public), there.address.endpoint
        if there.address.transport is Transport.UDP:
            payload = self._overlay.seal_cast(there.body)
            self._sending.send_there(there.public, endpoint, payload)
        elif peer in self._links:
            self._overlay.cast_to(now, peer, there.body)  # who dialled is seen by the other end
        elif peer in self._errands:
            self._errands[peer].add(endpoint, there.body)
        elif peer != self._self_id and len(self._errands) < ERRANDS:
            self._errands[peer] = _Errand(endpoint, [there.body], now + ERRAND_FOR)
            self._outputs.append(Knock(peer, endpoint))


def holding(known: Reachability | None, configured: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """Where a node can be reached over one transport, of what is known and what it was told."""
    if known is None or known.dialable is Dialable.UNKNOWN:
        return configured
    tried = known.endpoint
    if known.dialable is Dialable.NO:
        return tuple(endpoint for endpoint in configured if endpoint != tried)
    if tried is None or not known.lasts:
        return configured
    return (tried, *(endpoint for endpoint in configured if not _alike(endpoint, tried)))


def _alike(one: Endpoint, other: Endpoint) -> bool:
    """Whether both are of one family."""
    return (":" in one.host) is (":" in other.host)
