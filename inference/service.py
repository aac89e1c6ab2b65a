"""What a worker serves and on which terms, and what it says of itself."""

from dataclasses import dataclass
from typing import Final

from inference.engine.base import Loaded
from inference.protocol import Need
from ledger.money import ZERO, Nano
from ledger.policy import MAIN
from ledger.tariff import Prices, fair
from p2p.overlay.advert import Model
from p2p.overlay.advert import Prices as AdvertPrices

FREE: Final = Prices()


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The one model a worker serves, and its terms."""

    identity: bytes
    """32 bytes: `inference.gguf.identity`."""
    numerics: bytes
    """8 bytes, as the engine said when it loaded."""
    context: int
    slots: int
    """Answers at once; twice as many may wait."""
    prompt_rate: float
    answer_rate: float
    """tokens/s, one stream, as the engine measured at load."""
    quant: int = 0
    """GGUF file type."""
    flags: int = 0
    """1 tools, 2 grammar, 4 vision, 8 embeddings, 16 logprobs, 32 reproducible."""
    prices: Prices = FREE
    """All 0 is `free` mode: nothing is paid."""
    batch: int = 512
    """tokens of a prompt computed in one step: no less is done before a payment can stop it"""
    settle_ticks: int = MAIN.settle_ticks
    settle_every: float = MAIN.settle_every
    """ticks, and seconds, after which the mint is told what came: the most it could keep from us"""
    assurance: int = 0
    label: str = ""
    """At most 32 bytes for the advert."""

    def __post_init__(self) -> None:
        if min(self.slots, self.context) < 1 or min(self.prompt_rate, self.answer_rate) <= 0:
            raise ValueError("a service has slots, a context and rates above 0")
        if not fair(self.prices):
            raise ValueError("a service asks no more for what is reused than for what is computed")

    def listing(self) -> Model:
        """How the advert names this service: `Fields(models=(service.listing(),), ...)`."""
        return Model(
            identity=self.identity,
            quant=self.quant,
            context=self.context,
            prompt_rate=rate(self.prompt_rate),
            answer_rate=rate(self.answer_rate),
            slots=self.slots,
            prices=AdvertPrices(self.prices.prompt, self.prices.completion),
            flags=self.flags,
            assurance=self.assurance,
            label=self.label,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatistics:
    """A snapshot: what is there now, and counts since the start."""

    paused: bool
    draining: bool
    quoted: int
    """offers whose prompt has not come yet"""
    waiting: int
    running: int
    answered: int
    """answers that ended with a receipt"""
    tokens: int
    """tokens of answers"""
    refusals: dict[str, int]
    """by reason"""
    misbehaved: int
    """streams ended because the other side broke the protocol"""
    earned: Nano = ZERO
    """what the ticks of sessions that ended were worth"""


def flags_of(loaded: Loaded) -> int:
    """What an engine can do, as an advert says it."""
    can = {
        Need.TOOLS: loaded.tools and loaded.grammars,
        Need.GRAMMAR: loaded.grammars,
        Need.EMBEDDINGS: loaded.embeds,
        Need.LOGPROBS: loaded.logprobs,
        Need.REPRODUCIBLE: loaded.reproducible,
    }
    return sum(int(flag) for flag, is_so in can.items() if is_so)


def rate(rate: float) -> int:
    """tokens/s as adverts and offers carry them."""
    return min(max(int(rate), 0), 2**16 - 1)
