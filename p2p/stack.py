"""The cores of one node joined: what the trio driver and the simulated worlds both run.

A source is a `Link`, whose data are `wire` messages, or the `Endpoint` of a datagram of ADNL. Onion
frames go to the circuits' core; what ADNL, RLDP2 and links carry in TL goes by its first four bytes
to the DHT or the overlay; calls of the layers above have a map as body. All name peers by id: the
stack finds out where a peer is, asks the carrier once for a link, and tells whoever waits.
"""

from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from p2p import attaching, calls, parts, reaching, sending, tl, wire
from p2p.adnl.address import address_list
from p2p.adnl.clocks import ClockOffset
from p2p.attaching import Attached, Attaching, Seek
from p2p.calls import Calls, Query
from p2p.calls import Replied as Replied
from p2p.calls import Unanswered as Unanswered
from p2p.core import Event, Procedure, Procedures, Send, Source
from p2p.entropy import Entropy
from p2p.errors import CodecError, DirectoryStale
from p2p.identity import AdnlId, Identity
from p2p.kept import Kept as Kept
from p2p.kept import KeptGuard
from p2p.locator import Locator
from p2p.locator import Peer as Peer
from p2p.onion import core as onion
from p2p.onion.cell import MAX_RELAYS
from p2p.onion.core import (
    CircuitId,
    Misbehaved,
    NotKept,
    OnionCore,
    OnionKeys,
    OnionStatistics,
    Overview,
    Shape,
)
from p2p.onion.handshake import Target
from p2p.overlay import core as membership
from p2p.overlay import directory_core
from p2p.overlay.advert import Fields, Rules
from p2p.overlay.announcer import Announcer
from p2p.overlay.bodies import Refusal
from p2p.overlay.bodies import Transport as Transport
from p2p.overlay.directory_core import DirectoryCore
from p2p.overlay.epochs import calendar_of
from p2p.overlay.events import Contradiction as Contradiction
from p2p.overlay.events import DirectoryChanged as DirectoryChanged
from p2p.overlay.events import Joined as Joined
from p2p.overlay.events import Published as Published
from p2p.overlay.events import SayAgain
from p2p.overlay.events import Split as Split
from p2p.overlay.listing import Listing
from p2p.overlay.reach import Reachability as Reachability
from p2p.parts import StackConfig as StackConfig
from p2p.presence import Presence
from p2p.reaching import Holds as Holds
from p2p.reaching import Knock as Knock
from p2p.reaching import Reaching
from p2p.timers import soonest
from p2p.wire import Endpoint, Kind, Link, Message

MAX_STRIKES: Final = 3
"""broken rules after which a link is closed."""

MAX_ROUNDS: Final = 10_000
"""rounds of one drain; more would mean that two cores answer each other for ever."""


@dataclass(frozen=True, slots=True)
class Dial:
    """A link to `peer` is wanted; answer with `link_up` or `dial_failed`."""

    peer: AdnlId
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class HangUp:
    """Close the link; `link_down` answers."""

    link: Link
    dead: bool = False
    """Nothing written to it arrives: no farewell is waited for."""


@dataclass(frozen=True, slots=True)
class WorkWanted:
    """An advert of this day needs a nonce: find one by `advert.solve`, answer with `work`."""

    public: bytes
    day: int


@final
class Stack:
    """A node without I/O. Commands: links and adverts here, circuits as in `OnionCore`.

    `directory` may be read at any time. A `now` that falls raises `ValueError`.
    """

    def __init__(
        self,
        identity: Identity,
        entropy: Entropy,
        config: StackConfig,
        onion_keys: OnionKeys | None = None,
    ) -> None:
        self._identity = identity
        self._id, self._public = identity.id, identity.public
        self._config = config
        self._rules = Rules(network=config.network, dev=config.dev)
        first = [peer.id for peer in config.bootstrap]
        self._bootstrap = [peer for peer in first if peer != identity.id]
        keys = onion_keys or OnionKeys(entropy.fork("onion-keys"))

        self._procedures = Procedures()
        self._sending = parts.sending(identity, entropy, config)
        self._links: dict[AdnlId, list[Link]] = {}
        self._places = parts.Places(self._bootstrap, self._links, self._sending)
        self.dht = parts.dht(identity, entropy, config, self._sending, self._procedures)
        self.overlay = parts.overlay(
            identity, entropy, config, self._sending, self._procedures, self.dht
        )

        self._directory = DirectoryCore(
            identity.id,
            self.overlay.call,
            self._procedures,
            entropy.fork("directory"),
            rules=self._rules,
            servers=parts.servers(config),
            book=self.overlay.pulses,
            discreet=not config.roles,
            place=self._places.of,
        )
        self.directory: Listing = self._directory.listing
        self.overlay.attach(self._directory)
        self._places.listing = self.directory
        self.overlay.trust(self._places.is_vouched)
        self._locator = Locator(
            identity.id, config.bootstrap, self.directory, self.dht, dev=config.dev
        )
        self._announcer = Announcer(
            identity,
            self._rules,
            entropy.fork("advert"),
            keys.public,
            beating=True,
            patient=bool(config.roles),
            first=config.seq,
        )
        self._presence = Presence(
            identity,
            udp=config.udp,
            version=config.started_at,
            sending=self._sending,
            dht=self.dht,
            overlay=self.overlay,
            directory=self._directory,
            announcer=self._announcer,
        )
        self._reaching = Reaching(
            identity.id,
            self._procedures,
            entropy.fork("reaching"),
            rules=self._rules,
            sending=self._sending,
            overlay=self.overlay,
            directory=self._directory,
        )
        self._attaching = Attaching(
            identity.id,
            self.directory,
            entropy.fork("attaching"),
            calendar=calendar_of(self._rules),
            linked=self._links.__contains__,
        )
        self._onion = OnionCore(
            identity,
            keys,
            self.directory,
            entropy.fork("onion"),
            parts.onion_config(config),
            config.kept.guards,
        )

        self._calls = Calls()

        self._now = 0.0
        self._deadline: float | None = None
        self._is_touched = True
        self._strikes: dict[Link, int] = {}
        self._dialling: dict[AdnlId, tuple[Endpoint, ...]] = {}
        self._announced = 0
        self._work_wanted: int | None = None
        self._sends: list[Send] = []
        self._events: list[Event] = []

    # --- commands: links ---

    def start(
        self,
        now: float,
        addresses: tuple[Endpoint, ...] = (),
        udp: tuple[Endpoint, ...] = (),
        ports: Mapping[Transport, int] | None = None,
    ) -> None:
        """Take part; `addresses` is where others can dial this node, `udp` where its socket is.

        A node that nobody knows only asks: it stands in no table of the DHT and is no member of the
        overlay. One that names the `ports` on which it listens has strangers find out whether they
        can be reached, and moves to where it can.
        """
        self._pass(now)
        for peer in self._config.bootstrap:
            self._sending.learn(peer.public, address_list(peer.endpoints, 0))
        self._announcer.listen(addresses, udp if addresses else ())
        if self._config.roles:
            nodes = parts.records(self._config.kept)
            self._presence.join(now, self._config.bootstrap, nodes, tcp=addresses, udp=udp)
            self._reaching.listen(now, ports or {}, tcp=addresses, udp=udp)
            self._attach(now, not addresses)
        self._directory.restore(now, self._config.kept.adverts)
        self._directory.start(now, serve=bool(self._config.roles and (addresses or udp)))

    def link_up(self, now: float, link: Link, dialled: bool) -> None:
        """A link is open; `dialled` if this node asked for it."""
        self._pass(now)
        self._links.setdefault(link.peer, []).append(link)
        self._dialling.pop(link.peer, None)
        self._onion.link_up(now, link, link.peer, dialled=dialled)
        self._attaching.link_up(now, link.peer)
        self._sending.link_up(link)
        self._reaching.link_up(now, link, dialled)
        self._calls.link_up(link)

    def link_down(self, now: float, link: Link) -> None:
        """A link is gone. One that was never up is no error: it may have been refused."""
        self._pass(now)
        self._part(now, link)

    def _part(self, now: float, link: Link) -> None:
        links = self._links.get(link.peer, [])
        if link not in links:
            return
        links.remove(link)
        self._strikes.pop(link, None)
        self._onion.link_down(now, link)
        self._sending.link_down(link)
        self._reaching.link_down(link)
        self._calls.link_down(link)
        if not links:
            del self._links[link.peer]
            self._attaching.link_down(now, link.peer)

    def dial_failed(self, now: float, peer: AdnlId) -> None:
        """What `Dial` asked for cannot be had."""
        self._pass(now)
        self._dialling.pop(peer, None)
        self._onion.dial_failed(now, peer)
        self._sending.unreachable(peer)
        self._calls.dial_failed(peer)

    def linked(self) -> tuple[AdnlId, ...]:
        """The peers to whom a link is open."""
        return tuple(self._links)

    def reach(self) -> list[Reachability]:
        """What strangers have found out, for each transport that this node listens on."""
        return self._reaching.known()

    def attachments(self) -> tuple[AdnlId, ...]:
        """The relays over whose links circuits reach a node that cannot be dialled."""
        return self._attaching.relays()

    def holds(self) -> Holds:
        """Where others are told to reach this node."""
        return Holds(self._presence.tcp, self._presence.udp)

    def kept(self) -> Kept:
        """What helps the next start."""
        nodes = self.dht.snapshot().nodes
        return Kept(
            nodes=tuple(tl.pack(node, boxed=False) for node in nodes),
            adverts=tuple(self._directory.kept()),
            guards=self._onion.guards(),
        )

    def overview(self, now: float) -> Overview:
        """What the node's owner may see of its circuits."""
        return self._onion.overview(now)

    def guards(self) -> tuple[KeptGuard, ...]:
        """The first relays of its circuits."""
        return self._onion.guards()

    # --- commands: what we say of ourselves ---

    def publish(self, now: float, fields: Fields) -> int:
        """Say this of ourselves, and keep saying it.

        `Published` of the seq returned, or of a greater one, follows once two directory servers
        hold it, or the only one there is.
        Raises `ValueError` for fields that nobody would take.
        """
        self._pass(now)
        before = self._announcer.seq
        self._announcer.say(now, fields)
        self._announce(now)
        return before + 1

    def withdraw(self, now: float) -> int:
        """Say that we leave, if we ever said that we are here; as `publish`."""
        self._pass(now)
        self._announcer.leave(now)
        self._announce(now)
        return self._announcer.seq

    def is_busy(self, now: float, *, busy: bool) -> None:
        """Say by pulses that work is refused from now on, or taken again; nobody else is told."""
        self._pass(now)
        if not busy:
            self._announcer.free()
        elif (pulse := self._announcer.busy(now)) is not None:
            self.overlay.pulse(now, [pulse])

    def work(self, now: float, day: int, nonce: bytes) -> None:
        """The answer to `WorkWanted`."""
        self._pass(now)
        self._announcer.work(now, day, nonce)
        self._announce(now)

    # --- commands: calls, as in `Calls` ---

    def query(self, now: float, peer: AdnlId, body: bytes) -> int:
        """Ask a peer: `Replied` or `Unanswered` of the number returned follows within 10 s.

        Raises `NoCapacity` while too many are outstanding, `ValueError` for a body that is no map.
        """
        self._pass(now)
        return self._calls.query(now, peer, body)

    def forget(self, now: float, number: int) -> None:
        """Nobody waits for the answer to this query any longer."""
        self._pass(now)
        self._calls.forget(number)

    def answer(self, now: float, query: Query, body: bytes) -> None:
        """Answer a `Query`; too late is no error. Raises `ValueError` for a body that is no map."""
        self._pass(now)
        self._calls.answer(query, body)

    def decline(self, now: float, query: Query) -> None:
        """Say that we are too busy for a `Query`."""
        self._pass(now)
        self._calls.refuse(query, Refusal.BUSY)

    # --- commands: circuits, as in `OnionCore` ---

    def path(
        self,
        now: float,
        worker: AdnlId,
        relays: int = MAX_RELAYS,
        suspects: Sequence[AdnlId] = (),
    ) -> list[Target]:
        """Relays drawn by the path rules, then the worker. Raises `NoPath` and `DirectoryStale`.

        Whoever served us the directory has seen our address: it should not see the worker's too.
        `suspects`, which have just failed a circuit, stand in a path only if they must.
        """
        self._pass(now)
        self._directory.use(now)
        if self.directory.is_stale(now):
            raise DirectoryStale("nobody has confirmed the directory for too long")
        acquainted = self._directory.acquainted()
        return self._onion.path(now, worker, relays, acquainted=acquainted, suspects=suspects)

    def open(
        self,
        now: float,
        path: Sequence[Target],
        request: bytes,
        *,
        rate: int = 0,
        resumable: bool = False,
    ) -> CircuitId:
        """Ask the last of `path` through the others: `Opened` or `Failed` in 10 s."""
        self._pass(now)
        return self._onion.open(now, path, request, rate=rate, resumable=resumable)

    def resume(self, now: float, circuit: CircuitId, path: Sequence[Target]) -> None:
        """Go on with a `Broken` circuit over another path: `Resumed` or `Unresumed`."""
        self._pass(now)
        self._onion.resume(now, circuit, path)

    def solved(self, now: float, circuit: CircuitId, issued: int, nonces: Sequence[int]) -> None:
        """The answer to `PuzzlesWanted`."""
        self._pass(now)
        self._onion.solved(now, circuit, issued, nonces)

    def accept(
        self,
        now: float,
        circuit: CircuitId,
        offer: bytes,
        *,
        rate: int = 0,
        resumable: bool = False,
    ) -> None:
        """Answer an `Incoming` with yes."""
        self._pass(now)
        self._onion.accept(now, circuit, offer, rate=rate, resumable=resumable)

    def refuse(self, now: float, circuit: CircuitId, reason: bytes) -> None:
        """Answer an `Incoming` with no."""
        self._pass(now)
        self._onion.refuse(now, circuit, reason)

    def send(self, now: float, circuit: CircuitId, stream: int, data: bytes) -> None:
        """Queue bytes of a stream. Raises `NoCapacity` beyond `writable`."""
        self._pass(now)
        self._onion.send(now, circuit, stream, data)

    def writable(self, circuit: CircuitId) -> int:
        """Bytes that `send` would take now."""
        return self._onion.writable(circuit)

    def end(self, now: float, circuit: CircuitId, stream: int) -> None:
        """Nothing follows on the stream."""
        self._pass(now)
        self._onion.end(now, circuit, stream)

    def reset(self, now: float, circuit: CircuitId, stream: int, code: int) -> None:
        """Give a stream up, both ways."""
        self._pass(now)
        self._onion.reset(now, circuit, stream, code)

    def ping(self, now: float, circuit: CircuitId) -> None:
        """Ask the endpoint for a sign of life: `Pong`."""
        self._pass(now)
        self._onion.ping(now, circuit)

    def shape(self, circuit: CircuitId) -> Shape | None:
        """What a request of ours shows on its links, once something of its answer has come."""
        return self._onion.shape(circuit)

    def close(self, now: float, circuit: CircuitId) -> None:
        """End a circuit, once its shape is whole if it has one; no event follows."""
        self._pass(now)
        self._onion.close(now, circuit)

    # --- commands: procedures ---

    def run(self, now: float, procedure: Coroutine[object, None, None]) -> Procedure:
        """Step a coroutine over the DHT or the overlay to its end; what it gives is its own."""
        self._pass(now)
        return self._procedures.start(procedure)

    def finish(self) -> None:
        """The stack is given up: its procedures end."""
        self._procedures.close()

    # --- the core's contract ---

    def receive(self, now: float, source: Source, datagram: bytes) -> None:
        """Take a message from a link, or a datagram from a socket."""
        self._pass(now)
        if isinstance(source, Endpoint):
            self._sending.receive(now, source, datagram)
            return
        if not isinstance(source, Link) or source not in self._links.get(source.peer, ()):
            return
        if self._strikes.get(source, 0) >= MAX_STRIKES:
            return
        try:
            self._dispatch(now, source, wire.unpack(datagram))
        except CodecError as error:
            self._strike(source, str(error))

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self._pass(now)
        self._is_touched = True
        self._announcer.renew(now)
        self._announce(now)
        self._sending.handle_timer(now)
        self.dht.handle_timer(now)
        self.overlay.handle_timer(now)
        self._directory.handle_timer(now)
        self._reaching.handle_timer(now)
        self._attaching.handle_timer(now)
        self._calls.handle_timer(now)
        self._onion.handle_timer(now)

    def next_deadline(self) -> float | None:
        """When something is due, as of the last timer or drain: what happens since is drained."""
        if self._is_touched:
            self._deadline, self._is_touched = self._soonest(), False
        return self._deadline

    def _soonest(self) -> float | None:
        return soonest(
            self._announcer.due(),
            self._sending.next_deadline(),
            self.dht.next_deadline(),
            self.overlay.next_deadline(),
            self._directory.next_deadline(),
            self._reaching.next_deadline(),
            self._attaching.next_deadline(),
            self._calls.next_deadline(),
            self._onion.next_deadline(),
        )

    def drain(self) -> tuple[list[Send], list[Event]]:
        """Messages for links; events of this module and those of circuits."""
        self._settle()
        sends, events = self._sends, self._events
        self._sends, self._events = [], []
        return sends, events

    def sizes(self) -> dict[str, int]:
        """The length of every table and queue."""
        own = {
            "procedures": len(self._procedures),
            "links": sum(len(links) for links in self._links.values()),
            "strikes": len(self._strikes),
            "dialling": len(self._dialling),
            "sends": len(self._sends),
            "events": len(self._events),
        }
        return {
            **self._onion.sizes(),
            **self._directory.sizes(),
            **self._reaching.sizes(),
            **self._attaching.sizes(),
            **self._sending.sizes(),
            **self.dht.sizes(),
            **self.overlay.sizes(),
            **self._calls.sizes(),
            **own,
        }

    def clock(self) -> ClockOffset | None:
        """How far our clock is from those of peers; None if too few have told of late."""
        return self._sending.clock()

    def statistics(self) -> OnionStatistics:
        """What circuits have done so far; `directory.status` and `sizes` say the rest."""
        return self._onion.statistics()

    # --- inside ---

    def _pass(self, now: float) -> None:
        if now < self._now:
            raise ValueError(f"time falls from {self._now!r} to {now!r}")
        self._now = now
        self._sending.at(now)

    def _dispatch(self, now: float, link: Link, message: Message) -> None:
        match message.kind:
            case Kind.ONION:
                self._onion.receive(now, link, message.payload)
            case Kind.QUERY if calls.is_call(message.payload):
                self._calls.asked(now, link, message.number, message.payload)
            case Kind.ANSWER if message.number >= calls.FIRST:
                self._calls.answered(link, message.number, message.payload)
            case Kind.MESSAGE | Kind.QUERY if self._sending.claims(message.payload):
                self._sending.linked(link, message)
            case Kind.ANSWER:
                self._sending.linked(link, message)
            case _:
                raise CodecError("a kind of message that nobody here reads")

    def _announce(self, now: float) -> None:
        """Tell what the announcer has issued since, and give the pulse that is due."""
        seq, advert = self._announcer.seq, self._announcer.advert
        if advert is not None and seq > self._announced:
            self._announced = seq
            self.overlay.broadcast(now, advert)
            self._directory.say(now, seq, advert)
        pulse = self._announcer.beat(now)
        if pulse is not None:
            self.overlay.pulse(now, [pulse])
        self._want_work(now)

    def _want_work(self, now: float) -> None:
        day = self._announcer.wants_work(now)
        if day is not None and day != self._work_wanted:
            self._work_wanted = day
            self._events.append(WorkWanted(self._public, day))

    def _settle(self) -> None:
        """Let the cores talk with each other until none has anything more to say."""
        for _ in range(MAX_ROUNDS):
            moved = self._collect(self._now)
            self._is_touched = True
            if not moved and not self._is_due():
                break

    def _is_due(self) -> bool:
        """Whether a procedure has made something due at once; then it is done."""
        deadline = self.next_deadline()
        if deadline is None or deadline > self._now:
            return False
        self.handle_timer(self._now)
        return True

    def _collect(self, now: float) -> bool:
        """Move what the cores have to say to where it goes; whether it may have moved a core.

        Procedures and handlers come before the cores that they call, so nothing of theirs waits.
        """
        self._procedures.run()
        sent = self._sending.drain()
        for thing in sent:
            self._route_sending(now, thing)
        self._events += self.dht.drain()
        spoken = self.overlay.drain()
        for said_there in spoken:
            self._route_overlay(now, said_there)
        said = self._directory.drain()
        for what in said:
            self._route_directory(now, what)
        reached = self._reaching.drain()
        for output in reached:
            self._route_reaching(now, output)
        attached = self._attaching.drain()
        for wish in attached:
            self._route_attaching(now, wish)
        called = self._calls.drain()
        for call in called:
            self._route_calls(now, call)
        writes, events = self._onion.drain()
        for link, frames in writes:
            self._write_frames(link, frames)
        for event in events:
            self._route_circuits(now, event)
        moved = spoken or said or reached or attached or called or events or _asks(sent)
        return bool(moved) or self._procedures.waiting

    def _route_directory(self, now: float, event: directory_core.Event) -> None:
        match event:
            case SayAgain(advert):
                self.overlay.broadcast(now, advert)
            case DirectoryChanged():
                self._events.append(event)
                self._outbid(now)
                self._attaching.look(now)
                self._onion.keep_pace(now)
            case _:
                self._events.append(event)

    def _outbid(self, now: float) -> None:
        """Go above an advert of ours from a life before."""
        newest = self.directory.newest(self._id)
        if newest is not None and newest.buffer != self._announcer.advert:
            self._announcer.outbid(now, newest.seq)
            self._announce(now)

    def _route_sending(self, now: float, output: sending.Output) -> None:
        match output:
            case Send():
                self._sends.append(output)
            case sending.Write(link, message):
                self._write(link, message)
            case sending.Reach(peer):
                self._find_way(now, peer)
            case _:
                self._events.append(output)

    def _route_overlay(self, now: float, event: membership.Event) -> None:
        match event:
            case membership.Broadcast(id=broadcast, source=source, data=data):
                if self._directory.offer(now, data, source):
                    self.overlay.accept(now, broadcast)
                else:
                    self.overlay.refuse(now, broadcast)
            case membership.NeighboursChanged(neighbours):
                self._directory.neighbours(now, neighbours)
            case membership.Cast(peer, body) if self._config.roles:
                self._reaching.hear(now, peer, body)
            case membership.Cast() | membership.Pulses():
                pass  # who only asks does nobody's errands: that would show it to others

    def _route_reaching(self, now: float, output: reaching.Output) -> None:
        match output:
            case Knock(peer) if peer in self._dialling:
                self._reaching.dialling(peer, self._dialling[peer])
            case Knock():
                self._events.append(output)
            case Holds(tcp, udp):
                self._presence.move(now, tcp, udp)
                self._attach(now, not tcp)
                self._announce(now)
            case _:
                self._reaching.ring(now, output)

    def _attach(self, now: float, wanted: bool) -> None:
        self._attaching.want(now, wanted)
        self._onion.attach(self._attaching.chosen(), asks=wanted)

    def _route_attaching(self, now: float, output: attaching.Output) -> None:
        self._onion.attach(self._attaching.chosen(), asks=self._attaching.wanted)
        match output:
            case Seek(relay):
                self._reach(now, relay)
            case Attached(relays):
                self._announcer.attach(now, relays)
                self._announce(now)

    def _route_calls(self, now: float, output: calls.Output) -> None:
        match output:
            case calls.Reach(peer):
                self._reach(now, peer)
            case calls.Write(link, message):
                self._write(link, message)
            case _:
                self._events.append(output)

    def _route_circuits(self, now: float, event: Event) -> None:
        match event:
            case onion.Dial(peer):
                self._reach(now, peer)
            case NotKept(relay):
                self._attaching.refused(now, relay)
            case onion.CloseLink(Link() as link, reason):
                if reason == "dead":
                    self._events.append(HangUp(link, dead=True))
                    self._part(now, link)  # so that it is dialled anew, not waited for
                elif reason != "idle" or not self._keeps(link):
                    self._events.append(HangUp(link))
            case _:
                self._events.append(event)

    def _keeps(self, link: Link) -> bool:
        """Whether a link without circuits is of use: for calls, or for the directory's."""
        return link.peer in self._bootstrap or self._calls.uses(link)

    def _reach(self, now: float, peer: AdnlId) -> None:
        """See to it that there is a link, or that whoever wants it hears that there is none."""
        if peer in self._links:
            self._calls.link_up(self._links[peer][-1])
        elif peer in self._dialling:
            return
        elif endpoints := self._locator.known(peer).tcp:
            self._dial(peer, endpoints)
        else:
            self.dial_failed(now, peer)

    def _find_way(self, now: float, peer: AdnlId) -> None:
        """See to it that payloads reach a peer, or that whoever sends hears that none will."""
        place = self._locator.known(peer)
        if self._config.udp and place.udp:
            self._sending.learn(place.public, place.addresses)
        elif place.tcp:
            self._reach(now, peer)
        elif self._config.udp:
            self._procedures.start(self._look_up(peer))
        else:
            self._sending.unreachable(peer)

    async def _look_up(self, peer: AdnlId) -> None:
        place = await self._locator.look_up(self._now, peer)
        if place.udp:
            self._sending.learn(place.public, place.addresses)
        elif place.tcp and peer not in self._links and peer not in self._dialling:
            self._dial(peer, place.tcp)
        else:
            self._sending.unreachable(peer)

    def _dial(self, peer: AdnlId, endpoints: tuple[Endpoint, ...]) -> None:
        self._dialling[peer] = endpoints
        self._reaching.dialling(peer, endpoints)
        self._events.append(Dial(peer, endpoints))

    def _write(self, link: Link, message: Message) -> None:
        self._sends.append(Send(link, wire.pack(message)))

    def _write_frames(self, link: Source, frames: bytes) -> None:
        assert isinstance(link, Link)  # the circuits' core writes to links it was told of, only
        self._write(link, Message(Kind.ONION, 0, frames))

    def _strike(self, link: Link, reason: str) -> None:
        self._events.append(Misbehaved(link, reason))
        strikes = self._strikes[link] = self._strikes.get(link, 0) + 1
        if strikes == MAX_STRIKES:
            self._events.append(HangUp(link))


def _asks(sent: Sequence[sending.Output]) -> bool:
    """Whether payloads wait for a way to somebody: all else has left."""
    return any(isinstance(thing, sending.Reach) for thing in sent)
