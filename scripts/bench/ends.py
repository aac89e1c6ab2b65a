"""ADNL nodes for benchmarks: cores put together as a stack would, with a service and no more."""

from typing import Final, final

from p2p.adnl import events as adnl
from p2p.adnl.core import AdnlCore
from p2p.adnl.limits import Limits
from p2p.core import Event, Send, Source
from p2p.entropy import SystemEntropy
from p2p.errors import TlError
from p2p.identity import AdnlId, Identity
from p2p.rldp import events as rldp
from p2p.rldp.core import RldpCore
from p2p.tl import pack, parse
from p2p.ton import DhtPing, DhtPong
from p2p.wire import Endpoint
from scripts.failure import Failed

HERE, THERE = Endpoint("192.0.2.1", 1), Endpoint("192.0.2.2", 1)
START: Final = 1_795_000_000

GENEROUS: Final = Limits(
    source_rate=1e9,
    source_burst=1e9,
    new_peers_rate=1e9,
    new_peers_burst=1e9,
    node_rate=1e9,
    node_burst=1e9,
)
"""All that a benchmark sends comes from one address."""

PATIENCE: Final = 30.0
"""seconds for a download"""


@final
class Node:
    """Answers a `dht.ping` with its pong, any other query of ADNL with itself, and a query of RLDP2
    with as many bytes as that names.

    What its own downloads come to are its events.
    """

    def __init__(self, identity: Identity, started_at: int) -> None:
        self.identity = identity
        self.adnl = AdnlCore([identity], SystemEntropy(), started_at, limits=GENEROUS)
        self.rldp = RldpCore(SystemEntropy())
        self._now = 0.0

    def download(self, now: float, peer: AdnlId, size: int) -> None:
        """Ask a peer for so many bytes."""
        self._now = now
        query = size.to_bytes(4, "little")
        self.rldp.query(now, peer, query, timeout=PATIENCE, max_answer=size)

    def receive(self, now: float, source: Source, datagram: bytes) -> None:
        self._now = now
        self.adnl.receive(now, source, datagram)

    def handle_timer(self, now: float) -> None:
        self._now = now
        self.adnl.handle_timer(now)
        self.rldp.handle_timer(now)

    def next_deadline(self) -> float | None:
        times = (self.adnl.next_deadline(), self.rldp.next_deadline())
        return min((when for when in times if when is not None), default=None)

    def drain(self) -> tuple[list[Send], list[Event]]:
        sends: list[Send] = []
        told: list[Event] = []
        while True:
            more, events = self.adnl.drain()
            sends += more
            for event in events:
                self._heard(event)
            outputs = self.rldp.drain()
            for output in outputs:
                told += self._put(output)
            if not events and not outputs:
                return sends, told

    def sizes(self) -> dict[str, int]:
        return self.adnl.sizes() | self.rldp.sizes()

    def _heard(self, event: Event) -> None:
        match event:
            case adnl.Query(_, _, payload, token):
                self.adnl.answer(self._now, token, _answer(payload))
            case adnl.Message(_, peer, payload):
                self.rldp.receive(self._now, peer, payload)
            case _:  # what happens to peers is of no interest
                pass

    def _put(self, output: rldp.Output) -> list[Event]:
        match output:
            case rldp.Payload(peer, data):
                self.adnl.send(self._now, self.identity.id, peer, data)
            case rldp.Query(data=data, token=token):
                self.rldp.answer(self._now, token, bytes(int.from_bytes(data, "little")))
            case rldp.Answered() | rldp.Failed():
                return [output]
            case rldp.Message():  # nobody tells us anything
                pass
        return []


def _answer(query: bytes) -> bytes:
    try:
        return pack(DhtPong(parse(DhtPing, query).random_id))
    except TlError:
        return query


@final
class Client:
    """Asks a node in the same process, with no socket between them."""

    def __init__(self, number: int, server: Node) -> None:
        self._own = Identity(number.to_bytes(32, "big"))
        self._core = AdnlCore([self._own], SystemEntropy(), START, limits=GENEROUS)
        self._server = server
        self.now = float(START)
        """That of its last query."""
        self._core.add_peer(self.now, server.identity.public, [THERE])

    def ask(self, query: bytes) -> bytes:
        """The answer to one query; the first one shakes hands. Raises `Failed`."""
        self.now += 1e-6
        to = self._server.identity.id
        ticket = self._core.query(self.now, self._own.id, to, query, timeout=1.0)
        sends, _ = self._core.drain()
        while sends:
            for _, datagram in sends:
                self._server.receive(self.now, HERE, datagram)
            for _, datagram in self._server.drain()[0]:
                self._core.receive(self.now, THERE, datagram)
            sends, events = self._core.drain()
            for event in events:
                if isinstance(event, adnl.Answered) and event.ticket == ticket:
                    return event.payload
        raise Failed("failed", "A query in memory got no answer.")
