"""The two calls by which adverts travel, for now; both sides read and write them here.

Behind a link's QUERY and ANSWER, in canonical msgpack:

    [32, advert]          -> [0]                                 take my advert
    [33, session, since]  -> [0, session, next, more, [advert]]  what came since that number

A server numbers adverts as they come; the numbers hold within its session, a random value of its
process, and who comes with another session starts at 0. A refusal is [1, code].
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from p2p import codec, defaults
from p2p.codec import Value
from p2p.errors import CodecError
from p2p.overlay.bodies import Refusal as Refusal
from p2p.overlay.bodies import pack_done as pack_done
from p2p.overlay.bodies import pack_refusal as pack_refusal

PUBLISH: Final = 32
SYNC: Final = 33

SESSION_SIZE: Final = 8

MAX_CALL: Final = 1_024
"""bytes of a call: an advert, and little else."""

MAX_ANSWER: Final = defaults.MAX_SYNC_ANSWER + 65_536
"""bytes of an answer: its adverts and their headers."""

_DONE, _REFUSED = 0, 1


class Refused(NamedTuple):
    """The answer to a call that is not done; `code` may be none that we know."""

    code: int


class Publish(NamedTuple):
    """Take my advert."""

    advert: bytes


class Sync(NamedTuple):
    """Tell me what came since that number of that session."""

    session: bytes
    since: int


ALL: Final = Sync(bytes(SESSION_SIZE), 0)
"""Asks for the whole list: no server has this session."""


class News(NamedTuple):
    """What came; ask again from `next` at once if there is `more`."""

    session: bytes
    next: int
    more: bool
    adverts: Sequence[bytes]


def pack_call(call: Publish | Sync) -> bytes:
    """The bytes of a call."""
    match call:
        case Publish(advert):
            return codec.pack([PUBLISH, advert])
        case Sync(session, since):
            return codec.pack([SYNC, session, since])


def read_call(body: bytes) -> Publish | Sync | None:
    """The call in `body`, None if it is of another kind. Raises `CodecError`."""
    match codec.unpack(body, MAX_CALL):
        case (int(kind), bytes(advert)) if kind == PUBLISH:
            return Publish(advert)
        case (int(kind), bytes(session), int(since)) if kind == SYNC:
            return Sync(session, since)
        case (int(kind), *_) if kind not in (PUBLISH, SYNC):
            return None
        case _:
            raise CodecError("not a call")


def pack_news(news: News) -> bytes:
    """The answer to a `Sync`."""
    return codec.pack([_DONE, news.session, news.next, news.more, news.adverts])


def read_done(body: bytes) -> Refused | None:
    """Whether a `Publish` was refused. Raises `CodecError`."""
    match codec.unpack(body, MAX_ANSWER):
        case (int(done),) if done == _DONE:
            return None
        case (int(refused), int(code)) if refused == _REFUSED:
            return Refused(code)
        case _:
            raise CodecError("not an answer")


def read_news(body: bytes) -> News | Refused:
    """What a `Sync` brought. Raises `CodecError`."""
    match codec.unpack(body, MAX_ANSWER):
        case (int(done), bytes(session), int(next_), bool(more), tuple(items)) if done == _DONE:
            return _news(session, next_, more, items)
        case (int(refused), int(code)) if refused == _REFUSED:
            return Refused(code)
        case _:
            raise CodecError("not an answer")


def _news(session: bytes, next_: int, more: bool, items: Sequence[Value]) -> News:
    adverts = [item for item in items if isinstance(item, bytes)]
    if len(adverts) != len(items) or len(session) != SESSION_SIZE or next_ < 0:
        raise CodecError("not news")
    if more and not adverts:
        raise CodecError("no news, and more of it")
    return News(session, next_, more, adverts)
