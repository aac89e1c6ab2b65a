"""A desk: circuits that end here, each stream one request and its answer; and queries over links.

Who asks is not known and not asked. A circuit's requests are answered one after the other, so a
customer can keep no more than one of its own in work; what it sends meanwhile waits in the
circuit's window.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeAlias, final

import trio

from ledger.line import OPENING
from p2p import codec
from p2p.calls import Query
from p2p.errors import CodecError
from p2p.identity import AdnlId
from p2p.node import CircuitEvent, Node
from p2p.onion.core import CircuitId, Data, Incoming, Reset

Answer: TypeAlias = Callable[[bytes], Awaitable[bytes]]
"""Answers one request. Never raises because of what the request is."""

MAX_REQUEST: Final = 16 * 1024
"""bytes: the outputs of a bundle are the longest."""

IDLE: Final = 120.0
"""seconds a circuit may be silent; a customer that comes back opens another."""

CIRCUITS: Final = 256
"""open at once; a full desk refuses more."""

_BROKEN: Final = 1
"""Code of the reset that ends a stream which is no request."""


async def attend(node: Node, answer: Answer) -> None:
    """Answer what comes through circuits until cancelled. Takes all of `node.incoming`."""
    places = trio.CapacityLimiter(CIRCUITS)
    async with trio.open_nursery() as nursery:
        async for incoming in node.incoming:
            if incoming.request != OPENING or not places.available_tokens:
                node.refuse(incoming, b"")
                continue
            places.acquire_on_behalf_of_nowait(incoming.circuit)
            node.accept(incoming, OPENING)
            nursery.start_soon(_serve, node, incoming, answer, places)


async def _serve(
    node: Node, incoming: Incoming, answer: Answer, places: trio.CapacityLimiter
) -> None:
    try:
        await _Customer(node, incoming.circuit, answer).run()
    finally:
        places.release_on_behalf_of(incoming.circuit)
        node.close(incoming.circuit)


@final
class _Customer:
    """One circuit."""

    def __init__(self, node: Node, circuit: CircuitId, answer: Answer) -> None:
        self._node = node
        self._circuit = circuit
        self._answer = answer
        self._stream = 0
        """The newest: they come one after the other, and an older one is given up for it."""
        self._half: codec.Unframer | None = None
        """What came of it; None once it is answered."""

    async def run(self) -> None:
        """Until the circuit ends or is silent for too long."""
        events = self._node.events(self._circuit)
        with suppress(trio.EndOfChannel, trio.TooSlowError):
            while True:
                with trio.fail_after(IDLE):
                    event = await events.receive()
                await self._hear(event)

    async def _hear(self, event: CircuitEvent) -> None:
        match event:
            case Data(stream=stream, data=data):
                await self._take(stream, data)
            case Reset(stream=stream) if stream == self._stream:
                self._half = None
            case _:
                pass

    async def _take(self, stream: int, data: bytes) -> None:
        if stream > self._stream:
            self._stream, self._half = stream, codec.Unframer(MAX_REQUEST)
        if stream < self._stream or self._half is None:
            return
        self._half.feed(data)
        try:
            request = next(iter(self._half), None)
        except CodecError:
            self._half = None
            self._node.reset(self._circuit, stream, _BROKEN)
            return
        if request is not None:
            self._half = None
            self._say(stream, await self._answer(request))

    def _say(self, stream: int, reply: bytes) -> None:
        """A customer that does not read loses its circuit, not our memory."""
        framed = codec.frame(reply)
        if self._node.writable(self._circuit) < len(framed):
            self._node.close(self._circuit)
            return
        self._node.send(self._circuit, stream, framed)
        self._node.end(self._circuit, stream)


# --- over links ---

PeerAnswer: TypeAlias = Callable[[AdnlId, bytes], Awaitable[bytes]]

QUERIES: Final = 256
"""in work at once; the node itself keeps what waits, and refuses beyond"""


async def attend_links(node: Node, answer: PeerAnswer) -> None:
    """Answer what peers ask over links until cancelled. Takes all of `node.queries`."""
    places = trio.Semaphore(QUERIES)
    async with trio.open_nursery() as nursery:
        async for query in node.queries:
            await places.acquire()
            nursery.start_soon(_answer, node, query, answer, places)


async def _answer(node: Node, query: Query, answer: PeerAnswer, places: trio.Semaphore) -> None:
    try:
        node.answer(query, await answer(query.peer, query.body))
    finally:
        places.release()
