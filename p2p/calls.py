"""Calls between nodes for the layers above: a query to a peer that we name, and its answer.

They share a link's QUERY and ANSWER with the directory's calls and differ from them by their body,
a map, of which nothing but the first byte is looked at here. A peer that will not answer says
`[1, code]`, as it does to the directory's calls.

Whoever holds this core sees to links (`Reach`), sends (`Write`), and tells those who wait
(`Replied`, `Unanswered`). A query is sent once; its caller knows whether it may be repeated.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final, TypeAlias, final

from p2p import defaults
from p2p.bucket import Buckets
from p2p.errors import (
    AnswerTooBig,
    Closed,
    CodecError,
    NoCapacity,
    Rejected,
    RemoteError,
    Timeout,
    Unreachable,
)
from p2p.identity import AdnlId
from p2p.overlay import bodies
from p2p.overlay.bodies import Refusal
from p2p.timers import soonest
from p2p.wire import Kind, Link, Message

FIRST: Final = 1 << 63
"""Number of the first query; those of `Sending` begin lower, so their answers are told apart."""


def is_call(body: bytes) -> bool:
    """Whether a QUERY's body is ours to read: a map, by the first byte of its msgpack."""
    return bool(body) and (0x80 <= body[0] <= 0x8F or body[0] in (0xDE, 0xDF))


@dataclass(frozen=True, slots=True)
class Query:
    """A peer asks: `answer` or `refuse`, or it is forgotten in time."""

    peer: AdnlId
    link: Link
    number: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Replied:
    """The answer to the query of this number."""

    number: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Unanswered:
    """There will be no answer to the query of this number."""

    number: int
    error: RemoteError | Unreachable


@dataclass(frozen=True, slots=True)
class Reach:
    """A link to this peer is wanted: `link_up` or `dial_failed` answers."""

    peer: AdnlId


@dataclass(frozen=True, slots=True)
class Write:
    """Send this."""

    link: Link
    message: Message


Output: TypeAlias = Query | Replied | Unanswered | Reach | Write


@dataclass(frozen=True, slots=True)
class _Asked:
    peer: AdnlId
    body: bytes
    due: float


@dataclass(slots=True)
class _Line:
    """Our queries to one peer, in order: those under way over `link`, and those that wait."""

    link: Link | None = None
    under_way: dict[int, None] = field(default_factory=dict)
    waiting: deque[int] = field(default_factory=deque)

    def __len__(self) -> int:
        return len(self.under_way) + len(self.waiting)


@final
class Calls:
    """See the module. At most as many queries are under way to a peer as it keeps open."""

    def __init__(self) -> None:
        self._numbers = FIRST
        self._asked: dict[int, _Asked] = {}
        self._lines: dict[AdnlId, _Line] = {}
        self._open: dict[tuple[Link, int], float] = {}
        self._open_of: dict[Link, int] = {}
        self._buckets = Buckets[AdnlId](
            defaults.CALL_RATE, defaults.CALL_BURST, defaults.CALL_PEERS
        )
        self._outputs: list[Output] = []

    # --- what we ask ---

    def query(self, now: float, peer: AdnlId, body: bytes) -> int:
        """Ask a peer: `Replied` or `Unanswered` of the number returned follows within 10 s.

        Raises `NoCapacity` while too many are outstanding, `ValueError` for a body that is none.
        """
        _check(body)
        line = self._lines.setdefault(peer, _Line())
        if len(line) >= defaults.CALLS_OUTSTANDING:
            raise NoCapacity("too many calls to one peer")
        number, self._numbers = self._numbers, self._numbers + 1
        self._asked[number] = _Asked(peer, body, now + defaults.CALL_TIMEOUT)
        line.waiting.append(number)
        if line.link is None:
            self._outputs.append(Reach(peer))
        self._advance(line)
        return number

    def forget(self, number: int) -> None:
        """Nobody waits for this answer any longer; nothing more is said of it."""
        asked = self._asked.pop(number, None)
        if asked is None:
            return
        line = self._lines[asked.peer]
        if number in line.under_way:
            del line.under_way[number]
        else:
            line.waiting.remove(number)
        self._advance(line)
        if not line:
            del self._lines[asked.peer]

    def answered(self, link: Link, number: int, body: bytes) -> None:
        """An ANSWER with a number from `FIRST` came. One that nobody waits for is ignored."""
        asked = self._asked.get(number)
        line = self._lines.get(link.peer)
        if asked is None or line is None or number not in line.under_way or line.link != link:
            return
        self._outputs.append(_outcome(number, body))
        self.forget(number)

    # --- what we are asked ---

    def asked(self, now: float, link: Link, number: int, body: bytes) -> None:
        """A QUERY with a body of ours came: `Query` follows, or a refusal leaves.

        Raises `CodecError` for one too long, or of a number that is not answered yet.
        """
        if len(body) > defaults.MAX_CALL:
            raise CodecError("a call too long")
        if (link, number) in self._open:
            raise CodecError("two calls of one number")
        open_of = self._open_of.get(link, 0)
        if not self._buckets.take(now, link.peer) or open_of >= defaults.CALLS_OPEN:
            self._reply(link, number, bodies.pack_refusal(Refusal.BUSY))
            return
        self._open[link, number] = now + defaults.CALL_LIFE
        self._open_of[link] = open_of + 1
        self._outputs.append(Query(link.peer, link, number, body))

    def answer(self, query: Query, body: bytes) -> None:
        """Answer a `Query`; too late is no error. Raises `ValueError` for a body that is none."""
        _check(body)
        if self._close(query.link, query.number):
            self._reply(query.link, query.number, body)

    def refuse(self, query: Query, reason: Refusal) -> None:
        """Say no to a `Query`."""
        if self._close(query.link, query.number):
            self._reply(query.link, query.number, bodies.pack_refusal(reason))

    # --- links ---

    def link_up(self, link: Link) -> None:
        """There is a link to this peer: what waits leaves over it."""
        line = self._lines.get(link.peer)
        if line is not None and line.link is None:
            line.link = link
            self._advance(line)

    def link_down(self, link: Link) -> None:
        """A link is gone: with it what was under way over it, both ways."""
        for key in [key for key in self._open if key[0] == link]:
            self._close(*key)
        line = self._lines.get(link.peer)
        if line is None or line.link != link:
            return
        line.link = None
        self._fail(list(line.under_way), Closed, "the link was closed")
        if line.waiting:
            self._outputs.append(Reach(link.peer))

    def dial_failed(self, peer: AdnlId) -> None:
        """What `Reach` wanted cannot be had."""
        line = self._lines.get(peer)
        if line is not None and line.link is None:
            self._fail(list(line.waiting), Unreachable, "no link to the peer")

    def uses(self, link: Link) -> bool:
        """Whether a call is under way over this link."""
        line = self._lines.get(link.peer)
        return link in self._open_of or (line is not None and line.link == link)

    # --- the core's contract, but for `receive` ---

    def handle_timer(self, now: float) -> None:
        """Give up on what is due."""
        due = [number for number, asked in self._asked.items() if asked.due <= now]
        self._fail(due, Timeout, "no answer in time")
        for key in [key for key, when in self._open.items() if when <= now]:
            self._close(*key)

    def next_deadline(self) -> float | None:
        """When something is due: both tables are in the order of their times."""
        asked = next((asked.due for asked in self._asked.values()), None)
        open_ = next(iter(self._open.values()), None)
        return soonest(asked, open_)

    def drain(self) -> list[Output]:
        """Everything to do and to tell since the last call."""
        outputs, self._outputs = self._outputs, []
        return outputs

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables."""
        return {
            "calls_asked": len(self._asked),
            "calls_lines": len(self._lines),
            "calls_open": len(self._open),
            "calls_links": len(self._open_of),
            "calls_peers": len(self._buckets),
            "calls_outputs": len(self._outputs),
        }

    # --- inside ---

    def _advance(self, line: _Line) -> None:
        """Send what waits, up to what a peer keeps open: it would refuse more."""
        link = line.link
        while link and line.waiting and len(line.under_way) < defaults.CALLS_OPEN:
            number = line.waiting.popleft()
            line.under_way[number] = None
            message = Message(Kind.QUERY, number, self._asked[number].body)
            self._outputs.append(Write(link, message))

    def _fail(self, numbers: list[int], error: type[Unreachable], reason: str) -> None:
        for number in numbers:  # an error each, as each may be raised
            self._outputs.append(Unanswered(number, error(reason)))
            self.forget(number)

    def _reply(self, link: Link, number: int, body: bytes) -> None:
        self._outputs.append(Write(link, Message(Kind.ANSWER, number, body)))

    def _close(self, link: Link, number: int) -> bool:
        """Whether the query was open until now."""
        if self._open.pop((link, number), None) is None:
            return False
        self._open_of[link] -= 1
        if not self._open_of[link]:
            del self._open_of[link]
        return True


def _check(body: bytes) -> None:
    if not is_call(body) or len(body) > defaults.MAX_CALL:
        raise ValueError("a call is a map of at most 16 KiB")


def _outcome(number: int, body: bytes) -> Replied | Unanswered:
    if is_call(body) and len(body) <= defaults.MAX_CALL:
        return Replied(number, body)
    if is_call(body):
        return Unanswered(number, AnswerTooBig("an answer too long"))
    try:
        bodies.read_done(body)
    except (CodecError, Rejected) as error:
        return Unanswered(number, error)
    return Unanswered(number, CodecError("an answer to another call"))
