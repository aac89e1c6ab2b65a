"""A worker's offers: which wants it can meet, and on which terms."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final, final

from inference import protocol
from inference.limits import State as Manner
from inference.limits import Verdict
from inference.meter import MAX_STEP, Pace
from inference.order import Order, State
from inference.orders import Orders
from inference.protocol import Offer, Refusal, Refuse, Want, Work
from inference.schedule import Desk
from inference.service import Service, rate
from ledger import tariff
from ledger.money import ZERO
from ledger.payment import Decline
from ledger.tariff import Plan
from p2p.defaults import ANSWER_RATES
from p2p.entropy import Entropy
from p2p.identity import AdnlId, Identity
from p2p.onion.shaping import ASKER_RATE

MAX_QUOTES: Final = 256
"""offers that stand at once"""

OFFERS_PER_S: Final = 20

PAY_WAIT: Final = 0.5
"""seconds from a token's leaving to its payment's coming, through three relays and back"""

RATES: Final = (0, *ANSWER_RATES)
"""cells/s at which answers are given; 0: as they are ready"""

PROGRESS_TOKENS: Final = 512
"""tokens of a prompt after which an engine tells of it, if its steps are not longer"""

Mints = Callable[[], Sequence[AdnlId]]


@final
class Quoting:
    """Judges wants. A quote reserves nothing: there are only so many of them."""

    def __init__(
        self,
        identity: Identity,
        service: Service,
        orders: Orders,
        desk: Desk,
        *,
        entropy: Entropy,
        mints: Mints,
    ) -> None:
        self._identity = identity
        self._service = service
        self._orders = orders
        self._desk = desk
        self._entropy = entropy
        self._mints = mints
        self._plans = {rate: _plan(service, pay_wait(rate)) for rate in RATES}
        self._offers: deque[float] = deque(maxlen=OFFERS_PER_S)

        self.draining = False
        self.verdict = Verdict()
        """What the machine's owner and state allow."""
        self.ready = True
        """Whether the engine can take jobs, now or when it has loaded."""
        self.loading = 0.0
        """seconds until the model is in memory"""

    @property
    def paused(self) -> bool:
        """Whether nothing is offered for the machine's sake."""
        return self.verdict.state is not Manner.SERVE

    @property
    def pausing(self) -> Refusal:
        """No, for so many seconds if that is known."""
        until = self.verdict.until
        seconds = 0 if until is None else math.ceil(max(0.0, until - self._orders.now))
        return Refusal(Refuse.PAUSED, min(seconds, 2**32 - 1))

    def judge(self, want: Want) -> Refusal | None:
        """Why a want cannot be offered anything, if so."""
        service = self._service
        if self.paused or self.draining:
            return self.pausing
        if want.identity != service.identity:
            return Refusal(Refuse.NO_MODEL)
        if want.work not in (Work.CHAT, Work.TEXT) or want.rate not in RATES:
            return Refusal(Refuse.UNSUPPORTED)
        missing = int(want.needs) & ~service.flags
        if missing:
            return Refusal(Refuse.UNSUPPORTED, missing)
        if (1 << want.size_class) // 4 >= service.context:
            return Refusal(Refuse.TOO_LONG, service.context)
        if not service.prices.free and not self._common(want):
            return Refusal(Refuse.PAYMENT, Decline.TERMS)
        return Refusal(Refuse.BUSY) if not self.ready or self._crowded() else None

    def quote(self, order: Order, want: Want, message: bytes) -> bytes:
        """The signed offer; the order keeps its terms."""
        ahead, wait = self._queue()
        wait += self.loading
        share = min(self._desk.running + 1, self._service.slots)
        plan = self._plans[want.rate]
        offer = Offer(
            want=sha256(message).digest(),
            identity=self._service.identity,
            numerics=self._service.numerics,
            prices=self._service.prices,
            tick_tokens=plan.k,
            step_ticks=plan.g,
            tick=plan.tick.value,
            mints=self._common(want),
            ahead=min(ahead, 255),
            wait_s=min(int(wait), 2**16 - 1),
            context=self._service.context,
            prompt_rate=rate(self._service.prompt_rate / share),
            answer_rate=rate(self._service.answer_rate / share),
            assurance=self._service.assurance,
            nonce=self._entropy.token(16),
        ).sign(self._identity)
        self._offers.append(self._orders.now)
        order.want, order.session = want, protocol.session_of(offer)
        order.pace = self._pace(plan)
        return offer

    def _pace(self, plan: Plan) -> Pace | None:
        prices = self._service.prices
        return None if prices.free else Pace(prices, plan.k, plan.tick, plan.g)

    def _common(self, want: Want) -> tuple[AdnlId, ...]:
        """Mints of ours that the asker uses, too."""
        if self._service.prices.free:
            return ()
        return tuple(mint for mint in self._mints() if mint in want.mints)[: protocol.MAX_MINTS]

    def _crowded(self) -> bool:
        oldest = self._offers[0] if len(self._offers) == OFFERS_PER_S else -1.0
        return (
            self._desk.full
            or self._orders.now - oldest < 1.0
            or self._orders.count(State.QUOTED) >= MAX_QUOTES
        )

    def _queue(self) -> tuple[int, float]:
        """Jobs before a new one, and the seconds until it may begin."""
        if self._desk.running < self._service.slots:
            return 0, 0.0
        prompts, answers = self._desk.tokens_ahead
        seconds = prompts / self._service.prompt_rate + answers / self._service.answer_rate
        return self._desk.waiting + self._desk.running, seconds / self._service.slots


def least_step(service: Service) -> int:
    """Tokens of the shortest step: what is computed before a payment can stop it, twice.

    While one batch is told of, the engine is at the next already.
    """
    return 2 * max(PROGRESS_TOKENS, service.batch)


def pay_wait(rate: int) -> float:
    """Seconds from a token's leaving to its payment's coming, at this rate of cells.

    A shaped token waits for its slot, and its tick for one of the asker's.
    """
    return PAY_WAIT + (1 / rate + 1 / ASKER_RATE if rate else 0.0)


def _plan(service: Service, wait: float) -> Plan:
    """Ticks and steps for all requests of one rate, by the service's longest prompt."""
    plan = tariff.plan(
        service.prices,
        service.context,
        1,
        answer_rate=service.answer_rate,
        prompt_rate=min(service.prompt_rate, MAX_STEP / (2 * wait)),
        wait=wait,
    )
    if plan.tick == ZERO:
        return plan
    pace = Pace(service.prices, plan.k, plan.tick, plan.g)
    # One more, since the two sides round what was read in opposite ways.
    step = pace.prompt(least_step(service), 0) + 1
    return Plan(k=plan.k, tick=plan.tick, p0=plan.p0, g=max(plan.g, step), ticks=plan.ticks)
