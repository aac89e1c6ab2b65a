"""What every node of a process reads anew, read once: the result depends on the bytes alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, final

from p2p.adnl import box
from p2p.overlay import advert as adverts
from p2p.overlay.advert import Advert, Rules

AHEAD = 60.0
"""seconds that an advert may be from the future, as `advert.read` has it"""


@final
class AdvertMemo:
    """`advert.read` for many nodes: one object for each advert, as long as it would be accepted."""

    def __init__(self) -> None:
        self._known: dict[bytes, Advert] = {}

    def __call__(self, buffer: bytes, now: float, rules: Rules) -> Advert:
        """Raises what `advert.read` does."""
        advert = self._known.get(buffer)
        if advert is None or advert.issued > now + AHEAD or advert.expires <= now:
            advert = self._known[buffer] = adverts.read(buffer, now, rules)
        return advert

    def __len__(self) -> int:
        return len(self._known)


UNDER_WAY: Final = 1 << 16
"""sealed datagrams that are remembered; one that is lost is forgotten for a later one"""


@final
class Seals:
    """`box.seal` and `box.unseal` for both ends: what one has sealed the other need not decrypt.

    Only the very bytes are known again, and only to who has the secret; for all else, a datagram
    that comes twice among it, the real one is asked.
    """

    def __init__(self) -> None:
        self._sealed: dict[bytes, tuple[bytes, bytes]] = {}
        self._seal, self._unseal = box.seal, box.unseal

    def seal(self, secret: bytes, plain: bytes) -> bytes:
        """See `box.seal`."""
        datagram = self._seal(secret, plain)
        self._sealed[datagram] = secret, plain
        if len(self._sealed) > UNDER_WAY:
            del self._sealed[next(iter(self._sealed))]
        return datagram

    def unseal(self, secret: bytes, datagram: bytes, at: int) -> bytes:
        """See `box.unseal`."""
        known = self._sealed.pop(datagram[at:], None)
        if known is not None and known[0] == secret:
            return known[1]
        return self._unseal(secret, datagram, at)

    def __len__(self) -> int:
        return len(self._sealed)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Inside, all nodes of this process use it."""
        box.seal, box.unseal = self.seal, self.unseal
        try:
            yield
        finally:
            box.seal, box.unseal = self._seal, self._unseal
