"""Queries that are not answered yet: ours by ticket, and those of each peer to us."""

from collections.abc import Iterator
from typing import final

from p2p.adnl.drops import Drop
from p2p.adnl.events import Ticket, Token
from p2p.adnl.limits import Limits
from p2p.adnl.peer import Pair, Peer
from p2p.adnl.table import Table
from p2p.entropy import Entropy
from p2p.errors import AdnlError
from p2p.timers import Timers


@final
class Queries:
    """Each ends once: answered, given up, or forgotten."""

    def __init__(self, table: Table, limits: Limits, entropy: Entropy) -> None:
        self.asked = self.answered = 0
        """Queries of ours so far, and how many were answered."""
        self._table = table
        self._limits = limits
        self._entropy = entropy
        self._pending: dict[Ticket, Pair] = {}
        self._due: Timers[Ticket] = Timers()

    # --- ours ---

    @property
    def full(self) -> bool:
        """Whether no more of ours may be outstanding."""
        return len(self._pending) >= self._limits.pending

    def ask(self, now: float, peer: Peer, timeout: float) -> Ticket:
        """Begin one; the ticket is its number on the wire too."""
        ticket = Ticket(self._entropy.token(32))
        self._pending[ticket] = peer.pair
        self._due.set(ticket, now + timeout)
        peer.pending[ticket] = None
        self.asked += 1
        return ticket

    def settle(self, peer: Peer, ticket: Ticket) -> None:
        """An answer came. Raises `AdnlError` if this peer was asked nothing of that number."""
        if ticket not in peer.pending:
            raise AdnlError(Drop.ANSWER_UNASKED)
        self.close(ticket)
        self.answered += 1

    def close(self, ticket: Ticket) -> None:
        """End one, if it has not ended."""
        pair = self._pending.pop(ticket, None)
        if pair is None:
            return
        self._due.clear(ticket)
        peer = self._table.find(pair)
        if peer is not None:
            peer.pending.pop(ticket, None)

    def late(self, now: float) -> Iterator[Ticket]:
        """Those whose time is over."""
        return self._due.take(now)

    def next_late(self) -> float | None:
        """When that will be so of the next."""
        return self._due.next()

    # --- theirs ---

    def open(self, now: float, peer: Peer, query_id: bytes) -> Token:
        """A peer asks. Raises `AdnlError` if it asks too much at once, or the same again."""
        _tidy(now, peer.open)
        if query_id in peer.open:
            raise AdnlError(Drop.QUERY_REPEATED)
        if len(peer.open) >= self._limits.unanswered:
            raise AdnlError(Drop.QUERIES_FULL)
        peer.open[query_id] = now + self._limits.answer_time
        return Token(peer.local.id, peer.id, query_id)

    def asker(self, now: float, token: Token) -> Peer | None:
        """Whom an answer is for, which ends the query; None if it is too late for any."""
        peer = self._table.find(Pair(token.local, token.peer))
        if peer is None or peer.open.pop(token.query_id, now) <= now:
            return None
        return peer

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables; what peers have asked is in the peers."""
        return {"asked": len(self._pending), "due": len(self._due)}


def _tidy(now: float, queries: dict[bytes, float]) -> None:
    """Forget those that nobody answered in time; they stand in the order of that."""
    while queries:
        oldest = next(iter(queries))
        if queries[oldest] > now:
            return
        del queries[oldest]
