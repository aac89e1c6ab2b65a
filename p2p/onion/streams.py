"""The streams inside the endpoint's layer: bytes in order, each cell with its place.

Stream 0 is the circuit's own (dummies, ping). Requests are 1, 2, 3 ... in order. The asker's END
ends its upload, but it may go on to send on the stream, since it pays while it reads, until the
answer's END; the endpoint's END closes the stream. RESET gives it up both ways. `offset` counts
bytes per stream and direction: a gap, overlap or wrap is an error of the circuit.

Streams that `keep` what they have sent, of one request, can go on over another circuit: `rewind`
queues again what the other end has not had. The asker then answers the END with a RESET, which says
that all has come and nothing need be kept.
"""

from collections import deque
from typing import NamedTuple, final

from p2p import defaults
from p2p.errors import NoCapacity, OnionError
from p2p.onion.cell import MAX_DATA, Cell, Kind
from p2p.onion.resuming import STREAM

_MAX_OFFSET = 2**32 - 1


@final
class _Stream:
    """Both directions of one stream."""

    __slots__ = ("closed", "end_at", "ended", "finished", "kept", "received", "sent")

    def __init__(self, *, keep: bool) -> None:
        self.kept = bytearray() if keep else None
        """All that was sent; None: not kept, or too much, or neither end wants it any more."""
        self.end_at: int | None = None
        """Where our END stood, once it has been sent."""
        self.sent = 0
        self.received = 0
        self.ended = False
        """The peer's END has come."""
        self.finished = False
        """Our END is queued or sent."""
        self.closed = False
        """Nothing more is said or heard: after RESET, or the endpoint's END."""


@final
class _Piece:
    """What waits to be cut into cells: bytes of one stream, then perhaps its END; or one sign."""

    __slots__ = ("data", "kind", "stream")

    def __init__(self, stream: int, kind: Kind, data: bytes) -> None:
        self.stream = stream
        self.kind = kind
        self.data = bytearray(data)


class Upload(NamedTuple):
    """What waits of a request, up to the cell that ends it."""

    cells: int
    """that it will take; the last may not be full yet"""
    ends: bool
    """Its END or RESET is among them."""


@final
class Streams:
    """One end of a circuit: `send`, `end`, `reset` queue; `next` gives cells; `take` reads them."""

    def __init__(self, *, asker: bool, most: int = defaults.STREAMS, keep: bool = False) -> None:
        self._asker = asker
        self._keep = keep
        self._most = STREAM if keep and asker else most
        self._streams: dict[int, _Stream] = {}
        self._pieces: deque[_Piece] = deque()
        self._queued = 0
        self._ponging = False

    @property
    def writable(self) -> int:
        """Bytes that `send` takes now."""
        return defaults.UPLOAD_CAP - self._queued

    @property
    def queued(self) -> int:
        """Bytes that wait to be cut into cells."""
        return self._queued

    @property
    def upload(self) -> Upload:
        """How much of a request waits."""
        cells = 0
        for piece in self._pieces:
            cells += max(1, -(-len(piece.data) // MAX_DATA))
            if piece.kind in (Kind.END, Kind.RESET):
                return Upload(cells, ends=True)
        return Upload(cells, ends=False)

    @property
    def is_over(self) -> bool:
        """Whether nothing waits, and nothing more can be said on any stream."""
        return not self._pieces and self.is_closed

    @property
    def is_closed(self) -> bool:
        """Whether nothing more is said or heard on any stream."""
        return all(state.closed for state in self._streams.values())

    # --- over another circuit ---

    @property
    def keeps(self) -> bool:
        """Whether a request on them may be gone on with at all."""
        return self._keep

    @property
    def can_go_on(self) -> bool:
        """Whether a request is under way of which an end may have missed something."""
        state = self._streams.get(STREAM)
        if state is None or state.kept is None or len(self._streams) > 1:
            return False
        return not (self._asker and state.closed)

    @property
    def kept(self) -> int:
        """Bytes that are kept."""
        return sum(len(state.kept or b"") for state in self._streams.values())

    @property
    def heard(self) -> tuple[int, bool]:
        """Bytes of the request's stream that have come, and whether its END has."""
        state = self._streams.get(STREAM)
        return (0, False) if state is None else (state.received, state.ended)

    def forget(self) -> None:
        """Keep nothing any more: this end cannot go on."""
        for state in self._streams.values():
            state.kept = None

    def rewind(self, received: int, *, ended: bool) -> None:
        """Queue again what the peer has not had: it has `received` bytes, and our END if `ended`.

        Raises `OnionError` if it cannot have that, or if that is not kept.
        """
        state = self._streams.get(STREAM)
        if state is None or state.kept is None or received > state.sent:
            raise OnionError("what was not sent, or is not kept, is not sent again")
        end_at = state.end_at
        if ended and end_at is None:
            raise OnionError("an END that was not sent")
        if end_at is not None and not ended and received > end_at:
            raise OnionError("bytes behind an END that has not come")
        again = bytes(state.kept[received:])
        del state.kept[received:]
        self._queued += len(again)
        waiting = [piece for piece in self._pieces if piece.stream == STREAM]
        self._pieces = deque(self._again(state, received, again, ended=ended))
        self._pieces += waiting
        self._ponging = False
        state.sent = received

    def _again(self, state: _Stream, received: int, again: bytes, *, ended: bool) -> list[_Piece]:
        """What was sent, to be sent again, with the END in its place."""
        if state.end_at is None or ended:
            return [_Piece(STREAM, Kind.DATA, again)] if again else []
        cut, state.end_at = state.end_at - received, None
        pieces = [_Piece(STREAM, Kind.END, again[:cut])]
        return pieces + ([_Piece(STREAM, Kind.DATA, again[cut:])] if again[cut:] else [])

    # --- out ---

    def send(self, stream: int, data: bytes) -> None:
        """Queue bytes; nothing happens if the stream is closed. Raises `NoCapacity`, `ValueError`.

        The asker opens a stream by sending on it.
        """
        state = self._sending(stream)
        if state.closed or not data:
            return
        if state.finished and not self._asker:
            raise ValueError("the answer has ended")
        if len(data) > self.writable:
            raise NoCapacity(f"{self.writable} bytes are writable, {len(data)} were given")
        self._queued += len(data)
        last = self._pieces[-1] if self._pieces else None
        if last is not None and last.kind is Kind.DATA and last.stream == stream:
            last.data += data
        else:
            self._pieces.append(_Piece(stream, Kind.DATA, data))

    def end(self, stream: int) -> None:
        """Queue the END, with the last bytes if they still wait."""
        state = self._sending(stream)
        if state.closed or state.finished:
            return
        state.finished = True
        last = self._pieces[-1] if self._pieces else None
        if last is not None and last.kind is Kind.DATA and last.stream == stream:
            last.kind = Kind.END
        else:
            self._pieces.append(_Piece(stream, Kind.END, b""))
        if not self._asker:
            state.closed = True

    def reset(self, stream: int, code: int) -> None:
        """Give a stream up: what is queued of it is dropped. Raises `ValueError` for no byte."""
        sign = _Piece(stream, Kind.RESET, bytes([code]))
        state = self._streams.get(stream)
        if state is None or (state.closed and not self._unsent(stream)):
            return
        self._drop(stream)
        state.closed, state.kept = True, None
        self._pieces.append(sign)

    def ping(self) -> None:
        """Queue a PING."""
        self._pieces.append(_Piece(0, Kind.PING, b""))

    def next(self) -> Cell | None:
        """The next cell to send, if there is one."""
        if not self._pieces:
            return None
        piece = self._pieces[0]
        data = bytes(piece.data[:MAX_DATA])
        del piece.data[:MAX_DATA]
        if not piece.data:
            self._pieces.popleft()
        return self._cell(piece, data)

    # --- in ---

    def take(self, cell: Cell) -> Cell | None:
        """The cell if it says something to the caller: DATA, END, RESET or PONG.

        Raises `OnionError` for what no honest peer sends.
        """
        if (cell.stream == 0) != (cell.kind in _OWN):
            raise OnionError("a cell on a stream that is not for its kind")
        if cell.kind is Kind.PING:
            self._pong()
        if cell.stream == 0:
            return cell if cell.kind is Kind.PONG else None
        state = self._hearing(cell.stream)
        if state.closed:
            self._give_up(cell)
            return None
        self._follow(state, cell)
        if self._keep and self._asker and state.ended:
            self._pieces.append(_Piece(cell.stream, Kind.RESET, b"\0"))
        return cell

    # --- inside ---

    def _sending(self, stream: int) -> _Stream:
        state = self._streams.get(stream)
        if state is not None:
            return state
        if not self._asker or not self._is_next(stream):
            raise ValueError("the asker opens streams, in order from 1")
        if stream > self._most:
            raise NoCapacity(f"{self._most} streams are the most of this circuit")
        return self._add(stream)

    def _hearing(self, stream: int) -> _Stream:
        state = self._streams.get(stream)
        if state is not None:
            return state
        if self._asker or not self._is_next(stream) or stream > self._most:
            raise OnionError("a cell of a stream that does not exist")
        return self._add(stream)

    def _is_next(self, stream: int) -> bool:
        return stream == len(self._streams) + 1

    def _add(self, stream: int) -> _Stream:
        state = self._streams[stream] = _Stream(keep=self._keep and stream == STREAM)
        return state

    def _follow(self, state: _Stream, cell: Cell) -> None:
        if cell.offset != state.received:
            raise OnionError("a gap or overlap in a stream")
        if cell.kind is Kind.RESET:
            self._drop(cell.stream)
            state.closed, state.kept = True, None
            return
        state.received += len(cell.data)
        if state.received > _MAX_OFFSET:
            raise OnionError("a stream past its longest")
        if cell.kind is Kind.END:
            if state.ended:
                raise OnionError("a stream that ends twice")
            state.ended = True
            state.closed = self._asker

    def _give_up(self, cell: Cell) -> None:
        """Nothing is heard on a closed stream but that the peer wants no more of it."""
        if cell.kind is Kind.RESET:
            self._drop(cell.stream)
            self._streams[cell.stream].kept = None

    def _pong(self) -> None:
        """Answer a PING; one answer waits at a time, or an idle reader could be made to hoard."""
        if not self._ponging:
            self._ponging = True
            self._pieces.append(_Piece(0, Kind.PONG, b""))

    def _cell(self, piece: _Piece, data: bytes) -> Cell:
        if piece.kind in _OWN:
            self._ponging = self._ponging and piece.kind is not Kind.PONG
            return Cell(0, piece.kind, 0, 0, data)
        state = self._streams[piece.stream]
        offset = state.sent
        if piece.kind is Kind.RESET:
            return Cell(piece.stream, Kind.RESET, 0, offset, data)
        state.sent += len(data)
        self._queued -= len(data)
        self._remember(state, data)
        kind = Kind.DATA if piece.data else piece.kind
        if kind is Kind.END:
            state.end_at = state.sent
        return Cell(piece.stream, kind, 0, offset, data)

    def _remember(self, state: _Stream, data: bytes) -> None:
        if state.kept is not None:
            state.kept += data
            if len(state.kept) > defaults.UPLOAD_CAP:
                state.kept = None

    def _unsent(self, stream: int) -> bool:
        return any(piece.stream == stream for piece in self._pieces)

    def _drop(self, stream: int) -> None:
        kept: deque[_Piece] = deque()
        for piece in self._pieces:
            if piece.stream != stream:
                kept.append(piece)
            elif piece.kind is not Kind.RESET:
                self._queued -= len(piece.data)
        self._pieces = kept


_OWN = (Kind.DUMMY, Kind.PING, Kind.PONG)
