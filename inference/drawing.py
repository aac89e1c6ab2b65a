"""Whom an ask may go to, and on which terms: the directory held against request and policy."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Final, final

from inference import market, protocol
from inference.endings import Why
from inference.market import Choice, Terms
from inference.meter import MAX_SESSION, Pace, pace_of
from inference.protocol import Offer, Want
from inference.request import AskRequest, Policy, needs_of
from inference.trial import Trial
from ledger.payment import PayTerms
from ledger.tick import MAX_TICKS
from p2p.errors import RemoteError
from p2p.identity import AdnlId
from p2p.overlay.listing import Entry

MAX_DRAWS: Final = 3
"""workers tried for one request"""


@final
class Drawing:
    """The choice of workers for one ask, whose body is `body`."""

    def __init__(self, request: AskRequest, policy: Policy, asker: AdnlId, body: bytes) -> None:
        self._request = request
        self._policy = policy
        self._asker = asker
        self._size, self._size_class = len(body), protocol.size_class(body)
        self._drawn: dict[AdnlId, None] = {}

        self.entries: Sequence[Entry] = ()
        self.mints: tuple[AdnlId, ...] = ()
        """Whose credits may be spent."""
        self.context_above = 0
        """A context of this size was too small."""

    def draw(self, now: float) -> Trial | Mapping[bytes, Choice]:
        """The next worker to try; else why nobody was acceptable, empty after `MAX_DRAWS`."""
        choices = self._choices(now)
        identity = market.pick_model(choices)
        if identity is None:
            return choices
        if len(self._drawn) >= MAX_DRAWS:
            return {}
        among = choices[identity]
        entry = market.draw(among, self._policy.entropy)
        self._drawn[entry.id] = None
        return self._trial(entry, identity, among)

    def _trial(self, entry: Entry, identity: bytes, among: Choice) -> Trial:
        trying = Trial(entry, identity, self._name(entry, identity), slots=len(among))
        trying.most_tokens = self.terms().most_tokens(trying.context)
        return trying

    def too_long(self, context: int) -> None:
        """A context of this size was too small: smaller ones are not tried."""
        self.context_above = max(self.context_above, context)

    def terms(self) -> Terms:
        """What the request demands."""
        return Terms(
            needs=needs_of(self._request),
            size_class=self._size_class,
            max_tokens=self._request.max_tokens,
            max_price=self._policy.max_price,
            payable=bool(self.mints),
            min_rate=self._policy.min_rate,
            assurance=self._policy.assurance,
            asker=self._asker,
            only=self._policy.worker,
            context_above=self.context_above,
            upload=self._size,
        )

    def want(self, trying: Trial) -> Want:
        """What a worker is asked for before it learns anything of the prompt."""
        terms = self.terms()
        return Want(
            work=protocol.Work.CHAT if self._request.text is None else protocol.Work.TEXT,
            identity=trying.identity,
            nonce=self._policy.entropy.token(16),
            needs=terms.needs,
            size_class=terms.size_class,
            max_tokens=trying.most_tokens,
            mints=self.mints[: protocol.MAX_MINTS],
            rate=self._policy.rate,
        )

    def unacceptable(self, trying: Trial, offer: Offer, left: float) -> Why | None:
        """Why an offer is passed over, if so; `left` are the seconds until the ask must end.

        Raises `RemoteError` for an offer that is none.
        """
        terms, pace = self.terms(), pace_of(offer)
        if offer.identity != trying.identity or not pace.sound:
            raise RemoteError("the offer is for another model, or at prices that break a rule")
        if not offer.prices.free and self._is_too_dear(trying, offer, pace):
            return Why.PRICE
        if offer.context <= self.context_above or offer.assurance < terms.assurance:
            return Why.UNSUPPORTED
        if not offer.prices.free and not self._common(offer):
            return Why.MINT
        return Why.BUSY if offer.wait_s >= left else None

    def pay_terms(
        self, trying: Trial, offer: Offer, session: bytes, now: float, left: float
    ) -> PayTerms:
        """What to set aside for an acceptable offer; what is not used returns."""
        pace = pace_of(offer)
        return PayTerms(
            mints=self._common(offer),
            payee=trying.entry.id,
            session=session,
            tick=pace.tick,
            ticks=self._ticks(trying, offer, pace),
            expiry=ceil(now + max(left, self._policy.least_lock)) + self._policy.lock_margin,
            may_buy=self._policy.may_buy,
        )

    def _ticks(self, trying: Trial, offer: Offer, pace: Pace) -> int:
        """The most that the request can take, or that one spend can be.

        For the longest prompt that its size class may stand for, since languages differ in how many
        bytes make a token.
        """
        extremes = self.terms().extremes(trying.most_tokens, offer.context)
        most = max(pace.most(prompt, written) for prompt, written in extremes)
        return min(max(1, most), MAX_SESSION.value // pace.tick.value, MAX_TICKS)

    def _is_too_dear(self, trying: Trial, offer: Offer, pace: Pace) -> bool:
        """Whether what is to be set aside is above the cap, or not enough for a short prompt."""
        ticks, shortest = self._ticks(trying, offer, pace), self.terms().least_prompt
        written = min(trying.most_tokens, max(1, offer.context - shortest))
        least = max(1, pace.most(shortest, written))
        return self._policy.max_price < pace.tick * ticks or ticks < least

    def _common(self, offer: Offer) -> tuple[AdnlId, ...]:
        return tuple(mint for mint in self.mints if mint in offer.mints)

    def _choices(self, now: float) -> dict[bytes, Choice]:
        names = market.identities(self._request.model, self._policy.known, self.entries)
        return {identity: self._acceptable(identity, now) for identity in names}

    def _acceptable(self, identity: bytes, now: float) -> Choice:
        return market.acceptable(
            self.entries,
            identity,
            self.terms(),
            self._policy.memory,
            now,
            tried=list(self._drawn),
        )

    def _name(self, entry: Entry, identity: bytes) -> str:
        for known in self._policy.known:
            if known.identity == identity:
                return known.name
        model = market.model_of(entry, identity)
        return model.label if model is not None else ""
