"""Whether others can reach this node, for UDP and for TCP each: judged by strangers who try.

    whoami at two servers     not told where we seem to be: unknown; told two addresses: a third,
                              and two must agree
    probe at three            each has a stranger, to whom we have said nothing, show us a nonce
    two nonces within 5 s     yes; fewer: no

A router lets in who was spoken to, so only a stranger proves anything. One server may lie: an
address that the operator names, or that strangers have used, falls only to a probe of that very
address, however much servers disagree about where we seem to be. Judged again each ten
minutes, and at once when servers report another address; lost after two failures. What has held for
ten minutes lasts: then the address may be published.

Procedures do not know the time: what they have found is put aside and makes a timer due at once.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias, final

from p2p.core import Procedures
from p2p.entropy import Entropy
from p2p.identity import AdnlId
from p2p.overlay.advert import Rules
from p2p.overlay.asking import Asking
from p2p.overlay.bodies import NONCE_SIZE, Address, Transport, address_of
from p2p.overlay.epochs import Calendar
from p2p.overlay.fields import host_of
from p2p.timers import Timers
from p2p.wire import Endpoint

TELLERS: Final = 2
"""servers that say where we seem to be, alike."""

MOST_TELLERS: Final = 3
"""servers asked for that: one of them may lie."""

PROBES: Final = 3
"""servers that have a stranger reach us."""

ENOUGH: Final = 2
"""strangers that must."""

PATIENCE: Final = 5.0
"""seconds they have."""

LOST_AFTER: Final = 2
"""failures, one after the other, until we count as out of reach."""

AGAIN: Final = 600.0
"""seconds to the next judgement, and that one must hold before it lasts."""

LOOK: Final = 120.0
"""seconds between two looks at where we seem to be: two small calls."""


NOT_YET: Final = "not known yet: servers are being asked"
NO_TELLERS: Final = "too few servers have said where this node seems to be"
NO_STRANGERS: Final = "nobody was there to try: in a small network everybody has been spoken to"
REACHED: Final = "strangers reached this node over {name}"
LEAVE: Final = "forward {name} port {port} in the router, or leave it: clients do not need it"
UNREACHED: Final = "no stranger could reach {name} port {seen}: " + LEAVE
SEVERAL: Final = "servers see this node at more than one address, so nobody knows which to use"
MAPPED: Final = "the router shows each server another port, which nobody else can use: " + LEAVE


class Dialable(Enum):
    """What is known of whether others can reach us over one transport."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reachability:
    """What is known for one transport, in words that people can act upon."""

    transport: Transport
    dialable: Dialable
    endpoint: Endpoint | None = None
    """Where strangers reached us, or tried to."""
    since: float | None = None
    """From when on it holds, if we can be reached."""
    lasts: bool = False
    """It has held long enough to be published."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Told:
    """Where servers say that we seem to be."""

    addresses: Sequence[Address]


@dataclass(frozen=True, slots=True)
class _Probed:
    """So many servers of those asked will have a stranger reach us."""

    transport: Transport
    willing: int


_Finding: TypeAlias = _Told | _Probed


@dataclass(slots=True)
class _Trial:
    """One judgement under way."""

    endpoint: Endpoint
    nonces: dict[bytes, bool | None] = field(default_factory=dict)
    """Whether a stranger showed it; None if nobody did."""
    willing: int = 0


class _Due(Enum):
    FINDINGS = "what procedures have found"
    LOOK = "a look at where we seem to be"
    UDP = "the end of a trial over UDP"
    TCP = "the end of a trial over TCP"


_TRIALS: Final = {Transport.UDP: _Due.UDP, Transport.TCP: _Due.TCP}


@final
class Reach:
    """`listen` where this node does, tell what is `reached`; `drain` what is known when it changes.

    `servers` are those to ask, of different operators; `spoken_to` says whether a router may let a
    peer in over a transport because we have spoken to it.
    """

    def __init__(
        self,
        asking: Asking,
        procedures: Procedures,
        entropy: Entropy,
        *,
        rules: Rules,
        calendar: Calendar,
        servers: Callable[[], Sequence[AdnlId]],
        spoken_to: Callable[[AdnlId, Transport], bool],
    ) -> None:
        self._asking = asking
        self._procedures = procedures
        self._entropy = entropy
        self._is_dev = rules.dev
        self._tellers = 1 if rules.dev else TELLERS
        self._servers = servers
        self._spoken_to = spoken_to
        self._lasting = 0.0 if rules.dev else AGAIN
        self._look = calendar.scaled(LOOK)
        self._repeat = calendar.scaled(AGAIN)

        self._ports: Mapping[Transport, int] = {}
        self._said: Mapping[Transport, Sequence[Endpoint]] = {}
        self._known: dict[Transport, Reachability] = {}
        self._trials: dict[Transport, _Trial] = {}
        self._failures = dict.fromkeys(Transport, 0)
        self._judged = dict.fromkeys(Transport, float("-inf"))
        self._looking = False
        self._timers: Timers[_Due] = Timers()
        self._findings: list[_Finding] = []
        self._events: list[Reachability] = []

    # --- commands ---

    def listen(
        self,
        now: float,
        ports: Mapping[Transport, int],
        said: Mapping[Transport, Sequence[Endpoint]] | None = None,
    ) -> None:
        """This node listens on these ports: find out whether they can be reached.

        Its operator has `said` where it can: then one failure changes nothing.
        """
        self._ports = dict(ports)
        self._said = dict(said or {})
        for transport in ports:
            self._know(Reachability(transport=transport, dialable=Dialable.UNKNOWN, reason=NOT_YET))
        self._timers.set(_Due.LOOK, now)

    def reached(self, now: float, peer: AdnlId, nonce: bytes) -> None:
        """A peer has shown a nonce. Who was spoken to proves nothing: a router lets it in."""
        for transport, trial in self._trials.items():
            if nonce in trial.nonces and not trial.nonces[nonce]:
                trial.nonces[nonce] = not self._spoken_to(peer, transport)

    # --- asking ---

    def known(self) -> list[Reachability]:
        """What is known now."""
        return list(self._known.values())

    # --- the core's contract ---

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        for due in self._timers.take(now):
            match due:
                case _Due.FINDINGS:
                    self._take_findings(now)
                case _Due.LOOK:
                    self._timers.set(_Due.LOOK, now + self._look)
                    self._look_around()
                case _Due.UDP:
                    self._judge(now, Transport.UDP)
                case _Due.TCP:
                    self._judge(now, Transport.TCP)

    def next_deadline(self) -> float | None:
        """When something is due."""
        return self._timers.next()

    def drain(self) -> list[Reachability]:
        """What has changed since the last call."""
        events, self._events = self._events, []
        return events

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables."""
        return {"reach_trials": len(self._trials), "reach_findings": len(self._findings)}

    # --- where we seem to be ---

    def _look_around(self) -> None:
        if not self._looking and self._ports:
            self._looking = True
            self._procedures.start(self._ask_tellers(self._servers()))

    async def _ask_tellers(self, peers: Sequence[AdnlId]) -> None:
        """Ask one after the other until two have said it: the failure of one says nothing."""
        told: list[Address] = []
        for peer in peers:
            (answer,) = await self._asking.all_of([self._asking.whoami(peer)])
            if isinstance(answer, Address):
                told.append(answer)
            if len(told) == MOST_TELLERS or self._is_settled(told):
                break
        self._found(_Told(told))

    def _is_settled(self, told: Sequence[Address]) -> bool:
        """Whether a third has nothing to decide."""
        seen = [address for address in told if self._counts(address)]
        return len(seen) >= TELLERS and not any(
            isinstance(_where(transport, port, seen), str)
            for transport, port in self._ports.items()
        )

    def _take_told(self, now: float, told: Sequence[Address]) -> None:
        self._looking = False
        seen = [address for address in told if self._counts(address)]
        for transport, port in self._ports.items():
            where = _where(transport, port, seen) if len(seen) >= self._tellers else None
            if isinstance(where, Endpoint):
                self._consider(now, transport, self._named(transport, where))
            elif where is not None:
                self._contest(now, transport, where)
            else:
                self._doubt(transport, None, NO_TELLERS)

    def _named(self, transport: Transport, seen: Endpoint) -> Endpoint:
        """Where to try: what the operator says of this host goes before the port that is seen."""
        named = [one for one in self._said.get(transport, ()) if one.host == seen.host]
        return seen if seen in named else [*named, seen][0]

    def _contest(self, now: float, transport: Transport, words: str) -> None:
        """Servers disagree: that ends nothing which has been said or proven, but has it tried."""
        known = self._known[transport]
        proven = known.endpoint if known.dialable is Dialable.YES else None
        standing = proven or next(iter(self._said.get(transport, ())), None)
        if standing is None:
            self._fail(transport, None, words)
        elif transport not in self._trials:
            self._try(now, transport, standing)

    def _counts(self, address: Address) -> bool:
        """A server in our own network sees a private address, which nobody outside can use."""
        return self._is_dev or host_of(address.endpoint).is_global

    def _consider(self, now: float, transport: Transport, endpoint: Endpoint) -> None:
        """Try an address if it is another, in doubt, or was judged long ago."""
        known = self._known[transport]
        is_due = self._failures[transport] == 1 or now >= self._judged[transport] + self._repeat
        if transport in self._trials:
            return
        if is_due or known.endpoint != endpoint:
            self._try(now, transport, endpoint)
        elif known.dialable is Dialable.YES:
            self._confirm(now, transport, endpoint)

    # --- trials ---

    def _try(self, now: float, transport: Transport, endpoint: Endpoint) -> None:
        trial = self._trials[transport] = _Trial(endpoint)
        peers = self._servers()[-PROBES:]
        nonces = [self._entropy.token(NONCE_SIZE) for _ in peers]
        trial.nonces = dict.fromkeys(nonces)
        self._timers.set(_TRIALS[transport], now + PATIENCE)
        address = address_of(transport, endpoint)
        self._procedures.start(self._probe(address, list(zip(peers, nonces, strict=True))))

    async def _probe(self, address: Address, asked: Sequence[tuple[AdnlId, bytes]]) -> None:
        outcomes = await self._asking.all_of(
            [self._asking.probe(peer, nonce, address) for peer, nonce in asked]
        )
        self._found(_Probed(address.transport, outcomes.count(None)))

    def _judge(self, now: float, transport: Transport) -> None:
        trial = self._trials.pop(transport)
        self._judged[transport] = now
        strangers = sum(shown is True for shown in trial.nonces.values())
        others = sum(shown is False for shown in trial.nonces.values())
        if strangers >= ENOUGH:
            self._confirm(now, transport, trial.endpoint)
        elif strangers + others >= ENOUGH or trial.willing < ENOUGH:
            self._doubt(transport, trial.endpoint, NO_STRANGERS)
        else:
            seen, port = trial.endpoint.port, self._ports[transport]
            words = UNREACHED.format(name=transport.name, port=port, seen=seen)
            self._fail(transport, trial.endpoint, words)

    # --- what is known ---

    def _confirm(self, now: float, transport: Transport, endpoint: Endpoint) -> None:
        known = self._known[transport]
        since = known.since if known.endpoint == endpoint and known.since is not None else now
        self._failures[transport] = 0
        self._know(
            Reachability(
                transport=transport,
                dialable=Dialable.YES,
                endpoint=endpoint,
                since=since,
                lasts=now >= since + self._lasting,
                reason=REACHED.format(name=transport.name),
            )
        )

    def _fail(self, transport: Transport, endpoint: Endpoint | None, words: str) -> None:
        """That we can be reached is believed until the second failure."""
        self._failures[transport] += 1
        was = self._known[transport].dialable
        believed = was is Dialable.YES or bool(self._said.get(transport))
        if believed and self._failures[transport] < LOST_AFTER:
            self._doubt(transport, endpoint, words)
            return
        no = Dialable.NO
        self._know(Reachability(transport=transport, dialable=no, endpoint=endpoint, reason=words))

    def _doubt(self, transport: Transport, endpoint: Endpoint | None, words: str) -> None:
        """Nothing could be found out: what was known stays."""
        unknown = Dialable.UNKNOWN
        if self._known[transport].dialable is unknown:
            self._know(
                Reachability(transport=transport, dialable=unknown, endpoint=endpoint, reason=words)
            )

    def _know(self, now_known: Reachability) -> None:
        if self._known.get(now_known.transport) != now_known:
            self._known[now_known.transport] = now_known
            self._events.append(now_known)

    # --- what procedures have found ---

    def _found(self, finding: _Finding) -> None:
        self._findings.append(finding)
        self._timers.set(_Due.FINDINGS, 0.0)

    def _take_findings(self, now: float) -> None:
        findings, self._findings = self._findings, []
        for finding in findings:
            match finding:
                case _Told(addresses):
                    self._take_told(now, addresses)
                case _Probed(transport, willing):
                    if transport in self._trials:
                        self._trials[transport].willing = willing


def _where(transport: Transport, port: int, seen: Sequence[Address]) -> Endpoint | str | None:
    """Where to try, of the port that we listen on; or why nobody can reach us.

    Two must say so, or the only one that has said anything.
    """
    enough = min(TELLERS, len(seen))
    for host, agreeing in Counter(one.endpoint.host for one in seen).most_common(1):
        if agreeing < enough:
            return SEVERAL
        if transport is Transport.TCP:
            return Endpoint(host, port)
        return _port(port, enough, [one for one in seen if one.endpoint.host == host])
    return None


def _port(port: int, enough: int, seen: Sequence[Address]) -> Endpoint | str:
    """Of one host, the port that servers see; the one listened on if they see only links."""
    ends = Counter(one.endpoint for one in seen if one.transport is Transport.UDP)
    for end, agreeing in ends.most_common(1):
        if agreeing < enough and len(ends) > 1:
            return MAPPED.format(name=Transport.UDP.name, port=port)
        return end
    return Endpoint(seen[0].endpoint.host, port)
