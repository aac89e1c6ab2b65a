"""Records that were checked, so that none is read or checked twice: the same come again and again.

What a record says depends on its bytes alone, and of one value there is one encoding. So what
begins with the bytes of a record that is known is that record: 1 us instead of 20 for reading it
and 60 for its signature. Nodes of one process may share one, as they do in simulations.
"""

from typing import Final, final

from p2p import tl
from p2p.dht import node as nodes
from p2p.dht.node import Node
from p2p.errors import RemoteError, TlError
from p2p.ton import DhtNode, PubEd25519

SIZE: Final = 1_024
"""records that a node remembers, the last of each key: about 1 MB"""


@final
class Known:
    """See the module; of one network, and of one opinion on private addresses."""

    def __init__(self, network: int | None, *, private: bool, size: int = SIZE) -> None:
        self._network = network
        self._private = private
        self._size = size
        self._nodes: dict[bytes, Node] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def at(self, buffer: bytes, at: int) -> Node | None:
        """The known record that begins there, bare, if one does."""
        node = self._nodes.get(buffer[at + 4 : at + 36])
        return node if node is not None and buffer.startswith(node.packed, at) else None

    def check(self, record: DhtNode) -> Node | None:
        """The node of a record; None if it may not count."""
        key = record.id.key if isinstance(record.id, PubEd25519) else b""
        known = self._nodes.get(key)
        if known is not None and known.record == record:
            return known
        try:
            node = nodes.check(record, self._network, private=self._private)
        except RemoteError:
            return None
        self.add(node)
        return node

    def add(self, node: Node) -> None:
        """Remember a record that was checked elsewhere, in place of the former one of its key."""
        self._nodes.pop(node.public, None)
        self._nodes[node.public] = node
        if len(self._nodes) > self._size:
            del self._nodes[next(iter(self._nodes))]

    def read(self, buffer: bytes, at: int) -> tuple[list[Node | DhtNode], int]:
        """The records of a bare `dht.nodes`, known ones as nodes, and where they end.

        Raises `TlError`.
        """
        count, at = int.from_bytes(buffer[at : at + 4], "little"), at + 4
        if count > (len(buffer) - at) // 4:
            raise TlError("more nodes than the buffer holds")
        found: list[Node | DhtNode] = []
        for _ in range(count):
            known = self.at(buffer, at)
            if known is not None:
                found.append(known)
                at += len(known.packed)
            else:
                record, at = tl.parse_bare_at(DhtNode, buffer, at)
                found.append(record)
        return found, at
