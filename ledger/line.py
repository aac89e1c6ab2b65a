"""A line to a mint: a circuit that ends there, one request a stream.

What an asker buys, and what it gets back, goes this way, so that the mint learns no address. Each
line is a circuit of its own: two purchases over one circuit would be one customer's.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeVar, final

import trio

from ledger import wire
from ledger.messages import Err, Reply, Request
from p2p import codec
from p2p.errors import CircuitLost, CodecError, DirectoryStale, NoCapacity, Unreachable
from p2p.identity import AdnlId
from p2p.node import CircuitEvent, Node
from p2p.onion.cell import MAX_RELAYS
from p2p.onion.core import CircuitId, Data, Failed, Lost, Opened, Reset

OPENING: Final = b"\0"
"""The circuit's request and its reply: plain, and nothing more."""

MAX_ANSWER: Final = 16 * 1024
"""bytes: a bundle's signatures are the longest."""

OPEN_WAIT: Final = 12.0
CALL_WAIT: Final = 15.0
"""seconds for a circuit, and for an answer; a mint locks and signs in milliseconds."""

PATHS: Final = 3
"""circuits tried, each around the relays that failed the one before"""

PAUSE: Final = 0.5
"""seconds before the next: in a young network a relay may not have heard of the next hop yet"""

R = TypeVar("R", bound=Reply)


class Refused(Exception):  # noqa: N818 - what the mint said, not an error of ours
    """A mint answered with a refusal."""

    def __init__(self, err: Err) -> None:
        super().__init__(f"{err.code.value} {err.detail}".strip())
        self.code = err.code


@asynccontextmanager
async def opened(node: Node, mint: AdnlId, *, relays: int = MAX_RELAYS) -> AsyncIterator["Line"]:
    """A line to a mint, closed with the block.

    Raises `Unreachable` if there is no way there, `NoPath` if too few relays are listed for one.
    """
    line = await _connect(node, mint, relays)
    try:
        yield line
    finally:
        line.close()


@final
class Line:
    """An open line; one call at a time."""

    def __init__(
        self,
        node: Node,
        circuit: CircuitId,
        events: "trio.MemoryReceiveChannel[CircuitEvent]",
    ) -> None:
        self._node = node
        self._circuit = circuit
        self._events = events
        self._stream = 0

    async def ask(self, request: Request, kind: type[R]) -> R:
        """The answer of the right kind. Raises `Refused`, and what `call` raises."""
        reply = wire.answer(await self.call(wire.encode(request)), kind)
        if isinstance(reply, Err):
            raise Refused(reply)
        return reply

    async def call(self, body: bytes) -> bytes:
        """The answer to a request. Raises `Unreachable`, or `CodecError` for one too long.

        A request whose answer did not come may have been done: send the same bytes again.
        """
        self._stream += 1
        with trio.move_on_after(CALL_WAIT):
            self._node.send(self._circuit, self._stream, codec.frame(body))
            self._node.end(self._circuit, self._stream)
            return await self._answer(self._stream)
        raise Unreachable("the mint did not answer in time")

    def close(self) -> None:
        """End the circuit."""
        self._node.close(self._circuit)
        self._events.close()

    async def _answer(self, stream: int) -> bytes:
        unframer = codec.Unframer(MAX_ANSWER)
        async for event in self._events:
            match event:
                case Data(stream=at, data=data) if at == stream:
                    unframer.feed(data)
                    for message in unframer:
                        return message
                case Reset(stream=at) if at == stream:
                    raise CodecError("the mint gave the request up")
                case Lost(hop=hop):
                    raise Unreachable("the circuit to the mint is gone") from CircuitLost(hop)
                case _:
                    pass
        raise Unreachable("the circuit to the mint was closed")


async def _connect(node: Node, mint: AdnlId, relays: int) -> Line:
    suspects: dict[AdnlId, None] = {}
    for _ in range(PATHS):
        line = await _try(node, mint, relays, suspects)
        if line is not None:
            return line
        await trio.sleep(PAUSE)
    raise Unreachable("no circuit to the mint could be opened")


async def _try(node: Node, mint: AdnlId, relays: int, suspects: dict[AdnlId, None]) -> Line | None:
    """One circuit; None if it did not open, and then those who may be to blame are suspects."""
    if node.directory.find(mint) is None:
        raise Unreachable("the mint is not listed")
    try:
        targets = node.path(mint, relays, list(suspects))
        circuit = node.open(targets, OPENING)
    except (NoCapacity, DirectoryStale) as error:
        raise Unreachable(f"there is no path to the mint: {error}") from error
    events = node.events(circuit)
    line: Line | None = None
    event: CircuitEvent | None = None
    try:
        with trio.move_on_after(OPEN_WAIT):
            event = await events.receive()
        if isinstance(event, Opened) and event.offer == OPENING:
            line = Line(node, circuit, events)
    finally:  # cancelled, too: nobody else knows of this circuit
        if line is None:
            node.close(circuit)
            events.close()
    if line is None:
        failed = event.hop if isinstance(event, Failed) and event.hop is not None else 0
        suspects.update(dict.fromkeys(target.id for target in targets[failed : failed + 2]))
        suspects.pop(mint, None)
    return line
