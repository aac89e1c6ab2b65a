"""Workers that are better than all others, so that those who rank go to them.

Nobody who asks as `inference.market` does ranks: there they get the share of any operator. With
`market.best` askers look at the cheapest few only, and choose evenly among those.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from p2p.overlay.advert import Model, Prices
from p2p.overlay.listing import Entry
from simulations.reading import Between


@dataclass(frozen=True, slots=True, kw_only=True)
class Steer:
    """What an experiment says of them."""

    price: Annotated[float, Between(0.0, 10.0)] = 0.5
    """of the cheapest honest worker's price"""
    speed: Annotated[float, Between(0.0, 100.0)] = 1.0
    """that they claim, of an honest worker's; what they have is an honest worker's"""

    def model(self, honest: Iterable[Model]) -> Model:
        """What they advertise, knowing what the others do."""
        models = list(honest)
        return replace(
            models[0],
            prices=Prices(
                *(
                    int(self.price * min(prices))
                    for prices in zip(*(m.prices for m in models), strict=True)
                )
            ),
            answer_rate=max(1, int(self.speed * max(model.answer_rate for model in models))),
        )


def best(entries: Sequence[Entry], count: int) -> Sequence[Entry]:
    """The cheapest few, as an asker that ranks would choose among; all of them for 0.

    Who is equal stands as listed, by id.
    """
    if not count:
        return entries
    return sorted(entries, key=lambda entry: (_price(entry), entry.id))[:count]


def _price(entry: Entry) -> int:
    return min(model.prices.completion for model in entry.advert.models)
