"""Who is ahead: what a paid answer has cost so far, what was paid, and what may come next.

Both sides count alike, from the signed offer and from what has passed between them. With p0 ticks
for the prompt, g ticks a step of reading it, and c the cost of the answer's tokens so far:

    while        the asker has revealed              the worker
    reading      min(p0, g * (1 + steps told))       reads at most one unpaid step
    answering    p0 + 1 + floor(c / tick)            says tokens up to c = (p - p0 + 1) * tick
    at the end   ceil((prompt + c) / tick) in all    waits a little for the last tick

So neither is ever out by more than a tick, or by a step while the prompt is read. One thing is
wider than that: the first tokens may go out within the unpaid step, since a short prompt is read
before any payment for it can have come.

A tick that is ahead is no price: an honest worker settles for what has been read and said so far,
rounded up once, whatever later preimage it holds; each hashes forward to those before it. At the
end that is what its receipt states, and the asker has the rest back as change.
"""

from typing import Final, NamedTuple, final

from inference.protocol import Offer, Tick
from ledger import tick as ticks
from ledger.money import Nano
from ledger.payment import Locked, Payment
from ledger.receipt import LockReceipt
from ledger.tariff import LEAST_TICK, MOST_TICK, Count, Prices, cost, fair, prompt_ticks
from p2p.errors import BadSignature, RemoteError

MAX_STEP: Final = 8_192
"""tokens of a prompt that an asker pays ahead: two seconds of a quick machine's reading."""

MAX_SESSION: Final = Nano(2**28 - 1)
"""The most that one spend can lock: its change must fit the 18 blanks that a mint signs."""

_MILLION: Final = 1_000_000


class Pace(NamedTuple):
    """How an offer is paid."""

    prices: Prices
    k: int
    """tokens of the answer that one tick pays"""
    tick: Nano
    g: int
    """ticks in one step of reading"""

    @property
    def dearer(self) -> Prices:
        """The prices with all of an answer at the dearer of its two."""
        most = max(self.prices.completion, self.prices.reasoning)
        return self.prices._replace(completion=most, reasoning=most)

    @property
    def sound(self) -> bool:
        """Whether prices keep their rules, and a tick and a step are what an asker can risk."""
        if not fair(self.prices):
            return False
        if self.prices.free:
            return not (self.k or self.g or self.tick)
        if not (LEAST_TICK <= self.k <= MOST_TICK and self.tick and self.g):
            return False
        step = cost(Count(prompt=MAX_STEP), self.prices)
        answer = cost(Count(completion=self.k), self.dearer)
        return self.tick <= max(answer, step, Nano(1)) and self.g <= self._whole(step) + 2

    def prompt(self, prompt: int, cached: int) -> int:
        """p0: ticks for so many tokens of a prompt."""
        return prompt_ticks(Count(prompt=prompt, cached=cached), self.prices, self.tick)

    def read(self, prompt: int, cached: int) -> int:
        """Ticks that so much of a prompt has earned in full."""
        return cost(Count(prompt=prompt, cached=cached), self.prices).value // self.tick.value

    def spent(self, count: Count) -> Nano:
        """c: what the answer's tokens cost."""
        return cost(count._replace(prompt=0, cached=0), self.prices)

    def total(self, count: Count) -> int:
        """Ticks that so much work takes, prompt and answer rounded up together."""
        return self._whole(cost(count, self.prices))

    def most(self, prompt: int, written: int, cached: int = 0) -> int:
        """Ticks that a request takes at the most: all of its answer of the dearer class."""
        count = Count(prompt=prompt, cached=cached, completion=written)
        return self._whole(cost(count, self.dearer))

    def room(self, ticks: int, prompt: int) -> int | None:
        """Tokens of an answer that `ticks` pay beside such a prompt; None: any number.

        Below 0 if they do not even pay for the prompt.
        """
        price = self.dearer.completion
        left = ticks * self.tick.value * _MILLION - prompt * self.prices.prompt
        return left // price if price else None if left >= 0 else -1

    def _whole(self, amount: Nano) -> int:
        return amount.ceil_div(self.tick.value).value


def pace_of(offer: Offer) -> Pace:
    """How this offer is paid."""
    return Pace(offer.prices, offer.tick_tokens, Nano(offer.tick), offer.step_ticks)


@final
class Spending:
    """The asker's side of one session: what it has revealed, and what it owes."""

    def __init__(self, pace: Pace, payment: Payment, most_written: int) -> None:
        self._pace = pace
        self._most_written = most_written
        self._reports = -1
        self.payment = payment
        self.locked = False
        """The worker has shown the mint's receipt."""
        self.revealed = 0
        """Ticks."""
        self.billed: int | None = None
        """Ticks that the worker's receipt takes."""

    def lock(self, signed: bytes) -> None:
        """The worker shows the mint's receipt. Raises `RemoteError` if that is not for this."""
        receipt = LockReceipt.parse(signed, self.payment.mint_public)
        terms = self.payment.terms
        said = receipt.lock, receipt.worker, receipt.session, receipt.root
        if said != (self.payment.lock_id, terms.payee, terms.session, self.payment.chain.root):
            raise BadSignature("the mint's receipt is for another lock")
        if (receipt.tick, receipt.ticks) != (terms.tick, terms.ticks):
            raise BadSignature("the mint's receipt is on other terms")
        self.locked = True

    @property
    def locks(self) -> Nano:
        """What was set aside: the most that the worker can have."""
        return self.payment.terms.tick * self.payment.terms.ticks

    @property
    def owed(self) -> int:
        """Ticks that the worker may have: what it has billed, else all that were revealed."""
        return self.revealed if self.billed is None else self.billed

    @property
    def paid(self) -> Nano:
        """What these are worth."""
        return self.payment.terms.tick * self.owed

    def too_dear(self, prompt: int, cached: int) -> bool:
        """Whether what is locked would not pay for such a prompt and all of its answer."""
        return self._pace.most(prompt, self._most_written, cached) > self.payment.terms.ticks

    def told(self, prompt: int, cached: int, done: int) -> int:
        """Ticks due while the prompt is read, one more report of it having come.

        A report earns one step at most: a claim to have read all of it is not paid at once.
        """
        earned = self._pace.read(max(0, done - cached), min(cached, done)) // self._pace.g
        self._reports = min(self._reports + 1, earned)
        p0 = self._pace.prompt(prompt, cached)
        return self._bounded(ticks.prompt_due(p0, self._pace.g, self._reports))

    def due(self, count: Count) -> int:
        """Ticks due once tokens have come."""
        p0 = self._pace.prompt(count.prompt, count.cached)
        terms = self.payment.terms
        return ticks.answer_due(p0, terms.tick, terms.ticks, self._pace.spent(count))

    def total(self, count: Count) -> int:
        """Ticks due for all of the answer."""
        return self._bounded(self._pace.total(count))

    def bill(self, number: int) -> int:
        """Ticks due by the worker's receipt. Raises `RemoteError` for more than were locked."""
        if number > self.payment.terms.ticks:
            raise RemoteError("the receipt takes more than was locked")
        self.billed = number
        return number

    def reveal(self, index: int) -> Tick | None:
        """The tick that pays up to `index`; None if that is paid already."""
        if index <= self.revealed:
            return None
        self.revealed = index
        return Tick(index, self.payment.chain.reveal(index))

    def _bounded(self, index: int) -> int:
        return min(index, self.payment.terms.ticks)


@final
class Earning:
    """The worker's side of one session: what it was paid, and what it may do for that."""

    def __init__(self, pace: Pace, locked: Locked) -> None:
        self._pace = pace
        self._verifier = ticks.Verifier(locked.root, locked.ticks)
        self.locked = locked
        self.settled = 0
        """Ticks that the mint was asked for."""
        self.settled_at = 0.0

    @property
    def index(self) -> int:
        """Ticks seen."""
        return self._verifier.index

    @property
    def newest(self) -> bytes:
        """The preimage of the newest."""
        return self._verifier.newest

    def take(self, tick: Tick) -> bool:
        """Take a tick; whether it is news. Raises `BadPreimage`."""
        before = self.index
        return self._verifier.accept(tick.index, tick.preimage) > before

    def room(self, prompt: int) -> int | None:
        """Tokens of the answer that the lock pays beside such a prompt; None: any number.

        Below 0 if it does not even pay for the prompt.
        """
        return self._pace.room(self.locked.ticks, prompt)

    def owes_reading(self, prompt: int, cached: int) -> bool:
        """Whether reading up to so many tokens would be more than one step unpaid."""
        upto = self._pace.prompt(prompt, cached)
        steps = -(-upto // self._pace.g)
        return not ticks.may_read(self.index, upto, self._pace.g, max(0, steps - 1))

    def affordable(self, count: Count, *, reasoning: bool) -> int | None:
        """Tokens of one class that may follow `count`; None: any number."""
        price = self._pace.prices.reasoning if reasoning else self._pace.prices.completion
        if not price:
            return None
        written = count._replace(prompt=0, cached=0)
        spent = sum(n * p for n, p in zip(written, self._pace.prices, strict=True))
        return max(0, self._allowed(count).value * _MILLION - spent) // price

    def owed(self, count: Count) -> bool:
        """Whether the answer takes ticks that have not come."""
        return self.index < min(self.locked.ticks, self._pace.total(count))

    def earned(self, count: Count) -> int:
        """Ticks that so much work takes, as far as they have come: what may be settled."""
        return min(self.index, self._pace.total(count))

    def _allowed(self, count: Count) -> Nano:
        """What the answer may have cost."""
        p, p0 = self.index, self._pace.prompt(count.prompt, count.cached)
        if p >= p0:
            return ticks.may_spend(p, p0, self.locked.tick)
        return self.locked.tick * max(0, p + self._pace.g - p0)
