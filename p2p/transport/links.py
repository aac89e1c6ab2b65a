"""The links of a carrier that are up, between the driver's calls and the tasks that do the I/O.

Nothing here waits for a peer: an `End` turns frames into messages and back, `Links` gives them
to the driver and keeps one link a peer. The tasks of a connection (`libp2p.py`) feed both.
"""

from collections import deque
from dataclasses import dataclass
from itertools import count
from typing import Final, final

import trio

from p2p.core import Source
from p2p.defaults import LINK_CREDIT, LINK_LEAVE_TIMEOUT
from p2p.errors import Closed, CodecError, LocalError
from p2p.identity import AdnlId, short_id
from p2p.transport import frames
from p2p.transport.carrier import CarrierStatistics, Listener, Tap
from p2p.wire import Kind, Link

_numbers: Final = count(1)
"""Of links, one for each in this process."""


@final
class End:
    """Our end of one link, from its greeting on.

    Up (in `Links`), then over (nothing is sent any more, what has arrived is still taken), then
    gone (the listener has heard `link_down`).
    """

    def __init__(
        self, public: bytes, scope: trio.CancelScope, *, dialled: bool, host: str = ""
    ) -> None:
        self.public = public
        """The key that the peer has proved to hold."""
        self.link = Link(short_id(public), next(_numbers), host)
        self.dialled = dialled
        self.scope = scope
        """Of the connection: cancelled, the link ends."""
        self.outbox = frames.Outbox()
        self.stirred = trio.Event()
        """The outbox may have something to write."""
        self.inbox: deque[bytes] = deque()
        self.inbox_bytes = 0
        self.over = False
        self.emptied = trio.Event()
        """Nothing waits to be taken; `all_taken` waits for it."""
        self.gone = trio.Event()
        self.pings_lost = 0

        self._intake = frames.Intake()
        self._joiner = frames.Joiner()

    def greet(self, hello: bytes) -> None:
        """Let `hello` be the first that is written, and let the writing begin."""
        self.outbox.greet(hello)
        self.stir()

    def stir(self) -> None:
        """Wake the task that writes."""
        self.stirred.set()

    def next_write(self) -> bytes:
        """What to write now; if nothing, `stirred` tells when to ask again."""
        data = self.outbox.next_write()
        if not data:
            self.stirred = trio.Event()
        return data

    async def all_taken(self) -> None:
        """The connection has ended: wait until the driver has taken what it brought."""
        self.over = True
        while self.inbox:
            self.emptied = trio.Event()
            await self.emptied.wait()

    def receive(self, body: bytes) -> bytes | None:
        """Take a frame; the message of the seam that it completes, if it does.

        Raises `CodecError` for what breaks the rules of a link, `Closed` for a farewell.
        """
        kind, number, payload = frames.split(body)
        if kind & ~frames.MORE in frames.FROM_CORES:
            self._intake.arrived(body)
            message = self._joiner.add(body)
            self.return_credit()
            return message
        if payload:
            raise CodecError("a frame of the carrier with a payload")
        self._own(kind, number)
        return None

    def _own(self, kind: int, number: int) -> None:
        match kind:
            case Kind.CREDIT:
                self.outbox.granted(number)
            case Kind.PING:
                self.outbox.pong(number)
            case Kind.PONG:
                return
            case Kind.BYE:
                raise Closed("the peer left")
            case _:
                raise CodecError("unknown kind of frame")
        self.stir()

    def beat(self) -> None:
        """Ask the peer for a sign of life."""
        self.pings_lost += 1
        self.outbox.ping(next(_numbers))
        self.stir()

    def return_credit(self) -> None:
        """Let the peer go on, unless the core is behind: then a `take` does it.

        So what a peer can make us hold is twice the credit and one message.
        """
        if self.inbox_bytes < LINK_CREDIT and (due := self._intake.due()):
            self.outbox.credit(due)
            self.stir()

    def __str__(self) -> str:
        return f"End[{self.link.peer.hex()[:8]}#{self.link.number}]"


@dataclass(slots=True)
class Counts:
    """What a carrier counts; `CarrierStatistics` says what each means."""

    dials: int = 0
    dials_failed: int = 0
    refused: int = 0
    closed: int = 0
    dropped: int = 0
    sent: int = 0
    received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0


@final
class Links:
    """The ends that are up, and what the driver gives to them and takes from them."""

    def __init__(self, own: AdnlId, tap: Tap | None) -> None:
        self.counts = Counts()
        self._own = own
        self._tap = tap
        self._listener: Listener | None = None
        self._ends: dict[Link, End] = {}
        self._peers: dict[AdnlId, End] = {}
        self._ready: deque[End] = deque()
        self._stirred = trio.Event()
        self._shut = False

    def __len__(self) -> int:
        return len(self._ends)

    def to(self, peer: AdnlId) -> End | None:
        """The end to a peer; it may be over."""
        return self._peers.get(peer)

    def open(self, listener: Listener) -> None:
        """Tell `listener` of the links from now on."""
        self._listener = listener

    def shut(self) -> None:
        """Let the driver meet `Closed`. All ends are gone by now."""
        self._shut = True
        self._stirred.set()

    # --- the tasks' side ---

    def enter(self, end: End) -> None:
        """A link is up. Raises `Closed` if another one of the pair stands instead."""
        peer = end.link.peer
        rival = self._peers.get(peer)
        if rival is not None:
            if not self._prevails(end, rival):
                rival.beat()  # if the peer has lost that one, the write finds out
                raise Closed("another link of the pair stands")
            self.leave(rival)
            rival.scope.cancel()

        self._ends[end.link] = self._peers[peer] = end
        if self._listener is not None:
            self._listener.link_up(end.link, end.dialled)

    def _prevails(self, new: End, old: End) -> bool:
        """Of two links dialled at once both ends keep the one the smaller id dialled.

        A second one dialled by the same side means that this side has lost the first.
        """
        if old.dialled == new.dialled:
            return True
        return new.dialled == (self._own < new.link.peer)

    def leave(self, end: End) -> None:
        """A link is gone; twice is harmless. What has not been taken of it is dropped."""
        if end.gone.is_set():
            return
        end.over = True
        end.gone.set()
        if self._ends.pop(end.link, None) is None:
            return
        if self._peers.get(end.link.peer) is end:
            del self._peers[end.link.peer]
        self._discard(end)
        self.counts.dropped += end.outbox.messages
        if self._listener is not None:
            self._listener.link_down(end.link)

    def _discard(self, end: End) -> None:
        """Forget what waits to be taken."""
        if end.inbox:
            self.counts.dropped += len(end.inbox)
            self._ready.remove(end)
            end.inbox.clear()

    def unreached(self, peer: AdnlId) -> None:
        """A dial has led to nobody."""
        self.counts.dials_failed += 1
        if self._listener is not None:
            self._listener.dial_failed(peer)

    async def left(self, peer: AdnlId) -> None:
        """Wait until no link to the peer is over and not yet gone."""
        while (end := self._peers.get(peer)) is not None and end.over:
            await end.gone.wait()

    def receive(self, end: End, body: bytes) -> None:
        """A frame has arrived. Raises what `End.receive` does."""
        message = end.receive(body)
        if message is not None:
            self._put(end, message)

    def _put(self, end: End, message: bytes) -> None:
        """A message has arrived; after our own `close` nobody wants it."""
        if end.over:
            self.counts.dropped += 1
            return
        self.counts.received += 1
        self.counts.bytes_received += len(message)
        if self._tap is not None:
            self._tap(end.link, False, message)

        if not end.inbox:
            self._ready.append(end)
        end.inbox.append(message)
        end.inbox_bytes += len(message)
        self._stirred.set()

    # --- the driver's side ---

    def take(self, limit: int) -> list[tuple[Source, bytes]]:
        """What has arrived, one message a link in turn, so that none keeps the others waiting."""
        if self._shut:
            raise Closed("the carrier is shut")
        taken: list[tuple[Source, bytes]] = []
        while self._ready and len(taken) < limit:
            end = self._ready.popleft()
            taken.append((end.link, self._pop(end)))
        if not self._ready:
            self._stirred = trio.Event()
        return taken

    def _pop(self, end: End) -> bytes:
        message = end.inbox.popleft()
        end.inbox_bytes -= len(message)
        if end.inbox:
            self._ready.append(end)
        else:
            end.emptied.set()
        end.return_credit()
        return message

    async def wait(self) -> None:
        """Return when `take` may have something to give, or to raise."""
        await self._stirred.wait()

    def send(self, to: Source, message: bytes) -> None:
        """Queue a message; a link whose queue is full is dropped, with all that waits on it."""
        if not isinstance(to, Link) or not message or message[0] not in frames.FROM_CORES:
            raise LocalError("only messages of the seam go out, and only to links")
        end = self._ends.get(to)
        if end is None or end.over:
            self.counts.dropped += 1
        elif not end.outbox.put(message):
            self.counts.dropped += 1
            self.counts.closed += 1
            end.over = True
            end.scope.cancel()
        else:
            self._sent(end, message)

    def _sent(self, end: End, message: bytes) -> None:
        self.counts.sent += 1
        self.counts.bytes_sent += len(message)
        if self._tap is not None:
            self._tap(end.link, True, message)
        end.stir()

    def close(self, link: Link, *, dead: bool = False) -> None:
        """Write what is queued and a farewell, within bounds; then the link goes down.

        Of a `dead` one nothing is written any more.
        """
        end = self._ends.get(link)
        if end is None or end.over:
            return
        end.over = True
        self._discard(end)
        end.emptied.set()
        end.outbox.bye()
        end.stir()
        end.scope.deadline = trio.current_time() + (0.0 if dead else LINK_LEAVE_TIMEOUT)

    def statistics(self, *, dialling: int) -> CarrierStatistics:
        """A snapshot of the counters."""
        counts = self.counts
        return CarrierStatistics(
            links=len(self._ends),
            dialling=dialling,
            inbox=sum(len(end.inbox) for end in self._ready),
            outbox=sum(end.outbox.messages for end in self._ends.values()),
            dials=counts.dials,
            dials_failed=counts.dials_failed,
            refused=counts.refused,
            closed=counts.closed,
            dropped=counts.dropped,
            sent=counts.sent,
            received=counts.received,
            bytes_sent=counts.bytes_sent,
            bytes_received=counts.bytes_received,
        )
