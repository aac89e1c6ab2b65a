"""Asks directory servers what is new, and tells them what this node says of itself.

A node keeps to at most three of its network's bootstrap nodes. While none of them can be reached it
asks other directory servers that it has learnt of, so that a network outlives its first nodes. It
wants links by `Reach` and sends calls by `Ask`; whoever holds it reports back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias, final

from p2p import defaults
from p2p.entropy import Entropy, choice, sample
from p2p.errors import AdvertError, CodecError
from p2p.identity import AdnlId
from p2p.overlay import calls
from p2p.overlay.advert import Role, Rules
from p2p.overlay.calls import News, Publish, Refused, Sync
from p2p.overlay.directory import Directory, Verdict
from p2p.overlay.events import Contradiction as Contradiction
from p2p.overlay.events import DirectoryChanged as DirectoryChanged
from p2p.overlay.events import Joined as Joined
from p2p.overlay.events import Published as Published

SERVERS: Final = 3
"""directory servers a node talks to."""

DIAL_PATIENCE: Final = 30.0
"""seconds after which a dial that was neither answered nor refused counts as refused."""

POLL_JITTER: Final = 0.1
"""share by which a call comes early, so that nodes started together do not stay together."""


@dataclass(frozen=True, slots=True)
class Reach:
    """A link to this server is wanted: `link_up` or `dial_failed` answers."""

    peer: AdnlId


@dataclass(frozen=True, slots=True)
class Ask:
    """Send this call to a server whose link is up: `answered` is told of what comes back."""

    peer: AdnlId
    number: int
    body: bytes


@dataclass(frozen=True, slots=True)
class PublishRefused:
    """A directory server did not take our advert, for a reason of `calls.Refusal`."""

    code: int


@dataclass(frozen=True, slots=True)
class Misled:
    """A server answered with what breaks a rule."""

    peer: AdnlId
    reason: str


Output: TypeAlias = (
    Reach | Ask | Joined | DirectoryChanged | Published | PublishRefused | Misled | Contradiction
)


class _State(Enum):
    WAITING = "a dial is due later"
    DIALLING = "a link was asked for"
    IDLE = "a call is due later"
    ASKING = "a call is under way"


@dataclass(slots=True)
class _Server:
    """One directory server: a row of the table in `Exchange`."""

    peer: AdnlId
    due: float
    """When its state ends by itself."""
    retry: float
    """seconds to wait after the next failure."""
    state: _State = _State.WAITING
    number: int = 0
    """Of the call under way."""
    call: Publish | Sync = calls.ALL
    known: Sync = calls.ALL
    """How far we have read its list."""
    telling: int = 0
    """Seq of ours in the call under way."""
    told: int = 0
    """Greatest seq of ours that it took."""
    put_off: bool = False
    """It refused our advert: ask for news before trying again."""


@final
class Exchange:
    """See the module. A bootstrap node, or one that knows of none, is a source itself.

    | server is | on | does | then it is |
    |---|---|---|---|
    | WAITING | due | wants a link | DIALLING |
    | DIALLING | failed, due | waits, longer each time; finds others | WAITING |
    | WAITING, DIALLING | link up | calls | ASKING |
    | IDLE | due, news of ours | calls | ASKING |
    | ASKING | answered, more to say or to hear | calls | ASKING |
    | ASKING | answered | | IDLE |
    | ASKING | due | as after a failed dial | WAITING |
    | IDLE, ASKING | link down | as after a failed dial | WAITING |
    """

    def __init__(
        self,
        directory: Directory,
        self_id: AdnlId,
        bootstrap: Sequence[AdnlId],
        rules: Rules,
        entropy: Entropy,
    ) -> None:
        self._directory = directory
        self._self_id = self_id
        self._first = [peer for peer in dict.fromkeys(bootstrap) if peer != self_id]
        self._is_source = self_id in bootstrap or not bootstrap
        self._rules = rules
        self._entropy = entropy

        self._servers: dict[AdnlId, _Server] = {}
        self._met: dict[AdnlId, None] = {}
        self._numbers = 0
        self._own: tuple[int, bytes] = (0, b"")
        self._joined = False
        self.refused = 0
        """Adverts of servers that broke a rule."""
        self._outputs: list[Output] = []

    # --- commands ---

    def start(self, now: float) -> None:
        """Begin to look for servers."""
        for peer in sample(self._entropy, self._first, SERVERS):
            self._add(now, peer)
        if self._is_source:
            self._join()

    def publish(self, now: float, seq: int, advert: bytes) -> None:
        """Tell every server this, now and whenever one comes back."""
        self._own = seq, advert
        if self._is_source:
            self._outputs.append(Published(seq))
        for server in self._servers.values():
            if server.state is _State.IDLE:
                self._ask(now, server)

    def link_up(self, now: float, peer: AdnlId) -> None:
        """There is a link to this peer."""
        server = self._servers.get(peer)
        if server is None or server.state in (_State.IDLE, _State.ASKING):
            return
        server.retry = defaults.RETRY_FIRST
        self._remember(peer)
        self._ask(now, server)
        if peer in self._first:
            self._release_others()

    def link_down(self, now: float, peer: AdnlId) -> None:
        """There is no link to this peer any longer."""
        server = self._servers.get(peer)
        if server is not None and server.state in (_State.IDLE, _State.ASKING):
            self._fail(now, server)

    def dial_failed(self, now: float, peer: AdnlId) -> None:
        """What `Reach` wanted cannot be had."""
        server = self._servers.get(peer)
        if server is not None and server.state is _State.DIALLING:
            self._fail(now, server)

    def answered(self, now: float, peer: AdnlId, number: int, body: bytes) -> None:
        """The answer to an `Ask`. One that nobody waits for is late, and ignored."""
        server = self._servers.get(peer)
        if server is None or server.state is not _State.ASKING or server.number != number:
            return
        self._rest(now, server)
        try:
            again = self._read(now, server, body)
        except CodecError as error:
            self._outputs.append(Misled(peer, str(error)))
            return
        if again or self._has_more_to_tell(server):
            self._ask(now, server)

    # --- the core's contract, but for `receive` ---

    def handle_timer(self, now: float) -> None:
        """Dial, ask or give up on those that are due."""
        due = [server for server in self._servers.values() if server.due <= now]
        for server in due:
            match server.state:
                case _State.WAITING:
                    self._reach(now, server)
                case _State.IDLE:
                    self._ask(now, server)
                case _State.DIALLING | _State.ASKING:
                    self._fail(now, server)

    def next_deadline(self) -> float | None:
        """When something is due."""
        return min((server.due for server in self._servers.values()), default=None)

    def acquainted(self) -> list[AdnlId]:
        """The nodes that know our address because we fetch the directory from them, or would."""
        return list(dict.fromkeys([*self._first, *self._met]))

    def drain(self) -> list[Output]:
        """Everything to do and to tell since the last call."""
        outputs, self._outputs = self._outputs, []
        return outputs

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables."""
        return {
            "directory_servers": len(self._servers),
            "directory_servers_met": len(self._met),
            "directory_outputs": len(self._outputs),
        }

    # --- servers ---

    def _add(self, due: float, peer: AdnlId) -> None:
        self._servers[peer] = _Server(peer, due, defaults.RETRY_FIRST)

    def _reach(self, now: float, server: _Server) -> None:
        server.state, server.due = _State.DIALLING, now + DIAL_PATIENCE
        self._outputs.append(Reach(server.peer))

    def _rest(self, now: float, server: _Server) -> None:
        interval = defaults.DEV_SYNC_INTERVAL if self._rules.dev else defaults.SYNC_INTERVAL
        server.state = _State.IDLE
        server.due = now + interval * (1.0 - POLL_JITTER * self._entropy.uniform())

    def _fail(self, now: float, server: _Server) -> None:
        del self._servers[server.peer]
        if server.peer in self._first:
            self._replace(now, server)
        if not self._has_first():
            self._add_others(now)

    def _replace(self, now: float, server: _Server) -> None:
        """By another of the network's first nodes, or by itself, later."""
        last = defaults.DEV_RETRY_LAST if self._rules.dev else defaults.RETRY_LAST
        spare = [peer for peer in self._first if peer not in self._servers]
        again = _Server(
            choice(self._entropy, spare),
            now + server.retry * (1.0 - POLL_JITTER * self._entropy.uniform()),
            min(2 * server.retry, last),
        )
        self._servers[again.peer] = again

    def _remember(self, peer: AdnlId) -> None:
        self._met.pop(peer, None)
        self._met[peer] = None
        if len(self._met) > defaults.SERVERS_MET:
            del self._met[next(iter(self._met))]

    def _add_others(self, now: float) -> None:
        others = [peer for peer in self._servers if peer not in self._first]
        listed = [entry.id for entry in self._directory.usable(Role.DIRECTORY | Role.DIALABLE)]
        spare = [peer for peer in listed if peer not in self._servers and peer not in self._first]
        for peer in sample(self._entropy, spare, SERVERS - len(others)):
            self._add(now + defaults.RETRY_FIRST * self._entropy.uniform(), peer)

    def _release_others(self) -> None:
        for peer in [peer for peer in self._servers if peer not in self._first]:
            del self._servers[peer]

    def _has_first(self) -> bool:
        return any(
            server.state in (_State.IDLE, _State.ASKING)
            for server in self._servers.values()
            if server.peer in self._first
        )

    # --- calls ---

    def _ask(self, now: float, server: _Server) -> None:
        if self._has_more_to_tell(server):
            server.telling, advert = self._own
            server.call = Publish(advert)
        else:
            server.call, server.put_off = server.known, False
        self._numbers += 1
        server.number, server.state = self._numbers, _State.ASKING
        server.due = now + defaults.CALL_TIMEOUT
        self._outputs.append(Ask(server.peer, server.number, calls.pack_call(server.call)))

    def _has_more_to_tell(self, server: _Server) -> bool:
        return self._own[0] > server.told and not server.put_off

    def _read(self, now: float, server: _Server, body: bytes) -> bool:
        """Take an answer; whether to ask for news at once. Raises `CodecError`."""
        match server.call:
            case Publish():
                self._read_done(server, calls.read_done(body))
                return False
            case Sync():
                return self._read_news(now, server, calls.read_news(body))

    def _read_done(self, server: _Server, refused: Refused | None) -> None:
        if refused is None:
            server.told = server.telling
            self._outputs.append(Published(server.told))
        else:
            server.put_off = True
            self._outputs.append(PublishRefused(refused.code))

    def _read_news(self, now: float, server: _Server, news: News | Refused) -> bool:
        if isinstance(news, Refused):
            return False
        server.known = Sync(news.session, news.next)
        if self._learn(now, news.adverts):
            self._outputs.append(DirectoryChanged())
        self._outputs += [Contradiction(pair) for pair in self._directory.take_evidence()]
        if not news.more:
            self._directory.confirm(now)
            self._join()
        return news.more

    def _learn(self, now: float, buffers: Sequence[bytes]) -> bool:
        """A server's clock or rules may differ by a little: what we refuse is not its fault."""
        changed = False
        for buffer in buffers:
            try:
                changed |= self._directory.add(now, buffer) is Verdict.NEW
            except AdvertError:
                self.refused += 1
        return changed

    def _join(self) -> None:
        if not self._joined:
            self._joined = True
            self._outputs.append(Joined())
