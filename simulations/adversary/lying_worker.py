"""Workers who take more than they give: each lie is told by the real core's own messages, changed.

    model   the offer is for another model than was wanted
    prompt  more tokens of the prompt are counted than it can have
    cut     a piece of the answer is left out, and all of it billed
    pad     the answer goes on behind the end that the asker has set
    count   the receipt bills each token of the answer twice

Each is found by the asker as soon as it shows, before or behind the tick that is ahead, and bans
the worker's operator. What nobody can find so is an answer of the right length that is worth
nothing: the protocol prices tokens, not sense.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias, final

from inference import protocol
from inference.meter import pace_of
from inference.protocol import Billed, Chunk, Offer, Progress
from ledger import tariff
from p2p.identity import Identity
from p2p.onion.cell import CircuitId

Lie: TypeAlias = Literal["model", "prompt", "cut", "pad", "count"]

PADDING: Final = 64
"""tokens behind the end"""

HEARD: Final = 8
"""tokens of an answer before the piece that is left out: the asker has begun to pay by then"""

ANOTHER: Final = b"another model".ljust(32, b".")


@dataclass(frozen=True, slots=True, kw_only=True)
class LyingWorker:
    """What an experiment says of them."""

    lie: Lie = "cut"


@final
class Liar:
    """What such a worker says: a `Twist`, and its `offering`."""

    def __init__(self, how: LyingWorker, identity: Identity, most_tokens: int) -> None:
        self._lie = how.lie
        self._identity = identity
        self._most = most_tokens
        self._offers: dict[bytes, Offer] = {}

    def offering(self, want: bytes, signed: bytes) -> bytes:
        """The offer that leaves; it is remembered, since a receipt is made by its terms."""
        offer = protocol.read_offer(signed, self._identity.public, want)
        self._offers[protocol.session_of(signed)] = offer
        if self._lie != "model":
            return signed
        return replace(offer, identity=ANOTHER).sign(self._identity)

    def __call__(self, circuit: CircuitId, message: bytes) -> Sequence[bytes]:
        """What leaves in the place of a message."""
        match self._lie, protocol.read_worker(message):
            case "prompt", Progress() as progress:
                return [replace(progress, prompt=progress.prompt * 10 + 1_000).encode()]
            case "cut", Chunk(first=first) if first == HEARD:
                return []
            case "pad", Chunk() as chunk if chunk.first + len(chunk.ids) >= self._most:
                return [message, self._padding(chunk).encode()]
            case "count", Billed() as billed:
                return [self._twice(billed).encode()]
            case _:
                return [message]

    def _padding(self, last: Chunk) -> Chunk:
        first = last.first + len(last.ids)
        return replace(last, first=first, ids=tuple(range(PADDING)), text="la " * PADDING)

    def _twice(self, billed: Billed) -> Billed:
        receipt = tariff.verify(billed.receipt, self._identity.public)
        offer, tokens = self._offers[receipt.offer], receipt.tokens
        more = tokens._replace(completion=2 * tokens.completion)
        false = replace(
            receipt,
            tokens=more,
            cost=tariff.cost(more, offer.prices),
            ticks=pace_of(offer).total(more),
        )
        return replace(billed, receipt=tariff.sign(false, self._identity))
