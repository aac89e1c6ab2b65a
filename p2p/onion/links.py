"""All links of a node, and the one way by which its circuits send on them."""

from collections import Counter
from collections.abc import Sequence
from typing import final

from p2p import defaults
from p2p.core import Event, Send, Source
from p2p.entropy import Entropy
from p2p.errors import OnionError
from p2p.identity import AdnlId
from p2p.onion.cell import Command, DestroyReason, Frame, handshake_frames
from p2p.onion.events import CloseLink, Misbehaved, NotKept
from p2p.onion.link import ASKS, KEEPS, LISTED, Hello, LinkCore, Port, Side, unpack_grants
from p2p.onion.path import DirectoryView
from p2p.onion.shaping import Pacer
from p2p.onion.timers import Due, Key, Timers


@final
class Links:
    """Finds links by number, by source and by peer; queues frames; writes them out.

    Links that are to be closed are put in `condemned`: whoever owns the circuits ends them.
    """

    def __init__(
        self,
        *,
        me: AdnlId,
        network: int,
        listed: bool,
        keeps: bool,
        view: DirectoryView,
        timers: Timers,
        entropy: Entropy,
    ) -> None:
        self.events: list[Event] = []
        self.condemned: list[LinkCore] = []
        self.queued = 0
        """Frames in the queues of circuits."""
        self.strikes = 0
        """Offences of all links so far."""
        self.destroys: Counter[str] = Counter()
        """DESTROYs sent, by reason."""
        self._me = me
        self._network = network
        self._flags = LISTED if listed else 0
        self._view = view
        self._timers = timers
        self._entropy = entropy
        self._count = 0
        self._by_number: dict[int, LinkCore] = {}
        self._by_source: dict[Source, LinkCore] = {}
        self._by_peer: dict[AdnlId, list[LinkCore]] = {}
        self._unlisted = 0
        self._keeps = keeps
        """We keep links to nodes that cannot be dialled."""
        self._kept = 0
        """Such links."""
        self._attachments: tuple[AdnlId, ...] = ()
        """Relays that are to keep links to us."""
        self._asks = False
        """Nobody can dial us."""
        self._dirty: dict[int, LinkCore] = {}

    # --- links ---

    def up(self, now: float, source: Source, peer: AdnlId, *, dialled: bool) -> LinkCore | None:
        """Take a link, and greet if we dialled it; None if there are too many of its class."""
        listed = self._view.relay(peer) is not None
        if not listed and self._unlisted >= defaults.LINKS_UNLISTED:
            return None
        if listed and len(self._by_number) - self._unlisted >= defaults.LINKS_LISTED:
            return None

        self._count += 1
        link = LinkCore(self._count, source, peer, dialled=dialled, entropy=self._entropy)
        link.counted_listed = listed
        link.heard = now
        self._unlisted += not listed
        self._by_number[link.number] = self._by_source[source] = link
        self._by_peer.setdefault(peer, []).append(link)
        self._timers.set(Key(Due.HELLO, link.number), now + defaults.HELLO_TIMEOUT)
        self._rest(now, link)
        if dialled:
            self._greet(now, link)
        return link

    def forget(self, link: LinkCore) -> list[Port]:
        """Drop a link that is gone; the ports whose circuits must be told."""
        self._unlisted -= not link.counted_listed
        self._kept -= link.is_attachment
        del self._by_number[link.number], self._by_source[link.source]
        siblings = self._by_peer[link.peer]
        siblings.remove(link)
        if not siblings:
            del self._by_peer[link.peer]
        self._dirty.pop(link.number, None)
        for due in (Due.HELLO, Due.WRITE, Due.PADDING, Due.REST, Due.PACED):
            self._timers.clear(Key(due, link.number))
        for circuit in link.halves:
            self._timers.clear(Key(Due.HALF, link.number, circuit))
        for circuit, port in link.ports.items():
            self._empty(port)
            self._timers.clear(Key(Due.GONE, link.number, circuit))
            self._timers.clear(Key(Due.LANE, link.number, circuit))
        return [port for port in link.ports.values() if port.side != Side.GONE]

    def at(self, source: Source) -> LinkCore | None:
        """The link that a driver means."""
        return self._by_source.get(source)

    def numbered(self, number: int) -> LinkCore | None:
        """The link of a port."""
        return self._by_number.get(number)

    def to(self, peer: AdnlId) -> LinkCore | None:
        """A link to a node for new circuits: of two, the one the smaller id dialled."""
        best = None
        for link in self._by_peer.get(peer, ()):
            if best is None or link.dialled == (self._me < peer):
                best = link
        return best

    def attach(self, relays: Sequence[AdnlId], *, asks: bool) -> None:
        """Keep the links to these; ask all whom we dial from now on to keep theirs, or do not."""
        self._attachments, self._asks = tuple(relays), asks

    def is_of_use(self, link: LinkCore) -> bool:
        """Whether a link is kept for circuits to come."""
        return link.is_attachment or link.peer in self._attachments

    def listed(self, link: LinkCore) -> bool:
        """Whether the peer is a node of the directory, and says so."""
        return link.claims_listing and self._view.relay(link.peer) is not None

    def greeted(self, now: float, link: LinkCore, body: bytes) -> None:
        """The peer's first frame is here: answer it if it dialled, or give the link up."""
        try:
            hello = Hello.unpack(body)
        except OnionError:
            self.condemn(link, "network")
            return
        link.hello = hello
        self._timers.clear(Key(Due.HELLO, link.number))
        if not link.greeted:
            self._keep(link, hello)
            self._greet(now, link)
        elif link.asks and not hello.flags & KEEPS:
            self.events.append(NotKept(link.peer))
        if hello.network != self._network:
            self.condemn(link, "network")

    def strike(self, link: LinkCore, reason: str) -> None:
        """The peer broke a rule; the third time it loses the link."""
        link.strikes += 1
        self.strikes += 1
        self.events.append(Misbehaved(link.source, reason))
        if link.strikes == defaults.STRIKES:
            self.condemn(link, "strikes")

    def condemn(self, link: LinkCore, reason: str) -> None:
        """Close a link as soon as the frame at hand is done with."""
        if not link.condemned:
            link.condemned = True
            self.condemned.append(link)
            self.events.append(CloseLink(link.source, reason))

    def doubt(self, now: float, port: Port) -> None:
        """Nothing comes on a circuit that should: if nothing at all does, the link is dead.

        As after a change of address, of which TCP hears nothing for a long time. Then so are others
        that we dialled, unless something has come: who pads is heard of every few seconds.
        """
        link = self._by_number.get(port.link)
        if link is None or now < link.heard + defaults.CIRCUIT_QUIET:
            return
        for other in list(self._by_number.values()):
            if other.dialled and other.heard + defaults.CIRCUIT_QUIET <= now:
                self.condemn(other, "dead")

    def idle(self, now: float, link: LinkCore, *, keep: bool) -> None:
        """The link's idle time is over: say so unless it is to be kept, and count anew."""
        if not keep:
            self.events.append(CloseLink(link.source, "idle"))
        self._rest(now, link)

    def pad(self, now: float, link: LinkCore) -> None:
        """The link's time of silence may be over: fill it."""
        if link.pacer is None and link.written + link.silence <= now:
            self._urge(link, Frame(0, Command.PADDING, 0, b""))
            link.written = now
        self._draw_silence(link)

    def pace(self, now: float, link: LinkCore, until: float) -> None:
        """Let frames of a link leave in slots of `LINK_PACE` alone, until then."""
        link.pacer = link.pacer or Pacer(defaults.LINK_PACE, now)
        link.pace_until = until
        self._timers.set(Key(Due.PACED, link.number), until)
        self._timers.clear(Key(Due.WRITE, link.number))
        self._dirty[link.number] = link

    def say(self, link: LinkCore, frame: Frame) -> None:
        """Queue a frame about the link itself."""
        self._urge(link, frame)

    # --- circuits ---

    def open(self, link: LinkCore, side: Side, number: int, circuit: int | None = None) -> Port:
        """A port for a circuit: under the peer's number, or a fresh one of ours."""
        asked = circuit is not None
        port = Port(
            link.number,
            circuit if circuit is not None else link.free_number(),
            side=side,
            number=number,
        )
        link.ports[port.circuit] = port
        link.open += 1
        link.asked += asked
        port.asked = asked
        self._timers.clear(Key(Due.REST, link.number))
        return port

    def retire(self, now: float, port: Port) -> None:
        """The circuit is over: keep its number for a while, and send what it still has queued."""
        link = self._by_number.get(port.link)
        if port.side == Side.GONE:
            return
        port.side = Side.GONE
        if link is None:
            return
        port.feeds = None
        link.open -= 1
        link.asked -= port.asked
        self._timers.set(Key(Due.GONE, port.link, port.circuit), now + defaults.GONE_TIME)
        if len(port.queue) > 1:
            self._timers.set(Key(Due.LANE, port.link, port.circuit), now + defaults.LANE_TIME)
        if not link.open:
            self._rest(now, link)

    def send(self, now: float, port: Port, command: Command, body: bytes) -> None:
        """Queue one frame of a circuit behind those it has."""
        link = self._by_number.get(port.link)
        if link is not None:
            link.push(now, port, Frame(port.circuit, command, 0, body))
            self.queued += 1
            self._dirty[link.number] = link

    def send_handshake(self, port: Port, command: Command, message: bytes) -> None:
        """Queue the two frames of a CREATE or CREATED side by side, ahead of all cells.

        In turns with other circuits the halves of many CREATEs would wait for each other.
        """
        link = self._by_number.get(port.link)
        if link is not None:
            for frame in handshake_frames(port.circuit, command, message):
                self._urge(link, frame)

    def destroy(self, now: float, port: Port, reason: DestroyReason) -> None:
        """End a circuit on its link, behind what is queued of it."""
        if port.side != Side.GONE:
            self.destroys[reason.name.lower()] += 1
            self.send(now, port, Command.DESTROY, bytes([reason]))
            self.retire(now, port)

    def ended(self, now: float, port: Port) -> None:
        """The peer ended the circuit: what is queued of it would be ignored there."""
        self._empty(port)
        self.retire(now, port)

    def give_up(self, now: float, link: LinkCore, circuit: int) -> None:
        """What an ended circuit had queued was not taken in time."""
        port = link.ports[circuit]
        if port.queue:
            self.cut(now, port, DestroyReason.LIMITS)

    def cut(self, now: float, port: Port, reason: DestroyReason) -> None:
        """End a circuit on its link at once, dropping what is queued of it."""
        self._empty(port)
        link = self._by_number.get(port.link)
        if link is not None:
            self.destroys[reason.name.lower()] += 1
            self._urge(link, Frame(port.circuit, Command.DESTROY, 0, bytes([reason])))
            self.retire(now, port)

    def turn_away(self, now: float, link: LinkCore, circuit: int, reason: DestroyReason) -> None:
        """Answer a CREATE by DESTROY alone, and keep its number for a while."""
        port = self.open(link, Side.ANSWERED, 0, circuit)
        self.destroy(now, port, reason)

    def expire(self, link: LinkCore, circuit: int) -> None:
        """A number has been kept long enough."""
        self._empty(link.ports.pop(circuit))
        self._timers.clear(Key(Due.LANE, link.number, circuit))

    def grant(self, link: LinkCore, body: bytes) -> list[Port]:
        """Take a CREDIT; the ports that may send more."""
        try:
            grants = unpack_grants(body)
        except OnionError:
            self.strike(link, "credit")
            return []
        granted = []
        for circuit, cells in grants:
            port = link.ports.get(circuit)
            if port is None:
                continue
            if not link.grant(port, cells):
                self.strike(link, "credit beyond what was used")
                port.credit = defaults.CREDIT_CELLS
            granted.append(port)
        self._dirty[link.number] = link
        return granted

    def consumed(self, port: Port) -> None:
        """A cell that came in on a circuit of our own is done with."""
        link = self._by_number.get(port.link)
        if link is not None and link.owe(port.meter):
            self._dirty[link.number] = link

    # --- writing ---

    def flush(self, now: float) -> list[Send]:
        """Everything that may leave now; a timer is set for the rest."""
        sends: list[Send] = []
        while self._dirty:
            number = next(iter(self._dirty))
            self._write_out(now, self._dirty.pop(number), sends)
        return sends

    def wake(self, link: LinkCore) -> None:
        """The bucket of a link lets a write through."""
        self._dirty[link.number] = link

    def oldest(self, target: int) -> list[Port]:
        """Ports by the age of their first frame, enough of them to get down to `target` frames."""
        ports = [port for link in self._by_number.values() for port in link.ports.values()]
        waiting = sorted((port for port in ports if port.queue), key=lambda port: port.since)
        left, chosen = self.queued, []
        for port in waiting:
            if left <= target:
                break
            left -= len(port.queue)
            chosen.append(port)
        return chosen

    def sizes(self) -> dict[str, int]:
        """The length of every table and queue."""
        links = self._by_number.values()
        return {
            "links": len(self._by_number),
            "kept": self._kept,
            "ports": sum(len(link.ports) for link in links),
            "halves": sum(len(link.halves) for link in links),
            "queued": self.queued,
            "dirty": len(self._dirty),
            "urgent": sum(link.queued_apart for link in links),
        }

    # --- inside ---

    def _greet(self, now: float, link: LinkCore) -> None:
        link.asks = link.dialled and self._asks
        flags = self._flags | ASKS * link.asks | KEEPS * link.is_attachment
        link.greet(Hello(network=self._network, unix=int(now), flags=flags))
        link.written = now
        self._draw_silence(link)
        self._dirty[link.number] = link

    def _keep(self, link: LinkCore, hello: Hello) -> None:
        if self._keeps and hello.flags & ASKS and self._kept < defaults.LINKS_KEPT:
            link.is_attachment = True
            self._kept += 1

    def _draw_silence(self, link: LinkCore) -> None:
        least, most = (
            defaults.PADDING_LISTED
            if self._flags and self.listed(link)
            else defaults.PADDING_UNLISTED
        )
        link.silence = least + (most - least) * self._entropy.uniform()
        self._timers.set(Key(Due.PADDING, link.number), link.written + link.silence)

    def _empty(self, port: Port) -> None:
        self.queued -= len(port.queue)
        port.queue.clear()

    def _rest(self, now: float, link: LinkCore) -> None:
        self._timers.set(Key(Due.REST, link.number), now + defaults.LINK_IDLE)

    def _urge(self, link: LinkCore, frame: Frame) -> None:
        link.urge(frame)
        self._dirty[link.number] = link

    def _write_out(self, now: float, link: LinkCore, sends: list[Send]) -> None:
        while True:
            data, passed, taken = link.write(now)
            self.queued -= taken
            for meter in passed:
                origin = self._by_number.get(meter.link)
                if origin is not None and origin.owe(meter):
                    self._dirty[origin.number] = origin
            if not data:
                break
            sends.append(Send(link.source, data))
        key = Key(Due.WRITE, link.number)
        if link.waiting and key not in self._timers:
            self._timers.set(key, link.write_at)
