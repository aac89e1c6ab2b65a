"""The cores of one node joined: what the trio driver and the simulated worlds both run.

Sources are `Link`s, data are `wire` messages. Onion frames go to the circuits' core, queries and
answers to the directory exchange, or to the calls of the layers above if their body is a map. All
want links; the stack finds out where a peer listens, asks the carrier once, and tells whoever
waits. More cores join by a kind of message of their own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, final

from p2p import calls, wire
from p2p.calls import Calls, Query
from p2p.calls import Replied as Replied
from p2p.calls import Unanswered as Unanswered
from p2p.core import Event, Send, Source
from p2p.entropy import Entropy
from p2p.errors import CodecError, DirectoryStale
from p2p.identity import AdnlId, Identity, short_id
from p2p.onion import core as onion
from p2p.onion.cell import MAX_RELAYS
from p2p.onion.core import CircuitId, Misbehaved, OnionConfig, OnionCore, OnionKeys, OnionStatistics
from p2p.onion.handshake import Target
from p2p.onion.noise import Kem, MlKem768
from p2p.overlay import exchange as overlay
from p2p.overlay.advert import Fields, Role, Rules
from p2p.overlay.announcer import NOBODY, Announcer
from p2p.overlay.calls import Refusal
from p2p.overlay.directory import Directory
from p2p.overlay.exchange import Contradiction as Contradiction
from p2p.overlay.exchange import DirectoryChanged as DirectoryChanged
from p2p.overlay.exchange import Exchange
from p2p.overlay.exchange import Joined as Joined
from p2p.overlay.exchange import Published as Published
from p2p.overlay.exchange import PublishRefused as PublishRefused
from p2p.overlay.serve import DirectoryServer
from p2p.wire import Endpoint, Kind, Link, Message

MAX_STRIKES: Final = 3
"""broken rules after which a link is closed."""

MAX_ROUNDS: Final = 10_000
"""rounds of one drain; more would mean that two cores answer each other for ever."""


class Peer(NamedTuple):
    """A node known from the settings of a network: its Ed25519 key, and where it listens."""

    public: bytes
    endpoints: tuple[Endpoint, ...]

    @property
    def id(self) -> AdnlId:
        """Who it is."""
        return short_id(self.public)


@dataclass(frozen=True, slots=True, kw_only=True)
class StackConfig:
    """What a node is and whom it asks first."""

    network: int
    dev: bool = False
    bootstrap: tuple[Peer, ...] = ()
    roles: Role = NOBODY
    """RELAY lets others build circuits through this node, WORKER and MINT let them end here; each
    of them makes it answer directory calls, DIRECTORY alone does that and no more."""
    allow_direct: bool = False
    """An endpoint takes circuits from anyone, not only from listed relays."""
    kem: Kem = field(default_factory=MlKem768)
    """Simulations put a seeded stand-in here."""
    tap: Callable[[str, bytes], None] | None = None
    """Shown every plaintext of circuits that this node opens."""


@dataclass(frozen=True, slots=True)
class Dial:
    """A link to `peer` is wanted; answer with `link_up` or `dial_failed`."""

    peer: AdnlId
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class HangUp:
    """Close the link; `link_down` answers."""

    link: Link


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
        self._id, self._public = identity.id, identity.public
        self._rules = Rules(network=config.network, dev=config.dev)
        self._bootstrap = {peer.id: peer.endpoints for peer in config.bootstrap}
        keys = onion_keys or OnionKeys(entropy.fork("onion-keys"))

        self.directory = Directory(self._rules, identity.id)
        self._exchange = Exchange(
            self.directory, identity.id, list(self._bootstrap), self._rules, entropy.fork("sync")
        )
        self._server = _server(self.directory, self._rules, config, identity.id, entropy)
        self._announcer = Announcer(identity, self._rules, entropy.fork("advert"), keys.public)
        self._onion = OnionCore(
            identity, keys, self.directory, entropy.fork("onion"), _onion_config(config)
        )

        self._calls = Calls()

        self._now = 0.0
        self._links: dict[AdnlId, list[Link]] = {}
        self._strikes: dict[Link, int] = {}
        self._dialling: dict[AdnlId, None] = {}
        self._announced = 0
        self._work_wanted: int | None = None
        self._sends: list[Send] = []
        self._events: list[Event] = []

    # --- commands: links ---

    def start(self, now: float, addresses: tuple[Endpoint, ...] = ()) -> None:
        """Begin to fetch the directory; `addresses` is where others can dial this node."""
        self._pass(now)
        self._announcer.listen(addresses)
        self._exchange.start(now)

    def link_up(self, now: float, link: Link, dialled: bool) -> None:
        """A link is open; `dialled` if this node asked for it."""
        self._pass(now)
        self._links.setdefault(link.peer, []).append(link)
        self._dialling.pop(link.peer, None)
        self._onion.link_up(now, link, link.peer, dialled=dialled)
        self._exchange.link_up(now, link.peer)
        self._calls.link_up(link)

    def link_down(self, now: float, link: Link) -> None:
        """A link is gone. One that was never up is no error: it may have been refused."""
        self._pass(now)
        links = self._links.get(link.peer, [])
        if link not in links:
            return
        links.remove(link)
        self._strikes.pop(link, None)
        self._onion.link_down(now, link)
        self._calls.link_down(link)
        if not links:
            del self._links[link.peer]
            self._exchange.link_down(now, link.peer)

    def dial_failed(self, now: float, peer: AdnlId) -> None:
        """What `Dial` asked for cannot be had."""
        self._pass(now)
        self._dialling.pop(peer, None)
        self._onion.dial_failed(now, peer)
        self._exchange.dial_failed(now, peer)
        self._calls.dial_failed(peer)

    # --- commands: what we say of ourselves ---

    def publish(self, now: float, fields: Fields) -> int:
        """Say this of ourselves, and keep saying it.

        `Published` of the seq returned, or of a greater one, follows once a server took it.
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
        if self.directory.is_stale(now):
            raise DirectoryStale("nobody has confirmed the directory for too long")
        acquainted = self._exchange.acquainted()
        return self._onion.path(now, worker, relays, acquainted=acquainted, suspects=suspects)

    def open(self, now: float, path: Sequence[Target], request: bytes) -> CircuitId:
        """Ask the last of `path` through the others: `Opened` or `Failed` in 10 s."""
        self._pass(now)
        return self._onion.open(now, path, request)

    def accept(self, now: float, circuit: CircuitId, offer: bytes) -> None:
        """Answer an `Incoming` with yes."""
        self._pass(now)
        self._onion.accept(now, circuit, offer)

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

    def close(self, now: float, circuit: CircuitId) -> None:
        """End a circuit at once; no event follows."""
        self._pass(now)
        self._onion.close(now, circuit)

    # --- the core's contract ---

    def receive(self, now: float, source: Source, datagram: bytes) -> None:
        """Take a message from a link."""
        self._pass(now)
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
        if self.directory.expire(now):
            self._events.append(DirectoryChanged())
        self._announcer.renew(now)
        self._announce(now)
        self._exchange.handle_timer(now)
        self._calls.handle_timer(now)
        self._onion.handle_timer(now)

    def next_deadline(self) -> float | None:
        """When something is due."""
        deadlines = (
            self.directory.next_deadline(),
            self._announcer.due(),
            self._exchange.next_deadline(),
            self._calls.next_deadline(),
            self._onion.next_deadline(),
        )
        return min((when for when in deadlines if when is not None), default=None)

    def drain(self) -> tuple[list[Send], list[Event]]:
        """Messages for links; events of this module and those of circuits."""
        for _ in range(MAX_ROUNDS):
            if not self._collect(self._now):
                break
        sends, events = self._sends, self._events
        self._sends, self._events = [], []
        return sends, events

    def sizes(self) -> dict[str, int]:
        """The length of every table and queue."""
        own = {
            "links": sum(len(links) for links in self._links.values()),
            "strikes": len(self._strikes),
            "dialling": len(self._dialling),
            "sends": len(self._sends),
            "events": len(self._events),
        }
        served = {} if self._server is None else self._server.sizes()
        return {
            **self._onion.sizes(),
            **self.directory.sizes(),
            **self._exchange.sizes(),
            **self._calls.sizes(),
            **served,
            **own,
        }

    def statistics(self) -> OnionStatistics:
        """What circuits have done so far; `directory.status` and `sizes` say the rest."""
        return self._onion.statistics()

    # --- inside ---

    def _pass(self, now: float) -> None:
        if now < self._now:
            raise ValueError(f"time falls from {self._now!r} to {now!r}")
        self._now = now

    def _dispatch(self, now: float, link: Link, message: Message) -> None:
        match message.kind:
            case Kind.ONION:
                self._onion.receive(now, link, message.payload)
            case Kind.QUERY if calls.is_call(message.payload):
                self._calls.asked(now, link, message.number, message.payload)
            case Kind.QUERY:
                self._answer(now, link, message)
            case Kind.ANSWER if message.number >= calls.FIRST:
                self._calls.answered(link, message.number, message.payload)
            case Kind.ANSWER:
                self._exchange.answered(now, link.peer, message.number, message.payload)
            case _:
                raise CodecError("a kind of message that nobody here reads")

    def _answer(self, now: float, link: Link, query: Message) -> None:
        if self._server is None:
            raise CodecError("a query to a node that answers none")
        before = self.directory.version
        answer = self._server.answer(now, link.peer, query.payload)
        self._write(link, Message(Kind.ANSWER, query.number, answer))
        if self.directory.version != before:
            self._changed(now)

    def _changed(self, now: float) -> None:
        """The directory has news. If it is an advert of ours from a life before: go above it."""
        self._events.append(DirectoryChanged())
        newest = self.directory.newest(self._id)
        if newest is not None and newest.buffer != self._announcer.advert:
            self._announcer.outbid(now, newest.seq)
            self._announce(now)

    def _announce(self, now: float) -> None:
        """Bring what the announcer has issued since to the directory and to those who ask us."""
        seq, advert = self._announcer.seq, self._announcer.advert
        if advert is not None and seq > self._announced:
            self._announced = seq
            self.directory.add(now, advert)
            self._events.append(DirectoryChanged())
            self._exchange.publish(now, seq, advert)
        self._want_work(now)

    def _want_work(self, now: float) -> None:
        day = self._announcer.wants_work(now)
        if day is not None and day != self._work_wanted:
            self._work_wanted = day
            self._events.append(WorkWanted(self._public, day))

    def _collect(self, now: float) -> bool:
        """Move what the cores have to say to where it goes; whether there was anything."""
        said = self._exchange.drain()
        for output in said:
            self._route(now, output)
        called = self._calls.drain()
        for call in called:
            self._route_calls(now, call)
        writes, events = self._onion.drain()
        for link, frames in writes:
            self._write_frames(link, frames)
        for event in events:
            self._route_circuits(now, event)
        return bool(said or called or writes or events)

    def _route(self, now: float, output: overlay.Output) -> None:
        match output:
            case overlay.Reach(peer):
                self._reach(now, peer)
            case overlay.Ask(peer, number, body):
                for link in self._links.get(peer, [])[-1:]:  # none if it went down since
                    self._write(link, Message(Kind.QUERY, number, body))
            case overlay.Misled(peer, reason):
                for link in self._links.get(peer, [])[-1:]:
                    self._strike(link, reason)
            case DirectoryChanged():
                self._changed(now)
            case _:
                self._events.append(output)

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
            case onion.CloseLink(Link() as link, reason):
                if reason != "idle" or not self._keeps(link):
                    self._events.append(HangUp(link))
            case _:
                self._events.append(event)

    def _keeps(self, link: Link) -> bool:
        """Whether a link without circuits is of use: for calls, or for the directory's."""
        return link.peer in self._bootstrap or self._calls.uses(link)

    def _reach(self, now: float, peer: AdnlId) -> None:
        """See to it that there is a link, or that whoever wants it hears that there is none."""
        if peer in self._links:
            self._exchange.link_up(now, peer)
            self._calls.link_up(self._links[peer][-1])
        elif peer in self._dialling:
            return
        elif endpoints := self._where(peer):
            self._dialling[peer] = None
            self._events.append(Dial(peer, endpoints))
        else:
            self.dial_failed(now, peer)

    def _where(self, peer: AdnlId) -> tuple[Endpoint, ...]:
        """What a peer says of itself is newer than what our settings say of it."""
        if peer == self._id:
            return ()
        entry = self.directory.find(peer)
        listed = () if entry is None else entry.advert.addresses
        return tuple(dict.fromkeys(listed + self._bootstrap.get(peer, ())))

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


def _onion_config(config: StackConfig) -> OnionConfig:
    return OnionConfig(
        network=config.network,
        relay=Role.RELAY in config.roles,
        endpoint=bool(config.roles & (Role.WORKER | Role.MINT)),
        allow_direct=config.allow_direct,
        dev=config.dev,
        kem=config.kem,
        tap=config.tap,
    )


def _server(
    directory: Directory, rules: Rules, config: StackConfig, self_id: AdnlId, entropy: Entropy
) -> DirectoryServer | None:
    """Bootstrap nodes and those with a role answer directory calls; a pure client answers none."""
    is_bootstrap = any(peer.id == self_id for peer in config.bootstrap)
    if not config.roles and not is_bootstrap:
        return None
    return DirectoryServer(directory, rules, entropy.fork("directory-server"))
