"""One worker that was drawn, and how far it has come with it."""

from dataclasses import dataclass, field, replace
from typing import Final

from inference import market, protocol
from inference.meter import Spending
from inference.protocol import Offer, Prompt
from inference.reading import Reading
from inference.request import AskRequest, Chosen, Offered
from ledger.money import ZERO, Nano
from ledger.tariff import Receipt
from p2p import codec
from p2p.identity import AdnlId
from p2p.onion import events
from p2p.onion.cell import Code, FailCode
from p2p.overlay.listing import Entry

SILENCE: Final = 30.0
"""seconds a worker may say nothing, beside twice the wait that it quoted"""


@dataclass(slots=True)
class Trial:
    """One worker, the newest circuit to it, and what has come of the answer."""

    entry: Entry
    identity: bytes
    name: str
    slots: int
    most_tokens: int = 1
    """that the answer may have"""
    number: int = 0
    paths: int = 0
    blamed: int = 0
    """paths that ended at this worker"""
    path: tuple[AdnlId, ...] = ()
    want: bytes = b""
    offer: Offer | None = None
    prompt: Prompt | None = None
    reading: Reading | None = None
    unframer: codec.Unframer = field(default_factory=lambda: codec.Unframer(protocol.MAX_ANSWER))
    spending: Spending | None = None
    due: int = 0
    """ticks that are due"""
    unsaid: bool = False
    """whether a tick that is due has not left yet"""
    sent: bool = False
    """whether the prompt, and a spend before it, has begun to leave"""
    left: bool = False
    receipt: tuple[Receipt, bytes] | None = None
    """The worker's, read and as it was signed, once all of the answer is there."""
    lie: str = ""
    resumed: int = 0
    """circuits that died in mid-answer and were replaced"""
    repaid: bool = False
    """whether other credits were tried after some that its mint would not have"""

    @property
    def last(self) -> int:
        """Where the worker stands in the path."""
        return len(self.path) - 1

    @property
    def context(self) -> int:
        """Tokens, as offered, else as advertised."""
        model = market.model_of(self.entry, self.identity)
        advertised = model.context if model is not None else 0
        return self.offer.context if self.offer is not None else advertised

    @property
    def patience(self) -> float:
        """Seconds without a word from the worker."""
        return SILENCE + 2 * (self.offer.wait_s if self.offer is not None else 0)

    @property
    def paid(self) -> Nano:
        """What the worker can have of the asker's."""
        return self.spending.paid if self.spending is not None else ZERO

    @property
    def quoted(self) -> Nano:
        """What is set aside for it: the most that it can have."""
        return self.spending.locks if self.spending is not None else ZERO

    @property
    def begun(self) -> bool:
        """Whether anything of the answer has come."""
        return self.reading is not None and self.reading.begun

    def culprit(self, hop: int | None, status: int) -> int | None:
        """The place in the path of who is to blame for a circuit that did not open, if known."""
        if status in (events.GUARD_UNREACHABLE, events.DESTROYED):
            return 0
        if hop is None:
            return None
        return hop + 1 if status in (Code.UNREACHABLE, Code.UNKNOWN_NEXT) else hop

    def lost_by(self, hop: int | None, code: int) -> int:
        """The place in the path of who is to blame for a circuit that was open.

        Nobody's word means the guard: a relay further on is outlived by one that says so.
        """
        if hop is None:
            return 0
        return hop + 1 if code in (FailCode.NEXT_LOST, FailCode.NEXT_DESTROYED) else hop

    def again(self) -> "Trial":
        """The same worker, nothing having come of it, for another path."""
        return replace(
            self,
            offer=None,
            reading=None,
            unframer=codec.Unframer(protocol.MAX_ANSWER),
            spending=None,
            due=0,
            unsaid=False,
            sent=False,
            left=False,
        )

    def chosen(self) -> Chosen:
        """What the caller is told of the draw."""
        return Chosen(
            worker=self.entry.id,
            identity=self.identity,
            model=self.name,
            slots=self.slots,
            path=self.path,
        )

    def accept(self, offer: Offer, signed: bytes, body: bytes, request: AskRequest) -> None:
        """Read the answer by this offer from now on."""
        exact = request.max_tokens is not None
        self.offer = offer
        self.reading = Reading(
            offer,
            signed,
            body,
            messages=max(1, len(request.messages)),
            cap=self.most_tokens if exact else min(self.most_tokens, max(1, offer.context)),
            exact=exact,
        )

    def offered(self, offer: Offer) -> Offered:
        """What the caller is told of the offer."""
        return Offered(
            worker=self.entry.id,
            ahead=offer.ahead,
            wait_s=float(offer.wait_s),
            prices=offer.prices,
            quoted=self.quoted,
            numerics=offer.numerics,
        )
