"""Questions to a DHT: what people name in them, how long they may take, and what answers them.

The DHT is this node's own, or one that is visited for the question alone.
"""

import re
import string
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import trio

from p2p.dht import key as keys
from p2p.dht.core import DhtCore
from p2p.identity import AdnlId, parse_adnl
from p2p.ton import DhtKey, DhtNode
from scripts.api import dht as documents
from scripts.failure import Document, Failed

JOIN_SECONDS: Final = 10.0
"""For the first node of a DHT to answer: two rounds of questions to those it begins with."""

LOOKUP_SECONDS: Final = 30.0
"""For one lookup or store: a dozen rounds, some of whose nodes are gone and cost 4 s."""

SHORTEST_PREFIX: Final = 6
"""hex digits of an id that may stand for it."""

T = TypeVar("T")


class Table(Protocol):
    """A DHT that can be asked."""

    async def joined(self) -> None:
        """Wait until a node has answered; the deadline is the caller's."""

    async def run(self, make: Callable[[DhtCore], Coroutine[object, None, T]]) -> T:
        """Run a coroutine over it, and return what it returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A value: by the id of its key, or by its owner's id and its name."""

    id: bytes
    name: bytes | None = None
    idx: int = 0

    @property
    def where(self) -> bytes:
        """The id of its key. Raises `DhtError` for a name or an index that none has."""
        if self.name is None:
            return self.id
        key = DhtKey(self.id, self.name, self.idx)
        keys.check_key(key)
        return keys.key_id(key)


async def get(table: Table, wanted: Wanted) -> Document:
    """The `dht-value` document. Raises `Failed`: `not_found`, `dht_unreachable`, `deadline`."""
    where = wanted.where
    with patience(LOOKUP_SECONDS):
        value = await (await joined(table)).run(lambda dht: dht.find_under(where))
    if value is None:
        by_name = "Its owner may not have published it, or not again within its time."
        by_key = "If this is the id of a node rather than of a key, name its value: --name address."
        advice = by_key if wanted.name is None else by_name
        raise Failed("not_found", f"The DHT holds no value under key {where.hex()}.", advice)
    return documents.value(value)


async def find_node(table: Table, target: bytes) -> Document:
    """The `dht-nodes` document. Raises `Failed`: `dht_unreachable`, `deadline`."""
    with patience(LOOKUP_SECONDS):
        return documents.nodes(target, await nearest(await joined(table), target))


async def nearest(table: Table, target: bytes) -> list[DhtNode]:
    """The nodes nearest to an id."""
    return await table.run(lambda dht: dht.find_nodes(target))


async def joined(table: Table) -> Table:
    """The table, once there is somebody to ask. Raises `Failed` (`dht_unreachable`)."""
    with trio.move_on_after(JOIN_SECONDS) as waiting:
        await table.joined()
    if waiting.cancelled_caught:
        raise nobody()
    return table


def nobody() -> Failed:
    """That there is nobody to ask."""
    return Failed(
        "dht_unreachable",
        "No node of the DHT has answered.",
        "They are asked over UDP: see that a firewall lets it out, and that one of the nodes to "
        "begin with is up.",
    )


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Raise `Failed` (`deadline`) if the block takes longer."""
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError as error:
        message = f"The DHT has not answered within {seconds:.0f} s."
        raise Failed(
            "deadline", message, "Try again: nodes that are gone are known now."
        ) from error


def parse_id(text: str, listed: Iterable[AdnlId] = ()) -> bytes:
    """The 32 bytes of an id: 64 hex digits, TON's 55 letters, or the first digits of one listed.

    Raises `Failed` (`invalid_request`).
    """
    if PEER_ID.fullmatch(text):
        raise Failed(
            "invalid_request",
            f"{text} is libp2p's PeerId, by which this DHT finds nobody.",
            "`tussah peers` lists nodes by their ids; `tussah id` shows both of this node.",
            param="id",
        )
    digits = text.lower()
    if set(digits) <= set(string.hexdigits):
        found = [one for one in listed if one.hex().startswith(digits)]
        if len(digits) == 64:
            return bytes.fromhex(digits)
        if len(digits) >= SHORTEST_PREFIX and len(found) == 1:
            return found[0]
        several = f"{len(found)} listed nodes begin so" if found else "no listed node begins so"
        raise _no_id(text, several if len(digits) >= SHORTEST_PREFIX else "it is too short")
    try:
        return parse_adnl(text)
    except ValueError as error:
        raise _no_id(text, str(error)) from error


PEER_ID: Final = re.compile(r"12D3KooW[1-9A-HJ-NP-Za-km-z]{44}|Qm[1-9A-HJ-NP-Za-km-z]{44}")
"""As libp2p writes whom it speaks to; the DHT of this network knows nobody by that."""


def _no_id(text: str, why: str) -> Failed:
    return Failed(
        "invalid_request",
        f"{text[:80]!r} is no id: {why}.",
        "Give 64 hex digits, 55 letters as in a TON address that ends in .adnl, or at least "
        f"{SHORTEST_PREFIX} first digits of a node that `tussah peers` lists.",
        param="id",
    )


def expires(ttl: int) -> int:
    """When what lives so many seconds from now ends."""
    return int(time.time()) + ttl
