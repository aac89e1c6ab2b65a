"""The values that this node wants found: built anew and stored again before they are forgotten."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, final

from p2p.dht.settings import Settings, between
from p2p.entropy import Entropy
from p2p.errors import NoCapacity
from p2p.ton import DhtValue

Build: TypeAlias = Callable[[int], DhtValue | None]
"""Makes the value that expires at this time (Unix seconds); None: there is none any more."""


@dataclass(slots=True)
class Publication:
    """One of them."""

    name: str
    build: Build
    due: float | None
    """None while it is being stored."""
    value: DhtValue | None = None
    """What was built last."""


@final
class Publications:
    """Which values there are, and when each is due. Whoever holds this stores them."""

    def __init__(self, settings: Settings, entropy: Entropy) -> None:
        self._settings = settings
        self._entropy = entropy
        self._all: dict[str, Publication] = {}

    def add(self, now: float, name: str, build: Build) -> None:
        """Publish from now on; the former publication of this name ends. Raises `NoCapacity`."""
        if name not in self._all and len(self._all) >= self._settings.max_published:
            raise NoCapacity("too many values are published")
        self._all[name] = Publication(name, build, now)

    def remove(self, name: str) -> None:
        """Publish no longer; nodes forget the value when it expires."""
        self._all.pop(name, None)

    def due(self, now: float) -> list[Publication]:
        """What is to be stored now, with its newest value. What has none left is forgotten."""
        due = [one for one in self._all.values() if one.due is not None and one.due <= now]
        for one in due:
            one.due = None
            one.value = one.build(int(now) + self._settings.value_life)
            if one.value is None:
                self.remove(one.name)
        return [one for one in due if one.value is not None]

    def stored(self, now: float, publication: Publication, took: int) -> None:
        """So many nodes took it: it is due again in a while, soon if nobody did."""
        bounds = self._settings.publish if took else self._settings.bucket_fill
        publication.due = now + between(bounds, self._entropy)

    def next_due(self) -> float | None:
        """When the next one is due."""
        return min((one.due for one in self._all.values() if one.due is not None), default=None)

    def values(self) -> tuple[DhtValue, ...]:
        """What was stored last of each."""
        return tuple(one.value for one in self._all.values() if one.value is not None)

    def __len__(self) -> int:
        return len(self._all)
