"""All transfers from all peers: what is let in, and what becomes of it.

A transfer is let in once, by its first symbol: as the answer to a query of ours up to the size that
was asked for, or unasked up to what its peer is allowed. All of it is reserved then. One that is
over is remembered for a while, so that symbols which are still on their way are told so.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias, final

from p2p.errors import AnswerTooBig, RemoteError
from p2p.identity import AdnlId
from p2p.rldp import transfer as wire
from p2p.rldp.due import Due, Key
from p2p.rldp.events import Drop, Output, Payload
from p2p.rldp.fec import Decoder
from p2p.rldp.transfer import CONFIRM_TIMES, Head, Incoming, IncomingPart, TransferId
from p2p.sender import MAX_QUESTION
from p2p.timers import Timers

OVERHEAD: Final = 64
"""bytes of a transfer around the data of its message, at most."""

UNSOLICITED: Final = MAX_QUESTION
"""bytes of data that a peer may send unasked; TON allows 7,680."""

TRANSFERS: Final = 16
"""transfers from one peer that are open unasked."""

LIFE: Final = 10.0
"""seconds after which a transfer that nobody asked for is given up, as in TON."""

MEMORY: Final = 64 * 2**20
"""bytes of all transfers that are open."""

UNASKED_MEMORY: Final = MEMORY // 2
"""bytes of those that nobody asked for: strangers cannot keep answers out."""

COST: Final = 4_096
"""bytes reserved for a transfer besides its data: 16,384 are open at most."""

DONE_TIME: Final = 20.0
"""seconds for which a transfer that is over is remembered, as in TON."""

DONE_KEPT: Final = 128
"""transfers that are remembered whatever their age, as in TON."""

MAX_DONE: Final = 65_536
"""transfers remembered, 20 MB: 3,000 a second; then the oldest would be let in again."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A transfer is here."""

    transfer: TransferId
    data: bytes


@dataclass(frozen=True, slots=True)
class Broken:
    """A transfer that was asked for will not come."""

    transfer: TransferId
    error: RemoteError


Arrival: TypeAlias = Arrived | Broken | Drop | None


@dataclass(slots=True)
class _Done:
    """A transfer that is over."""

    until: float
    told_at: float = 0.0


@dataclass(slots=True)
class _Peer:
    """What comes from one peer."""

    parts: dict[bytes, IncomingPart] = field(default_factory=dict)
    """by the head of their symbols, those that are here included"""
    transfers: dict[TransferId, Incoming] = field(default_factory=dict)
    expected: dict[TransferId, int] = field(default_factory=dict)
    """answers, and the bytes they may have"""
    unasked: int = 0


@final
class Receiving:
    """See the module."""

    def __init__(self, timers: Timers[Key], outputs: list[Output]) -> None:
        self.symbols_received = 0
        self._timers = timers
        self._outputs = outputs
        self._peers: dict[AdnlId, _Peer] = {}
        self._allowed: dict[AdnlId, int] = {}
        self._done: OrderedDict[tuple[AdnlId, TransferId], _Done] = OrderedDict()
        self._reserved = 0
        self._unasked = 0

    # --- what may come ---

    def allow(self, peer: AdnlId, max_size: int) -> None:
        """Let a peer send that many bytes of data unasked."""
        if max_size == UNSOLICITED:
            self._allowed.pop(peer, None)
        else:
            self._allowed[peer] = max_size

    def expect(self, peer: AdnlId, transfer: TransferId, max_size: int) -> None:
        """Let an answer in, of that many bytes with all that is around its data."""
        self._peers.setdefault(peer, _Peer()).expected[transfer] = max_size

    def end(self, now: float, peer: AdnlId, transfer: TransferId) -> None:
        """Nobody waits for an answer any longer: its symbols are told that it is here."""
        state = self._peers.get(peer)
        if state is not None and transfer in state.expected:
            self._remember(now, peer, transfer)
            self._close(peer, state, transfer)

    def expire(self, now: float, peer: AdnlId, transfer: TransferId) -> None:
        """A transfer that nobody asked for has not come in in time, and is not begun anew."""
        state = self._peers.get(peer)
        if state is not None and transfer in state.transfers:
            self._remember(now, peer, transfer)
            self._close(peer, state, transfer)

    def forget(self, peer: AdnlId) -> Iterable[TransferId]:
        """Give up all that comes from a peer; the answers among it."""
        state = self._peers.get(peer)
        if state is None:
            return ()
        expected = tuple(state.expected)
        for transfer in [*state.transfers, *expected]:
            self._close(peer, state, transfer)
        return expected

    # --- symbols ---

    def symbol(self, now: float, peer: AdnlId, message: bytes) -> Arrival:
        """Take a message with a symbol; what it has brought to an end, if anything."""
        if (
            len(message) != wire.MESSAGE_SIZE
            or message[wire.SEQNO_END : wire.DATA_START] != wire.DATA_HEAD
        ):
            return Drop.SYMBOL
        head = message[: wire.HEAD_SIZE]
        state = self._peers.get(peer)
        part = state.parts.get(head) if state is not None else None
        if state is None or part is None:
            return self._first(now, peer, head, message)
        return self._take(now, peer, state, part, message)

    def confirm(self, now: float, peer: AdnlId, transfer: TransferId, number: int) -> None:
        """It is time to confirm what is here of a part, and to set the time of the next confirm."""
        state = self._peers.get(peer)
        incoming = state.transfers.get(transfer) if state is not None else None
        part = incoming.parts.get(number) if incoming is not None else None
        if part is None or part.decoder is None:
            return
        part.news = False
        self._outputs.append(Payload(peer, part.confirm(part.decoder)))
        part.confirms += 1
        if part.confirms < len(CONFIRM_TIMES):
            again = now + CONFIRM_TIMES[part.confirms]
            self._timers.set(Key(Due.CONFIRM, peer, transfer, number), again)

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables, and bytes reserved."""
        peers = self._peers.values()
        return {
            "rldp_incoming": sum(len(peer.transfers) for peer in peers),
            "rldp_expected": sum(len(peer.expected) for peer in peers),
            "rldp_incoming_peers": len(self._peers),
            "rldp_parts": sum(len(peer.parts) for peer in peers),
            "rldp_symbols": sum(
                len(part.decoder.symbols)
                for peer in peers
                for part in peer.parts.values()
                if part.decoder is not None
            ),
            "rldp_allowed": len(self._allowed),
            "rldp_done": len(self._done),
            "rldp_reserved": self._reserved,
        }

    # --- inside ---

    def _take(
        self, now: float, peer: AdnlId, state: _Peer, part: IncomingPart, message: bytes
    ) -> Arrival:
        decoder = part.decoder
        if decoder is None:
            if now - part.completed_at >= wire.COMPLETE_PAUSE:
                part.completed_at = now
                self._complete(peer, part.transfer, part.number)
            return None

        seqno = int.from_bytes(message[wire.HEAD_SIZE : wire.SEQNO_END], "little")
        if not part.take(decoder, seqno, message[wire.DATA_START :]):
            return None if seqno in decoder.symbols else Drop.SEQNO
        self.symbols_received += 1
        if len(decoder.symbols) >= decoder.count:
            return self._decode(now, peer, state, part, decoder)
        self._news(now, peer, part)
        return None

    def _news(self, now: float, peer: AdnlId, part: IncomingPart) -> None:
        """A symbol is to be confirmed, with those that come right after it."""
        if not part.news:
            part.news, part.confirms = True, 0
            key = Key(Due.CONFIRM, peer, part.transfer, part.number)
            self._timers.set(key, now + CONFIRM_TIMES[0])

    def _decode(
        self, now: float, peer: AdnlId, state: _Peer, part: IncomingPart, decoder: Decoder
    ) -> Arrival:
        data = decoder.decode()
        if data is None and decoder.given_up:
            return self._break(now, peer, state, part.transfer, Drop.UNDECODABLE)
        if data is None:
            self._news(now, peer, part)
            return None

        self._timers.clear(Key(Due.CONFIRM, peer, part.transfer, part.number))
        part.completed_at = now
        self._complete(peer, part.transfer, part.number)
        whole = state.transfers[part.transfer].finish(part, data)
        if whole is None:
            return None
        self._remember(now, peer, part.transfer)
        self._close(peer, state, part.transfer)
        return Arrived(part.transfer, whole)

    def _break(
        self, now: float, peer: AdnlId, state: _Peer, transfer: TransferId, reason: Drop
    ) -> Broken | Drop:
        """Give a transfer up. Its symbols are told that it is here, as that ends them."""
        asked = transfer in state.expected
        self._remember(now, peer, transfer)
        self._close(peer, state, transfer)
        if not asked:
            return reason
        if reason is Drop.TOO_BIG:
            return Broken(transfer, AnswerTooBig("an answer larger than was asked for"))
        return Broken(transfer, RemoteError("an answer that cannot be decoded"))

    def _first(self, now: float, peer: AdnlId, packed: bytes, message: bytes) -> Arrival:
        """The first symbol of a part, or one that comes too late."""
        head = wire.read_head(packed)
        if head is None:
            return Drop.SYMBOL
        done = self._done.get((peer, head.transfer))
        if done is not None:
            if now - done.told_at >= wire.COMPLETE_PAUSE:
                done.told_at = now
                self._complete(peer, head.transfer, head.part)
            return None

        state = self._peers.get(peer) or _Peer()
        transfer = state.transfers.get(head.transfer) or self._admit(now, peer, state, head)
        if not isinstance(transfer, Incoming):
            return transfer
        if transfer.total != head.total:
            return Drop.SYMBOL
        part = transfer.open(packed, head.part)
        if part is None:
            return Drop.PART
        state.parts[packed] = part
        return self._take(now, peer, state, part, message)

    def _admit(
        self, now: float, peer: AdnlId, state: _Peer, head: Head
    ) -> Incoming | Broken | Drop:
        """Let a transfer in, with all that it will take."""
        expected = state.expected.get(head.transfer)
        if expected is not None and head.total > expected:
            return self._break(now, peer, state, head.transfer, Drop.TOO_BIG)
        cost = head.total + COST
        refused = self._refuse_unasked(peer, state, head.total, cost) if expected is None else None
        if refused is not None:
            return refused
        if self._reserved + cost > MEMORY:
            return Drop.MEMORY

        if expected is None:
            state.unasked += 1
            self._unasked += cost
            self._timers.set(Key(Due.INCOMING, peer, head.transfer), now + LIFE)

        self._reserved += cost
        transfer = state.transfers[head.transfer] = Incoming(head.transfer, head.total, cost)
        self._peers[peer] = state
        return transfer

    def _refuse_unasked(self, peer: AdnlId, state: _Peer, total: int, cost: int) -> Drop | None:
        if total > self._allowed.get(peer, UNSOLICITED) + OVERHEAD:
            return Drop.TOO_BIG
        if state.unasked >= TRANSFERS:
            return Drop.TOO_MANY
        if self._unasked + cost > UNASKED_MEMORY:
            return Drop.MEMORY
        return None

    def _close(self, peer: AdnlId, state: _Peer, number: TransferId) -> None:
        """Forget a transfer, and what was reserved for it."""
        asked = state.expected.pop(number, None) is not None
        transfer = state.transfers.pop(number, None)
        if transfer is not None:
            self._reserved -= transfer.cost
            for part in transfer.parts.values():
                del state.parts[part.head]
                self._timers.clear(Key(Due.CONFIRM, peer, number, part.number))
            if not asked:
                state.unasked -= 1
                self._unasked -= transfer.cost
                self._timers.clear(Key(Due.INCOMING, peer, number))
        if not state.transfers and not state.expected:
            self._peers.pop(peer, None)

    def _remember(self, now: float, peer: AdnlId, transfer: TransferId) -> None:
        self._done[peer, transfer] = _Done(now + DONE_TIME, now)
        while len(self._done) > MAX_DONE or (
            len(self._done) > DONE_KEPT and next(iter(self._done.values())).until < now
        ):
            self._done.popitem(last=False)

    def _complete(self, peer: AdnlId, transfer: TransferId, part: int) -> None:
        self._outputs.append(Payload(peer, wire.pack_complete(transfer, part)))
