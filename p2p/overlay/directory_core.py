"""Keeps this node's list of nodes: heard of by broadcast, compared with others', frozen or fetched.

A **server** hears all adverts, compares its list with another's every step, and freezes it at the
begin of each epoch; it answers those who ask. A **client** fetches each epoch's list from three
servers, at a random moment near its begin or when it is first needed. A server that could not
compare what is to be frozen, as it has just come or was away, fetches as a client does.

Procedures do not know the time: what they have found is put aside and makes a timer due at once.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias, final

from p2p.core import Procedures
from p2p.entropy import Entropy, choice
from p2p.errors import CodecError, DirectorySplit
from p2p.identity import AdnlId
from p2p.overlay import advert as adverts
from p2p.overlay import bodies, compare, refresh
from p2p.overlay import pulse as pulses_of
from p2p.overlay.advert import Role, Rules
from p2p.overlay.asking import Asking, Caller
from p2p.overlay.bodies import Refusal
from p2p.overlay.compare import Compared, Comparison, Judged
from p2p.overlay.diary import Diary
from p2p.overlay.doorbell import Doorbell
from p2p.overlay.epochs import Calendar, calendar_of
from p2p.overlay.events import Contradiction as Contradiction
from p2p.overlay.events import DirectoryChanged as DirectoryChanged
from p2p.overlay.events import Joined as Joined
from p2p.overlay.events import Published as Published
from p2p.overlay.events import SayAgain as SayAgain
from p2p.overlay.events import Split as Split
from p2p.overlay.fetch import Fetched
from p2p.overlay.groups import Registry, everywhere, nobody
from p2p.overlay.intake import Intake
from p2p.overlay.listing import Listing
from p2p.overlay.lists import Lists
from p2p.overlay.liveness import PulseBook
from p2p.overlay.pool import Pool, Read
from p2p.overlay.publish import Heard, Publication
from p2p.overlay.refresh import Beats, Listed, Refresh
from p2p.overlay.server import ListServer, ServerStatistics
from p2p.overlay.servers import Server as Server
from p2p.overlay.servers import Servers
from p2p.overlay.snapshot import Snapshot
from p2p.timers import Timers, soonest
from p2p.wire import Endpoint

COMPARED: Final = 2
"""comparisons of a cut, after which a server knows what there is to be known of it."""

DISSENT: Final = 3
"""servers of whom most froze one other list than we, until we take theirs."""

SMALL: Final = 65_536
"""bytes of all pulses up to which they are fetched with each list; else when they are needed."""

ENOUGH_LIVE: Final = 0.9
"""share of the live nodes that servers claim; if one shows us fewer, another is asked."""

DEV_PATIENCE: Final = 0.2
"""of the usual patience, in a dev network: its nodes are near, and its epochs short."""

SERVER: Final = Role.DIRECTORY | Role.DIALABLE
"""What a node offers that can be asked for the list."""

PARTIES: Final = Role.WORKER | Role.MINT
"""Those who read what is asked, or sell what it is paid with: they should not know who asks."""

Event: TypeAlias = Joined | DirectoryChanged | Published | SayAgain | Contradiction | Split

_Finding: TypeAlias = compare.Finding | refresh.Finding | Heard


class _Due(Enum):
    FINDINGS = "what procedures have found"
    FETCH = "a fetch of the epoch's list"
    PUBLISHED = "a look whether our advert was heard"
    COMPARE = "a comparison with another server"


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryStatistics:
    """What the directory has done so far."""

    serving: bool
    frozen: int
    """Lists that it froze itself."""
    fetches: int
    failures: int
    """Fetches that brought no list."""
    splits: int
    """Those of them for which servers did not agree."""
    comparisons: int
    equal: int
    """Comparisons that found both lists equal."""
    accepted: int
    """Adverts that were news."""
    refused: int
    """Adverts that broke a rule or a limit."""
    calls: int
    bytes_got: int
    """Bytes that the answers to our calls had."""
    served: ServerStatistics


@final
class DirectoryCore:
    """See the module. A `CallHandler`; `listing` may be asked at any time.

    `book` is where pulses are taken, `servers` are those of the network's settings: a node that is
    one of them, or that knows of none, is where a network begins. Who is `discreet`, as a pure
    client is, shows itself to few and to no worker or mint: each server asked learns its address.
    `place` says what neighbourhood a peer is of: those of one have what we give together.
    """

    def __init__(
        self,
        self_id: AdnlId,
        caller: Caller,
        procedures: Procedures,
        entropy: Entropy,
        *,
        rules: Rules,
        servers: Sequence[Server],
        book: PulseBook,
        discreet: bool = False,
        calendar: Calendar | None = None,
        registry: Registry = nobody,
        read: Read = adverts.read,
        place: Callable[[AdnlId], bytes] = bytes,
    ) -> None:
        self._id = self_id
        self._entropy = entropy
        self._book = book
        self._is_dev = rules.dev
        self._is_discreet = discreet
        self._calendar = calendar or calendar_of(rules)
        self._begins = self_id in [server.peer for server in servers] or not servers

        self._pool = Pool(rules, self._calendar, registry=registry, read=read)
        self._lists = Lists(self._pool, self._calendar)
        self._intake = Intake(self._pool, book, rules, self._calendar, read)
        self._diary = Diary()
        self.listing = Listing(
            rules,
            self._calendar,
            self_id,
            book=book,
            diary=self._diary,
            registry=registry,
            newest=self._pool.newest,
        )
        self._server = ListServer(
            self._lists,
            self._calendar,
            book=book,
            diary=self._diary,
            is_live=self.listing.is_live,
            place=place,
        )
        self._asking = Asking(caller, procedures, DEV_PATIENCE if rules.dev else 1.0)
        self._servers = Servers(
            servers,
            self_id,
            self._calendar,
            entropy.fork("servers"),
            least=1 if rules.dev else 2,
        )
        self._comparison = Comparison(
            self._asking, procedures, self._lists, self._calendar, self._found, place
        )
        self._publication = Publication(self._asking, procedures, self._calendar, self._found)
        self._refresh = Refresh(
            self._asking,
            procedures,
            entropy.fork("refresh"),
            rules=rules,
            calendar=self._calendar,
            servers=self._servers,
            lists=self._lists,
            read=read,
            report=self._found,
        )

        self._now = 0.0
        self._next_epoch: int | None = None
        self._timers: Timers[_Due] = Timers()
        self._findings: list[_Finding] = []
        self._events: list[Event] = []
        self._serving = self._joined = self._is_split = False
        self._compared: tuple[int, int] = (0, 0)
        """Which cut was compared last, and how often."""
        self._frozen = 0
        self._neighbours: tuple[AdnlId, ...] = ()
        self._judged: list[bytes] = []
        self._claimed = 0
        self._beats = -1
        self._listed: tuple[int, dict[AdnlId, bytes]] | None = None
        self._bell: Doorbell | None = None

    def attach(self, bell: Doorbell) -> None:
        """Let calls about being reached be answered too, while serving."""
        self._bell = bell

    # --- commands ---

    def start(self, now: float, *, serve: bool) -> None:
        """Begin to keep the list, as a server or as a client."""
        self._pass(now)
        self._next_epoch = self._calendar.number(now) + 1
        if self._begins and not self._servers.first:
            self._join()
        else:
            self._timers.set(_Due.FETCH, now)
        self.serve(now, serve=serve)

    def serve(self, now: float, *, serve: bool) -> None:
        """Be a server from now on, or a client."""
        self._pass(now)
        if self._serving and not serve:
            self.listing.feel(now)
        self._serving = serve
        if not serve:
            self._timers.clear(_Due.COMPARE)
        elif _Due.COMPARE not in self._timers:
            self._timers.set(_Due.COMPARE, now + self._calendar.step * self._entropy.uniform())

    def neighbours(self, now: float, peers: Sequence[AdnlId]) -> None:
        """Who else hears of adverts: the servers among them are compared with."""
        self._pass(now)
        self._neighbours = tuple(peers)

    def offer(self, now: float, buffer: bytes, source: bytes | None = None) -> bool:
        """Take an advert that the node of key `source` has broadcast, or None, that is our own.

        True if it is news that others should hear.
        """
        self._pass(now)
        is_news = self._intake.hear(now, buffer, source)
        self._intake.settle()
        return is_news

    def say(self, now: float, seq: int, advert: bytes) -> None:
        """Our advert is this from now on, and has been broadcast.

        `Published` of its seq follows once two servers hold it, or the only one that there is;
        `SayAgain` until then.
        """
        self.offer(now, advert)
        if self.all_servers():
            self._timers.set(_Due.PUBLISHED, self._publication.say(now, seq, advert))
        else:
            self._events.append(Published(seq))

    def restore(self, now: float, kept: Iterable[tuple[float, bytes]]) -> None:
        """Take what `kept` gave before a restart; it is checked as if a peer had sent it."""
        self._pass(now)
        self._intake.restore(now, kept)

    def kept(self) -> list[tuple[float, bytes]]:
        """The adverts to keep over a restart, each after a time of first sight."""
        return self._pool.kept()

    def use(self, now: float) -> None:
        """The list is needed: have this epoch's at once, and the pulses of its nodes."""
        self._pass(now)
        if _Due.FETCH in self._timers and not self._refresh.is_failing:
            self._timers.set(_Due.FETCH, now)
        elif not self._serving and self._joined:
            self._feel(now)

    def servers(self) -> list[AdnlId]:
        """A few to ask, of different operators: those that the list is fetched from come first."""
        return self._servers.choose(self._now, self._asked_servers(), None, self._shunned_servers())

    def all_servers(self) -> list[AdnlId]:
        """Those of our list and of the settings, but for this node."""
        first = [server.peer for server in self._servers.first]
        return list(dict.fromkeys([*self._listed_servers(), *first]))

    def said_where(self, node: AdnlId) -> tuple[Endpoint, ...]:
        """Where a node says that it is, in the newest that is known of it."""
        newest = self._pool.newest(node)
        return () if newest is None else everywhere(newest)

    def acquainted(self) -> list[AdnlId]:
        """Who knows our address because we fetch the directory from them, or would."""
        return self._servers.acquainted()

    # --- CallHandler ---

    def call(self, now: float, peer: AdnlId, body: bytes) -> bytes:
        """The answer to a directory call of a peer, whatever it sends."""
        self._pass(now)
        try:
            call = bodies.read_call(body)
        except CodecError:
            return bodies.pack_refusal(Refusal.REFUSED)
        if call is None:
            return bodies.pack_refusal(Refusal.UNKNOWN)
        if not self._serving:
            return bodies.pack_refusal(Refusal.REFUSED)
        if isinstance(call, bodies.Whoami | bodies.Probe) and self._bell is not None:
            return self._bell.answer(now, peer, call)
        answer = self._server.answer(now, peer, call)
        if isinstance(call, bodies.Root) and call.own != bodies.NO_ROOT:
            self._comparison.answer(now, peer, call, listed=self._is_server(peer))
        return answer

    # --- the core's contract ---

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self._pass(now)
        for due in self._timers.take(now):
            match due:
                case _Due.FINDINGS:
                    self._take_findings(now)
                case _Due.FETCH:
                    self._fetch(now)
                case _Due.PUBLISHED:
                    self._publication.look(self.servers())
                case _Due.COMPARE:
                    self._compare(now)

    def next_deadline(self) -> float | None:
        """When something is due."""
        begin = None if self._next_epoch is None else float(self._calendar.begin(self._next_epoch))
        return soonest(begin, self._timers.next(), self.listing.next_deadline())

    def drain(self) -> list[Event]:
        """Everything to tell since the last call."""
        events, self._events = self._events, []
        return events + [Contradiction(pair) for pair in self._pool.take_evidence()]

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables."""
        return {
            **self._pool.sizes(),
            **self._lists.sizes(),
            **self._servers.sizes(),
            **self._server.sizes(),
            **self._comparison.sizes(),
            "diary": len(self._diary),
            "advert_speakers": len(self._intake),
            "directory_findings": len(self._findings),
            "directory_events": len(self._events),
        }

    def statistics(self) -> DirectoryStatistics:
        """A snapshot of the counters."""
        return DirectoryStatistics(
            serving=self._serving,
            frozen=self._frozen,
            fetches=self._refresh.count,
            failures=self._refresh.failures,
            splits=self._refresh.splits,
            comparisons=self._comparison.count,
            equal=self._comparison.equal,
            accepted=self._intake.accepted,
            refused=self._intake.refused,
            calls=self._asking.calls,
            bytes_got=self._asking.bytes_got,
            served=self._server.statistics(),
        )

    # --- time ---

    def _fetch(self, now: float) -> None:
        listed, last = self._asked_servers(), self._last_servers()
        self._refresh.fetch(now, listed, last, self._shunned_servers())

    def _pass(self, now: float) -> None:
        """Begin an epoch before anything else happens in it."""
        self._now = now
        if self._next_epoch is not None and now >= self._calendar.begin(self._next_epoch):
            self._begin_epoch(now)
        if self.listing.pass_time(now):
            self._events.append(DirectoryChanged())

    def _begin_epoch(self, now: float) -> None:
        number = self._calendar.number(now)
        self._next_epoch = number + 1
        self._comparison.begin_epoch()
        self._judged.clear()
        if self._serving and self._joined and self._has_compared(self._calendar.cut(number)):
            self._freeze(now)
            return
        was_there = self._lists.of(number - 1) is not None
        can_wait = was_there and not self._serving
        wait = self._calendar.window * self._entropy.uniform() if can_wait else 0.0
        self._timers.set(_Due.FETCH, now + wait)

    def _has_compared(self, cut: int) -> bool:
        """Whether what we know of a cut is what others know."""
        is_alone = not self._servers.first and not self._listed_servers()
        return is_alone or self._compared >= (cut, COMPARED)

    def _freeze(self, now: float) -> None:
        self._timers.clear(_Due.FETCH)
        self._frozen += 1
        self.listing.feel(now, steadily=True)
        self._use(now, self._lists.freeze(now), 1.0)

    # --- what procedures have found ---

    def _found(self, finding: _Finding) -> None:
        self._findings.append(finding)
        self._timers.set(_Due.FINDINGS, self._now)

    def _take_findings(self, now: float) -> None:
        findings, self._findings = self._findings, []
        for finding in findings:
            match finding:
                case Listed():
                    self._take_list(now, finding)
                case Compared():
                    self._take_comparison(now, finding)
                case Judged(cut, root):
                    self._take_judgement(now, cut, root)
                case Beats():
                    self._take_beats(now, finding)
                case Heard():
                    self._take_heard(now, finding)
        self._intake.settle()

    def _take_list(self, now: float, finding: Listed) -> None:
        again = self._refresh.ended(now, finding)
        number = self._calendar.number(now)
        outcome = finding.outcome
        if isinstance(outcome, Fetched):
            self._adopt(now, outcome)
        elif isinstance(outcome, DirectorySplit):
            self._tell_split()
        elif self._serving and finding.epoch == number:
            self._begin_alone(now)
        if self._lists.of(number) is None:
            self._timers.set(_Due.FETCH, again)

    def _adopt(self, now: float, fetched: Fetched) -> None:
        found = fetched.list
        self._intake.agree(now, found)
        self._lists.adopt(now, found)
        self._diary.learn(now, fetched.days)
        self._use(now, found, fetched.agreeing / fetched.answering)
        self._join()
        self._is_split, self._claimed = False, fetched.live
        if self._serving:
            self._timers.set(_Due.COMPARE, now)
        else:
            self._pool.retain(lambda node: node == self._id or self._lists.hold(node))
        if len(found) * pulses_of.PULSE_SIZE <= SMALL or self._beats < 0:
            self._feel(now)

    def _begin_alone(self, now: float) -> None:
        """No other server has this epoch's list: it is what we know, if we have known any."""
        if self._joined and self._lists.of(self._calendar.number(now)) is None:
            self._freeze(now)
        if self._begins:
            self._join()

    def _take_comparison(self, now: float, finding: Compared) -> None:
        self._intake.learn(now, finding.adverts)
        if finding.is_whole:
            cut, count = self._compared
            count = count + 1 if cut == finding.cut else 1
            self._compared = max(self._compared, (finding.cut, count))

    def _take_heard(self, now: float, finding: Heard) -> None:
        again = self._publication.heard(now, finding)
        if again is not None:
            self._timers.set(_Due.PUBLISHED, again)
            self._events.append(SayAgain(self._publication.buffer))
        elif finding.held:
            self._events.append(Published(finding.seq))

    def _tell_split(self) -> None:
        if not self._is_split:
            self._is_split = True
            self._events.append(Split())

    def _take_judgement(self, now: float, cut: int, root: bytes) -> None:
        frozen = self._lists.newest()
        if frozen is None or frozen.cut != cut:
            return
        self._judged.append(root)
        self.listing.agree(self._judged.count(frozen.root) / len(self._judged))
        others = max(map(self._judged.count, self._judged))
        outvoted = 2 * others > len(self._judged) > 2 * self._judged.count(frozen.root)
        if outvoted and len(self._judged) >= DISSENT:
            self._judged.clear()
            self._timers.set(_Due.FETCH, now)

    def _use(self, now: float, found: Snapshot, agreement: float) -> None:
        before = self.listing.version
        self._diary.mark(now, [advert.id for advert in found.adverts])
        self.listing.use(now, found, agreement)
        if self.listing.version != before:
            self._events.append(DirectoryChanged())

    def _join(self) -> None:
        if not self._joined:
            self._joined = True
            self._events.append(Joined())

    # --- others ---

    def _compare(self, now: float) -> None:
        """Compare with one of the servers that hear what we hear, or else with any."""
        wait = self._calendar.step * (0.9 + 0.2 * self._entropy.uniform())
        self._timers.set(_Due.COMPARE, now + wait)
        near = [peer for peer in self._neighbours if self._is_server(peer)]
        peers = near or [server.peer for server in self._servers.first] or [*self._listed_servers()]
        if peers:
            frozen = self._lists.of(self._calendar.number(now))
            self._comparison.compare(now, choice(self._entropy, peers), frozen)

    def _last_servers(self) -> dict[AdnlId, bytes]:
        """Whom to fetch from if those of the settings do not answer, with their groups.

        Before the first list those that were listed when we last ran. Members of a dev network too;
        elsewhere those that a newcomer knows could all be of one party.
        """
        last = {} if self._joined else self._remembered_servers()
        members = self._neighbours if self._is_dev and self._refresh.is_failing else ()
        return dict(zip(members, members, strict=True)) | last

    def _remembered_servers(self) -> dict[AdnlId, bytes]:
        return {
            advert.id: self.listing.group(advert)
            for advert in self._pool.newest_of_all()
            if SERVER in advert.roles and advert.id != self._id and advert.expires > self._now
            if not (self._is_discreet and advert.roles & PARTIES)
        }

    def _is_server(self, peer: AdnlId) -> bool:
        return peer in self._listed_servers() or self._servers.is_first(peer)

    def _asked_servers(self) -> dict[AdnlId, bytes]:
        """Those of our list that we ask.

        In a dev network, which has few relays, a discreet node keeps to those that have answered,
        and at first to those of its settings: a path wants relays that have not seen it.
        """
        if not self._is_discreet:
            return self._listed_servers()
        shunned = self._shunned_servers()
        first = [server.peer for server in self._servers.first if server.peer not in shunned]
        keeps = self._is_dev and first and not self._refresh.is_failing
        return {
            peer: group
            for peer, group in self._listed_servers().items()
            if (entry := self.listing.find(peer)) and not entry.advert.roles & PARTIES
            if self._servers.keeps(peer) or not keeps
        }

    def _shunned_servers(self) -> list[AdnlId]:
        """Those of the settings that a discreet node does not ask while others answer."""
        if not self._is_discreet or self._refresh.is_failing:
            return []
        newest = [self._pool.newest(server.peer) for server in self._servers.first]
        return [advert.id for advert in newest if advert is not None and advert.roles & PARTIES]

    def _listed_servers(self) -> dict[AdnlId, bytes]:
        """Those of our list, but for this node."""
        if self._listed is None or self._listed[0] != self.listing.version:
            entries = self.listing.usable(SERVER)
            self._listed = self.listing.version, {entry.id: entry.group for entry in entries}
        return self._listed[1]

    # --- pulses ---

    def _feel(self, now: float) -> None:
        """Have the pulses of everybody, if we have not had them in this epoch."""
        number = self._calendar.number(now)
        if self._beats < number and (peers := self.servers()):
            self._beats = number
            self._refresh.feel(peers)

    def _take_beats(self, now: float, finding: Beats) -> None:
        try:
            pulses = pulses_of.read_pulses(finding.pulses, 2 * len(self._pool))
        except CodecError:
            return
        self._book.take(now, finding.peer, pulses)
        self.listing.feel(now, steadily=self._serving)
        if self.listing.status().live < ENOUGH_LIVE * self._claimed and finding.left:
            self._refresh.feel(finding.left)
        self._events.append(DirectoryChanged())
