"""What this node asks others, one query at a time: whom do you know, what do you keep, keep this.

A server puts its record in front of each query, so that whom it asks may come to know it; a client
asks bare. Every answer is checked here, and the table is told who answered and who did not.
"""

from collections.abc import Sequence
from typing import Final, final

from p2p import tl
from p2p.dht import key as keys
from p2p.dht import value as values
from p2p.dht.counts import Count, Counts
from p2p.dht.known import Known
from p2p.dht.lookup import Reply
from p2p.dht.node import Node
from p2p.dht.settings import Settings, between
from p2p.dht.table import Table
from p2p.dht.value import Freshness
from p2p.entropy import Entropy
from p2p.errors import LocalError, RemoteError, TlError, TussahError
from p2p.identity import AdnlId, short_id
from p2p.sender import UdpSender
from p2p.ton import (
    AdnlAddress,
    AdnlAddressList,
    DhtFindNode,
    DhtFindValue,
    DhtGetSignedAddressList,
    DhtNode,
    DhtNodes,
    DhtQuery,
    DhtStore,
    DhtStored,
    DhtValue,
    DhtValueFound,
    DhtValueNotFound,
)

MAX_ANSWER: Final = 10
"""nodes of one answer, ours and another's: TON's nodes name no more."""


@final
class Asking:
    """The client side of a node, which a server has as well."""

    def __init__(
        self,
        own: AdnlId,
        sender: UdpSender,
        table: Table,
        entropy: Entropy,
        settings: Settings,
        counts: Counts,
        now: float,
        known: Known,
    ) -> None:
        self.now = now
        """The time, as of the last call into the core."""
        self._own = own
        self._sender = sender
        self._table = table
        self._entropy = entropy
        self._settings = settings
        self._counts = counts
        self._prefix = b""
        self._known = known

    def sizes(self) -> dict[str, int]:
        """The length of every table."""
        return {"dht_known": len(self._known)}

    @property
    def serving(self) -> bool:
        """Whether this node is a server, which puts its record in front."""
        return bool(self._prefix)

    def introduce_by(self, record: DhtNode | None) -> None:
        """Put this record in front of every query from now on; None: ask bare."""
        self._prefix = b"" if record is None else tl.pack(DhtQuery(record))

    # --- questions ---

    async def nodes(self, node: Node, target: bytes) -> Reply | None:
        """Whom a node knows near a key."""
        answer = await self._ask(node, tl.pack(DhtFindNode(target, self._settings.k)))
        return answer if isinstance(answer, Reply) else None

    async def value(self, node: Node, where: bytes) -> Reply | None:
        """What a node keeps under a key id, or whom it knows near it. A bad value is none."""
        answer = await self._ask(node, tl.pack(DhtFindValue(where, self._settings.k)))
        match answer:
            case DhtValueFound(value=value):
                return Reply(value=value) if self._is_good(value, where) else Reply()
            case Reply():
                return answer
            case _:
                return None

    async def store(self, node: Node, value: DhtValue) -> bool:
        """Whether a node took a value. It is asked twice: once more does no harm."""
        question = tl.pack(DhtStore(value))
        stored = await self._ask(node, question) or await self._ask(node, question)
        return stored == DhtStored()

    async def ping(self, node: Node) -> None:
        """Whether a node of the table is there, and has a newer record."""
        answer = await self._ask(node, tl.pack(DhtGetSignedAddressList()))
        if isinstance(answer, DhtNode):
            self._renew(node.id, answer)

    async def meet(self, public: bytes, addresses: AdnlAddressList) -> bool:
        """Ask a node for its record of which we have none; whether it is in the table now."""
        if not addresses.addrs:
            return False
        address, question = addresses.addrs[0], tl.pack(DhtGetSignedAddressList())
        self._sender.learn(public, addresses)
        try:
            answer = await self._query(short_id(public), address, question)
        except TussahError:
            return False
        node = self.believe(answer) if isinstance(answer, DhtNode) else None
        if node is None or node.public != public:
            return False
        if address in node.addresses.addrs:
            self._table.answered(self.now, node)
        else:
            self._table.introduce(self.now, node)
        return True

    # --- what is believed ---

    def believe(self, record: DhtNode) -> Node | None:
        """The node of a record, if it may count."""
        node = self._known.check(record)
        if node is None:
            self._counts.add(Count.BAD_RECORD)
        return node

    def begins(self, buffer: bytes, at: int) -> Node | None:
        """The known node whose record begins there, bare, if one does."""
        return self._known.at(buffer, at)

    def _read(self, answer: bytes) -> tl.TlObject | Reply:
        """An answer; of nodes, those that may count. Raises `TlError`."""
        match answer[:4]:
            case DhtNodes.tl.id | DhtValueNotFound.tl.id:
                named, end = self._known.read(answer, 4)
                if end != len(answer):
                    raise TlError("bytes are left over")
                return Reply(self._believed(named[:MAX_ANSWER]))
            case DhtNode.tl.id:
                known = self._known.at(answer, 4)
                is_all = known is not None and 4 + len(known.packed) == len(answer)
                return known.record if known is not None and is_all else tl.parse_any(answer)
            case _:
                return tl.parse_any(answer)

    def _believed(self, named: Sequence[Node | DhtNode]) -> list[Node]:
        believed = (one if isinstance(one, Node) else self.believe(one) for one in named)
        return [node for node in believed if node is not None and node.id != self._own]

    def _is_good(self, value: DhtValue, where: bytes) -> bool:
        try:
            fresh = values.check(value, self.now) is Freshness.LIVE
            good = fresh and keys.key_id(value.key.key) == where
        except RemoteError:
            good = False
        if not good:
            self._counts.add(Count.BAD_VALUE)
        return good

    def _renew(self, peer: AdnlId, record: DhtNode) -> None:
        node = self.believe(record)
        if node is not None and node.id == peer:
            self._table.introduce(self.now, node)

    # --- one query ---

    async def _ask(self, node: Node, question: bytes) -> tl.TlObject | Reply | None:
        """The answer of a node, None if there is none; it counts for or against the node."""
        known = self._table.find(node.id)
        if known is not None and known.version > node.version:
            node = known
        self._sender.learn(node.public, node.addresses)
        try:
            answer = await self._query(node.id, self._table.address(node), question)
        except LocalError:
            return None
        except TussahError:
            self._counts.add(Count.UNANSWERED)
            self._table.missed(self.now, node.id)
            return None
        self._table.answered(self.now, node)
        return answer

    async def _query(
        self, peer: AdnlId, address: AdnlAddress, question: bytes
    ) -> tl.TlObject | Reply:
        """Ask at this address and no other: where else a peer is reached proves nothing.

        Raises what a `Sender` does, and `TlError` for an answer that is none.
        """
        self._counts.add(Count.ASKED)
        timeout = between(self._settings.query_timeout, self._entropy)
        asked = self._sender.query_at(peer, address, self._prefix + question, timeout=timeout)
        answer = await asked
        try:
            return self._read(answer)
        except TlError:
            self._counts.add(Count.MALFORMED)
            raise
