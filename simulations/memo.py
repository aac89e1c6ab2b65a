"""What every node of a process reads anew, read once: the result depends on the bytes alone."""

from typing import final

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
