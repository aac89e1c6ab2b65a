"""Nodes that sit round one key of the DHT, so that who looks for its value looks at them.

Their ids are ground: each is the nearest to the key of so many tries, which is what it costs
anybody. They take the key's values, and then say nothing of them, or name each other, or show one
that has been changed. Of anything else they are honest servers.

A value is kept by the k nearest nodes and looked for until these have answered: while one of them
is honest it is found; when none is, nobody finds it, and a false one is believed by nobody.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Final, Literal, TypeAlias, final

from p2p import tl
from p2p.dht import key as keys
from p2p.dht.core import DhtCore
from p2p.entropy import Entropy
from p2p.errors import TlError
from p2p.identity import AdnlId, Identity
from p2p.ton import (
    DhtFindValue,
    DhtNode,
    DhtNodes,
    DhtStore,
    DhtStored,
    DhtValue,
    DhtValueFound,
    DhtValueNotFound,
)
from simulations.reading import Between

How: TypeAlias = Literal["silent", "deny", "forge"]

FALSE: Final = b"nothing of what was published"


@dataclass(frozen=True, slots=True, kw_only=True)
class Eclipse:
    """What an experiment says of them."""

    victim: Annotated[int, Between(0, 50_000)] = 0
    """whose value it is"""
    how: How = "forge"
    tries: Annotated[int, Between(1, 1_000_000)] = 500
    """ids that each has drawn to be near"""


def grind(key: bytes, tries: int, entropy: Entropy) -> Identity:
    """The identity of so many whose id is nearest to a key."""
    target = int.from_bytes(key, "big")
    drawn = (Identity(entropy.token(32)) for _ in range(tries))
    return min(drawn, key=lambda one: int.from_bytes(one.id, "big") ^ target)


@final
class Ring:
    """Who is in it, and what they know of the value together."""

    def __init__(self, key: bytes, how: How) -> None:
        self.key = key
        self.how = how
        self.value: DhtValue | None = None
        self._cores: list[DhtCore] = []

    def join(self, core: DhtCore) -> "Eclipser":
        """One more node, or another life of one."""
        self._cores.append(core)
        return Eclipser(core, self)

    def records(self) -> tuple[DhtNode, ...]:
        """Of those who serve."""
        found = (core.record() for core in self._cores)
        return tuple(record for record in found if record is not None)


@final
class Eclipser:
    """A node of the ring, as an `Upper` of its seat."""

    def __init__(self, core: DhtCore, ring: Ring) -> None:
        self._core = core
        self._ring = ring
        self._asked = DhtFindValue.tl.id + ring.key

    def query(self, now: float, peer: AdnlId, payload: bytes) -> bytes | None:
        """See `Handler`. A question may stand behind the record of who asks it."""
        if self._asked in payload:
            return self._answer()
        stored = self._stored(payload)
        if stored is None:
            return self._core.query(now, peer, payload)
        self._ring.value = stored
        return tl.pack(DhtStored())

    def message(self, now: float, peer: AdnlId, payload: bytes) -> None:
        """See `Handler`."""
        self._core.message(now, peer, payload)

    def handle_timer(self, now: float) -> None:
        """See `Upper`."""
        self._core.handle_timer(now)

    def next_deadline(self) -> float | None:
        """See `Upper`."""
        return self._core.next_deadline()

    def _answer(self) -> bytes | None:
        match self._ring.how, self._ring.value:
            case "silent", _:
                return None
            case "forge", DhtValue() as value:
                return tl.pack(DhtValueFound(replace(value, value=FALSE)))
            case _:
                return tl.pack(DhtValueNotFound(DhtNodes(self._ring.records())))

    def _stored(self, payload: bytes) -> DhtValue | None:
        """The value that is to be kept under the key, if it is one."""
        at = payload.find(DhtStore.tl.id)
        if at < 0:
            return None
        try:
            value = tl.parse(DhtStore, payload[at:]).value
        except TlError:
            return None
        return value if keys.key_id(value.key.key) == self._ring.key else None
