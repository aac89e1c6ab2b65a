"""What this node answers others: a server side that any peer may ask, at a bounded rate.

Silence is the answer to what breaks a rule; its asker takes it for loss. TON's requests for a way
back through a NAT (`registerReverseConnection`, `requestReversePing`) are met with silence too.
"""

from typing import final

from p2p import tl
from p2p.bucket import Buckets
from p2p.dht import key as keys
from p2p.dht import node as nodes
from p2p.dht import value as values
from p2p.dht.asking import MAX_ANSWER, Asking
from p2p.dht.counts import Count, Counts
from p2p.dht.node import Node
from p2p.dht.settings import Settings
from p2p.dht.storage import Storage
from p2p.dht.table import Table
from p2p.dht.tending import Tending
from p2p.dht.value import Freshness
from p2p.errors import NoCapacity, RemoteError, TlError
from p2p.identity import AdnlId
from p2p.ton import (
    DhtFindNode,
    DhtFindValue,
    DhtGetSignedAddressList,
    DhtMessage,
    DhtNode,
    DhtNodes,
    DhtPing,
    DhtPong,
    DhtQuery,
    DhtStore,
    DhtStored,
    DhtValue,
    DhtValueFound,
    DhtValueNotFound,
)


@final
class Answering:
    """The server side; it answers nothing while it has no record of itself."""

    def __init__(
        self,
        table: Table,
        storage: Storage,
        asking: Asking,
        tending: Tending,
        settings: Settings,
        counts: Counts,
    ) -> None:
        self.record: DhtNode | None = None
        """Our own record, while we serve; `serve` sets it."""
        self._packed = b""
        self._table = table
        self._storage = storage
        self._asking = asking
        self._tending = tending
        self._settings = settings
        self._counts = counts
        self._rates: Buckets[AdnlId] = Buckets(
            settings.query_rate, settings.query_burst, settings.max_peers
        )
        self._introductions: dict[AdnlId, tuple[bytes, Node | None]] = {}

    def serve(self, record: DhtNode | None) -> None:
        """Answer from now on as this node, or not at all."""
        self.record = record
        self._packed = b"" if record is None else tl.pack(record)

    def query(self, now: float, peer: AdnlId, payload: bytes) -> bytes | None:
        """The answer to a query, or silence."""
        answer = self._answer(now, peer, payload)
        if answer is not None:
            self._counts.add(Count.ANSWERED)
        return answer

    def message(self, now: float, peer: AdnlId, payload: bytes) -> None:
        """A node may introduce itself unasked."""
        if self.record is None or not self._rates.take(now, peer):
            return
        try:
            message = tl.parse(DhtMessage, payload)
        except TlError:
            self._counts.add(Count.MALFORMED)
            return
        node = self._own_record(peer, message.node)
        if node is not None:
            self._table.introduce(now, node)

    def sizes(self) -> dict[str, int]:
        """The length of every table."""
        return {"dht_rates": len(self._rates), "dht_introductions": len(self._introductions)}

    def _answer(self, now: float, peer: AdnlId, payload: bytes) -> bytes | None:
        if self.record is None:
            self._counts.add(Count.UNSERVED)
            return None
        if not self._rates.take(now, peer):
            self._counts.add(Count.LIMITED)
            return None
        try:
            question = tl.parse_any(self._unwrap(now, peer, payload))
        except TlError:
            self._counts.add(Count.MALFORMED)
            return None
        return self._answer_to(now, question)

    def _answer_to(self, now: float, question: tl.TlObject) -> bytes | None:
        match question:
            case DhtPing(random_id=number):
                return tl.pack(DhtPong(number))
            case DhtGetSignedAddressList():
                return self._packed
            case DhtFindNode(key=where, k=count):
                return DhtNodes.tl.id + self._nearest(where, count)
            case DhtFindValue(key=where, k=count):
                return self._find(now, where, count)
            case DhtStore(value=value):
                return self._store(now, value)
            case _:
                self._counts.add(Count.UNSERVED)
                return None

    def _nearest(self, where: bytes, count: int) -> bytes:
        return nodes.pack_nodes(self._table.nearest(where, min(max(count, 0), MAX_ANSWER)))

    def _find(self, now: float, where: bytes, count: int) -> bytes:
        value = self._storage.get(now, where)
        if value is not None:
            return tl.pack(DhtValueFound(value))
        return DhtValueNotFound.tl.id + self._nearest(where, count)

    def _store(self, now: float, value: DhtValue) -> bytes | None:
        """What is expired or too far is taken and dropped, as TON does: its asker did no wrong."""
        try:
            fresh = values.check(value, now)
            if fresh is Freshness.EXPIRED or not self._tending.keeps(keys.key_id(value.key.key)):
                self._counts.add(Count.PASSED)
            else:
                self._storage.put(now, value)
                self._counts.add(Count.STORED)
        except RemoteError:
            self._counts.add(Count.REFUSED)
            return None
        except NoCapacity:
            self._counts.add(Count.FULL)
            return None
        return tl.pack(DhtStored())

    def _unwrap(self, now: float, peer: AdnlId, payload: bytes) -> bytes:
        """The query behind the record that its peer introduces itself by, if it does.

        Raises `TlError`. A peer's record is the same in all its queries, so it is read once.
        """
        if not payload.startswith(DhtQuery.tl.id):
            return payload
        same, known = self._introductions.get(peer, (b"", None))
        if same and payload.startswith(same):
            question = payload[len(same) :]
        else:
            same, known = self._introduction(peer, payload)
            question = payload[len(same) :]
            self._introductions.pop(peer, None)
        self._introductions[peer] = same, known
        if len(self._introductions) > self._settings.max_peers:
            del self._introductions[next(iter(self._introductions))]
        if known is not None:
            self._table.introduce(now, known)
        return question

    def _introduction(self, peer: AdnlId, payload: bytes) -> tuple[bytes, Node | None]:
        """What stands in front of a query, and the node that it introduces if it is its peer."""
        known = self._asking.begins(payload, len(DhtQuery.tl.id))
        if known is not None:
            size = len(DhtQuery.tl.id) + len(known.packed)
            return payload[:size], known if known.id == peer else None
        prefix, question = tl.parse_prefix(payload)
        assert isinstance(prefix, DhtQuery)
        return payload[: len(payload) - len(question)], self._own_record(peer, prefix.node)

    def _own_record(self, peer: AdnlId, record: DhtNode) -> Node | None:
        """Nodes speak for themselves only; what they say is proven by asking them there."""
        node = self._asking.believe(record)
        return node if node is not None and node.id == peer else None
