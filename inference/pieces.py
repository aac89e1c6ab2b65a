"""An answer on its way out: pieces of an engine become chunks of one cell, as there is room."""

from collections import deque
from dataclasses import replace
from itertools import accumulate, repeat
from typing import Final, final

from inference.engine.base import Channel, Piece
from inference.engine.batch import merged
from inference.protocol import MAX_IDS, Chunk, logprob

CELL: Final = 1_116
"""bytes of stream data in one cell: a chunk and the length before it fit one."""

MAX_TOKENS_HELD: Final = 256
MAX_BYTES_HELD: Final = 8 * 1_024
"""tokens and bytes unsent at which the job is paused; it goes on at half of either"""

_OVERHEAD: Final = 32
"""bytes of a chunk besides ids, text and logprobs, with the length before it; 26 at most"""

MAX_TOKEN_TEXT: Final = 40
"""bytes told of one token beside its probability: a token with 20 alternatives fits a cell"""

ROOM: Final = CELL - _OVERHEAD
"""bytes for ids, text and logprobs"""


@final
class Outbox:
    """The unsent end of one answer. Neighbouring pieces of one channel leave together."""

    def __init__(self) -> None:
        self._held: deque[Piece] = deque()

    def put(self, piece: Piece) -> None:
        """Add the next piece of the engine's."""
        self._held.append(piece)

    def take(self, limit: int | None = None) -> Chunk:
        """The next chunk, of at most `limit` tokens. Raises `IndexError` if there is none.

        Where a piece has more tokens than that, its text waits for the last of them: nothing that
        can be read leaves before its tokens do.
        """
        first, rest = split(self._gather(limit))
        if rest is not None:
            self._held.appendleft(rest)
        return _chunk(first)

    def blocked(self, limit: int | None) -> bool:
        """Whether nothing may leave, were it at most `limit` tokens."""
        return limit == 0 and bool(self._held) and bool(self._held[0].ids)

    @property
    def fills_cell(self) -> bool:
        """Whether waiting for more would not save a cell."""
        return sum(map(_size, self._held)) >= ROOM

    @property
    def reasons(self) -> bool:
        """Whether what leaves next is reasoning."""
        return bool(self._held) and self._held[0].channel is Channel.REASONING

    @property
    def too_full(self) -> bool:
        """Whether the engine should pause."""
        return self._tokens() > MAX_TOKENS_HELD or self._bytes() > MAX_BYTES_HELD

    @property
    def half_empty(self) -> bool:
        """Whether it may go on."""
        return self._tokens() <= MAX_TOKENS_HELD // 2 and self._bytes() <= MAX_BYTES_HELD // 2

    def __len__(self) -> int:
        return len(self._held)

    def _gather(self, limit: int | None) -> Piece:
        """As many pieces as fit a cell and the limit, as one; at least a part of the first."""
        first = self._held.popleft()
        if limit is not None and len(first.ids) > limit:
            self._held.appendleft(_part(first, limit, len(first.ids), first.text))
            return _part(first, 0, limit, "")
        taken, size, count = [first], _size(first), len(first.ids)
        while self._held and _joins(first, self._held[0]):
            size, count = size + _size(self._held[0]), count + len(self._held[0].ids)
            if size > ROOM or (limit is not None and count > limit):
                break
            taken.append(self._held.popleft())
        return merged(taken)

    def _tokens(self) -> int:
        return sum(len(piece.ids) for piece in self._held)

    def _bytes(self) -> int:
        return sum(len(piece.text.encode()) for piece in self._held)


def split(piece: Piece) -> tuple[Piece, Piece | None]:
    """What of a piece fits one cell, text before tokens, and the rest.

    Text is cut between characters. A token may thus come a chunk after its text, never before.
    """
    text, left = _cut(piece.text, ROOM)
    room = ROOM - len(text.encode())
    count = 0 if left else _fitting(piece, room)
    first = _part(piece, 0, count, text)
    if not left and count == len(piece.ids):
        return first, None
    return first, _part(piece, count, len(piece.ids), left)


def _fitting(piece: Piece, room: int) -> int:
    """How many of its tokens have room for all that is told of them."""
    sizes = accumulate(map(_token_size, repeat(piece), range(min(len(piece.ids), MAX_IDS))))
    return sum(size <= room for size in sizes)


def _size(piece: Piece) -> int:
    """Bytes of ids, text and logprobs in a chunk."""
    return len(piece.text.encode()) + sum(map(_token_size, repeat(piece), range(len(piece.ids))))


def _token_size(piece: Piece, at: int) -> int:
    """Bytes of a chunk that a token takes."""
    texts = piece.texts[at] if piece.texts else ()
    told = sum(1 + min(len(text), MAX_TOKEN_TEXT) for text in texts)
    return 3 + (2 if piece.logprobs else 0) + 5 * _alternatives(piece) + told


def _alternatives(piece: Piece) -> int:
    return len(piece.top[0]) if piece.top else 0


def _part(piece: Piece, start: int, end: int, text: str) -> Piece:
    return replace(
        piece,
        first=piece.first + start,
        ids=piece.ids[start:end],
        text=text,
        logprobs=piece.logprobs[start:end],
        top=piece.top[start:end],
        texts=piece.texts[start:end],
    )


def _cut(text: str, room: int) -> tuple[str, str]:
    """The longest beginning of at most `room` bytes of UTF-8, and the rest."""
    data = text.encode()
    if len(data) <= room:
        return text, ""
    head = data[:room].decode(errors="ignore")
    return head, text[len(head) :]


def _joins(a: Piece, b: Piece) -> bool:
    alike = [(each.channel, bool(each.logprobs), _alternatives(each)) for each in (a, b)]
    return alike[0] == alike[1]


def _chunk(piece: Piece) -> Chunk:
    return Chunk(
        first=piece.first,
        ids=piece.ids,
        text=piece.text,
        channel=piece.channel,
        logprobs=tuple(map(logprob, piece.logprobs)) if piece.logprobs else None,
        top=tuple(tuple((id_, logprob(p)) for id_, p in row) for row in piece.top)
        if piece.top
        else None,
        texts=tuple(tuple(text[:MAX_TOKEN_TEXT] for text in row) for row in piece.texts)
        if piece.texts
        else None,
    )
