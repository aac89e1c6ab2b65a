"""RLDP2: queries, answers and messages of up to 16 MiB between peers that ADNL joins.

What it sends and takes are the payloads of `adnl.message.custom`. There is no hash over a transfer:
ADNL says that its symbols came from the peer, and what they give is only as good as that.
"""

from collections import Counter
from dataclasses import dataclass
from math import ceil
from typing import Final, final

from p2p import tl
from p2p.entropy import Entropy
from p2p.errors import Closed, NoCapacity, RemoteError, Timeout, TlError, Unreachable
from p2p.identity import AdnlId
from p2p.rldp.due import NOBODY, Due, Key
from p2p.rldp.events import (
    Answered,
    Drop,
    Failed,
    Message,
    Output,
    Query,
    RldpStatistics,
    Ticket,
    Token,
)
from p2p.rldp.paths import Paths
from p2p.rldp.receiving import LIFE, OVERHEAD, Arrived, Broken, Receiving
from p2p.rldp.transfer import PART_ID, TransferId
from p2p.timers import Timers
from p2p.ton import Rldp2Complete, Rldp2Confirm, RldpAnswer, RldpMessage, RldpQuery

PREFIXES: Final = (PART_ID, Rldp2Confirm.tl.id, Rldp2Complete.tl.id)
"""How payloads for this core begin."""

QUERIES: Final = 1_024
"""queries of ours without an answer yet."""

ASKED: Final = 64
"""queries of one peer that we have not answered yet."""

ANSWER_TIME: Final = 60.0
"""seconds that an answer of ours is tried for at most, however long its asker waits."""

MAX_DATA: Final = (1 << 24) - 1
"""bytes of data in a message: what TL's three bytes of length can say."""

ANSWER_OVERHEAD: Final = 44
"""bytes of an answer around its data, at most."""


@dataclass(frozen=True, slots=True)
class _Query:
    """A query of ours."""

    peer: AdnlId
    id: bytes
    answer: TransferId


@dataclass(frozen=True, slots=True)
class _Asked:
    """A query of a peer's."""

    peer: AdnlId
    id: bytes
    answer: TransferId
    max_size: int
    until: float


@final
class RldpCore:
    """See the module. Time never falls from call to call."""

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._now = 0.0
        self._timers: Timers[Key] = Timers()
        self._outputs: list[Output] = []
        self._receiving = Receiving(self._timers, self._outputs)
        self._paths = Paths(self._timers, self._outputs)

        self._numbers = 0
        self._queries: dict[Ticket, _Query] = {}
        self._tickets: dict[TransferId, Ticket] = {}
        self._asked: dict[Token, _Asked] = {}
        self._asked_by: Counter[AdnlId] = Counter()

        self._drops: Counter[Drop] = Counter()
        self._answers_refused = 0

    # --- commands ---

    def query(
        self, now: float, peer: AdnlId, data: bytes, *, timeout: float, max_answer: int
    ) -> Ticket:
        """Ask: `Answered` or `Failed` with the ticket follows within `timeout` seconds.

        Raises `NoCapacity` while too much is under way, `ValueError` for more than 16 MiB.
        """
        self._enter(now)
        query, transfer = self._entropy.token(32), TransferId(self._entropy.token(32))
        until, limit = now + timeout, min(max_answer, MAX_DATA) + OVERHEAD
        packed = tl.pack(RldpQuery(query, limit, ceil(until), data))
        if len(self._queries) >= QUERIES or not self._paths.has_room(peer, len(packed)):
            raise NoCapacity("too many queries under way")

        ticket, answer = Ticket(self._number()), _opposite(transfer)
        self._queries[ticket] = _Query(peer, query, answer)
        self._tickets[answer] = ticket
        self._receiving.expect(peer, answer, limit)
        self._timers.set(Key(Due.QUERY, NOBODY, number=ticket), until)
        self._paths.start(now, peer, transfer, packed, until)
        return ticket

    def cancel(self, now: float, ticket: Ticket) -> None:
        """Nobody waits for this answer any longer; nothing more is said of it."""
        self._enter(now)
        self._close(now, ticket)

    def send(self, now: float, peer: AdnlId, data: bytes) -> None:
        """Tell something, once; nothing says whether it arrived.

        Raises `NoCapacity` while too much is under way, `ValueError` for more than 16 MiB.
        """
        self._enter(now)
        packed = tl.pack(RldpMessage(self._entropy.token(32), data))
        if not self._paths.has_room(peer, len(packed)):
            raise NoCapacity("too much under way")
        self._paths.start(now, peer, TransferId(self._entropy.token(32)), packed, now + LIFE)

    def answer(self, now: float, token: Token, data: bytes) -> None:
        """Answer a `Query`. Too late, or larger than its asker takes, is no error: it is counted.

        Raises `ValueError` for more than 16 MiB.
        """
        self._enter(now)
        asked = self._forget_asked(token)
        if asked is None:
            self._answers_refused += 1
            return
        packed = tl.pack(RldpAnswer(asked.id, data))
        if len(packed) > asked.max_size or not self._paths.has_room(asked.peer, len(packed)):
            self._answers_refused += 1
            return
        self._paths.start(now, asked.peer, asked.answer, packed, asked.until)

    def allow(self, peer: AdnlId, max_size: int) -> None:
        """Let a peer send queries and messages of that many bytes; 16 KiB is what all may."""
        self._receiving.allow(peer, max_size)

    def forget(self, now: float, peer: AdnlId) -> None:
        """The peer is gone: all that is under way with it ends, queries with `Closed`."""
        self._enter(now)
        for transfer in self._receiving.forget(peer):
            self._fail(now, self._tickets[transfer], Closed("the peer is gone"))
        for token in [token for token, asked in self._asked.items() if asked.peer == peer]:
            self._forget_asked(token)
        self._paths.forget(now, peer)

    # --- the core's contract ---

    def receive(self, now: float, peer: AdnlId, payload: bytes) -> None:
        """Take the data of an `adnl.message.custom`."""
        self._enter(now)
        if payload.startswith(PART_ID):
            arrival = self._receiving.symbol(now, peer, payload)
        else:
            arrival = self._paths.hear(now, peer, payload)
        match arrival:
            case None:
                return
            case Drop() as reason:
                self._drops[reason] += 1
            case Broken(transfer=transfer, error=error):
                self._fail(now, self._tickets[transfer], error)
            case Arrived() as arrived:
                self._arrived(now, peer, arrived)

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self._enter(now)
        for key in self._timers.take(now):
            self._due(now, key)

    def next_deadline(self) -> float | None:
        """When something is due."""
        return self._timers.next()

    def drain(self) -> list[Output]:
        """What is to be carried and told, in order."""
        outputs = self._outputs[:]
        self._outputs.clear()
        return outputs

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables, and bytes kept."""
        return {
            **self._receiving.sizes(),
            **self._paths.sizes(),
            "rldp_queries": len(self._queries),
            "rldp_asked": len(self._asked),
            "rldp_asked_peers": len(self._asked_by),
            "rldp_timers": len(self._timers),
            "rldp_outputs": len(self._outputs),
        }

    def statistics(self) -> RldpStatistics:
        """What has happened so far."""
        return RldpStatistics(
            symbols_sent=self._paths.symbols_sent,
            symbols_needed=self._paths.symbols_needed,
            symbols_received=self._receiving.symbols_received,
            answers_refused=self._answers_refused,
            drops=dict(self._drops),
        )

    # --- inside ---

    def _enter(self, now: float) -> None:
        if now < self._now:
            raise ValueError(f"time falls from {self._now!r} to {now!r}")
        self._now = now

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _due(self, now: float, key: Key) -> None:
        match key.due:
            case Due.SEND:
                self._paths.fill(now, key.peer)
            case Due.CONFIRM:
                self._receiving.confirm(now, key.peer, key.transfer, key.number)
            case Due.PROBE:
                self._paths.probe(now, key.peer, key.transfer, key.number)
            case Due.OUTGOING:
                self._paths.stop(now, key.peer, key.transfer)
            case Due.INCOMING:
                self._receiving.expire(now, key.peer, key.transfer)
            case Due.QUERY:
                self._fail(now, Ticket(key.number), Timeout("no answer in time"))
            case Due.ANSWER:
                self._forget_asked(Token(key.number))

    # --- queries of ours ---

    def _close(self, now: float, ticket: Ticket) -> bool:
        """Whether the query was under way until now."""
        query = self._queries.pop(ticket, None)
        if query is None:
            return False
        del self._tickets[query.answer]
        self._timers.clear(Key(Due.QUERY, NOBODY, number=ticket))
        self._receiving.end(now, query.peer, query.answer)
        self._paths.stop(now, query.peer, _opposite(query.answer))
        return True

    def _fail(self, now: float, ticket: Ticket, error: RemoteError | Unreachable) -> None:
        if self._close(now, ticket):
            self._outputs.append(Failed(ticket, error))

    # --- what arrives ---

    def _arrived(self, now: float, peer: AdnlId, arrived: Arrived) -> None:
        ticket = self._tickets.get(arrived.transfer)
        if ticket is not None and self._queries[ticket].peer == peer:
            self._answered(now, ticket, arrived.data)
            return
        try:
            content = tl.parse_any(arrived.data)
        except TlError:
            content = None
        match content:
            case RldpMessage(data=data):
                self._outputs.append(Message(peer, data))
            case RldpQuery():
                self._queried(now, peer, arrived.transfer, content)
            case _:
                self._drops[Drop.CONTENT] += 1

    def _answered(self, now: float, ticket: Ticket, data: bytes) -> None:
        try:
            answer = tl.parse(RldpAnswer, data)
            if answer.query_id != self._queries[ticket].id:
                raise TlError("an answer to another query")
        except TlError as error:
            self._fail(now, ticket, error)
            return
        self._close(now, ticket)
        self._outputs.append(Answered(ticket, answer.data))

    def _queried(self, now: float, peer: AdnlId, transfer: TransferId, query: RldpQuery) -> None:
        until = min(float(query.timeout), now + ANSWER_TIME)
        if until <= now:
            self._drops[Drop.EXPIRED] += 1
            return
        if self._asked_by[peer] >= ASKED:
            self._drops[Drop.BUSY] += 1
            return

        token = Token(self._number())
        limit = query.max_answer_size
        self._asked[token] = _Asked(peer, query.query_id, _opposite(transfer), limit, until)
        self._asked_by[peer] += 1
        self._timers.set(Key(Due.ANSWER, NOBODY, number=token), until)
        largest = min(max(0, limit - ANSWER_OVERHEAD), MAX_DATA)
        self._outputs.append(Query(peer, query.data, token, largest))

    def _forget_asked(self, token: Token) -> _Asked | None:
        asked = self._asked.pop(token, None)
        if asked is None:
            return None
        self._timers.clear(Key(Due.ANSWER, NOBODY, number=token))
        self._asked_by[asked.peer] -= 1
        if not self._asked_by[asked.peer]:
            del self._asked_by[asked.peer]
        return asked


def _opposite(transfer: TransferId) -> TransferId:
    """The id of a query's answer, from the query's, and back."""
    return TransferId(bytes(byte ^ 0xFF for byte in transfer))
