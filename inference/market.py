"""Which workers a request may go to, and the uniform choice among them.

Nothing about a worker ever raises its share: being cheap, quick or proven only decides whether it
is acceptable at all. Otherwise whoever is cheapest would see all prompts, at the price of one node.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple, TypeVar, final

from inference.protocol import Need
from ledger.money import ZERO, Nano
from ledger.tariff import Prices, quote
from p2p.entropy import Entropy, choice
from p2p.identity import AdnlId
from p2p.overlay.advert import Model, Role
from p2p.overlay.listing import Entry

FEW: Final = 20
"""operators: with fewer, a client is easily told from others, and warned with the number."""

MIN_PIN: Final = 12
"""hex digits of a hash that pin a file; fewer could be met on purpose."""

AUTO: Final = "auto"

MINUTE: Final = 60.0
DAY: Final = 86_400.0

COOL_REFUSED: Final = 10 * MINUTE
COOL_LOST: Final = 60 * MINUTE
COOL_SUSPECTED: Final = DAY
BAN: Final = 30 * DAY
"""seconds without being asked: after a refusal, a loss, an audit that leaves a doubt, and after a
lie or an audit that leaves none (whole operator)."""

MAX_ANSWER: Final = 131_072
"""tokens of an answer whose asker names no limit, whatever a context allows."""

TEMPLATE_TOKENS: Final = 64
"""that a model's template may put round a prompt."""

MAX_REMEMBERED: Final = 4_096
"""workers cooling off and operators banned, each; the oldest is forgotten for a new one."""


class Reason(Enum):
    """Why a listed worker is not acceptable; tested in this order."""

    NOT_LIVE = "not_live"
    SELF = "self"
    MODEL = "model"
    NEEDS = "needs"
    CONTEXT = "context"
    PRICE = "price"
    UNPAYABLE = "unpayable"
    SLOW = "slow"
    ASSURANCE = "assurance"
    UNREACHABLE = "unreachable"
    BUSY = "busy"
    COOLING = "cooling"
    BANNED = "banned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A model that people have a name for: what a catalogue says of it."""

    base: str
    """Its name, such as `smollm2-135m-instruct`."""
    quant: str
    """Its quantisation, such as `q4_1`."""
    file: bytes
    """SHA-256 of the file: what a pinned name pins."""
    identity: bytes
    """What adverts and offers carry: file and chat template together."""
    rank: int = 0
    """`auto` takes the highest that enough workers serve."""

    @property
    def name(self) -> str:
        """The full name, `base@quant:sha256`."""
        return f"{self.base}@{self.quant}:{self.file.hex()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a request demands of a worker."""

    needs: Need = Need.NONE
    size_class: int
    max_tokens: int | None
    """None: whatever the context leaves."""
    max_price: Nano = ZERO
    payable: bool = True
    """Whether there are credits to pay a price with."""
    min_rate: int = 3
    assurance: int = 0
    asker: AdnlId | None = None
    only: AdnlId | None = None
    """The one worker that may be asked."""
    context_above: int = 0
    """A context of this size was too small."""
    upload: int = 0
    """bytes of the request"""

    @property
    def least_prompt(self) -> int:
        """Tokens the prompt has at least: a guess that never shuts out a worker that would do."""
        return (1 << self.size_class) // 4

    @property
    def most_prompt(self) -> int:
        """Tokens the prompt cannot exceed: one for each byte of its class, and the template's."""
        return (3 << self.size_class) + TEMPLATE_TOKENS

    def most_tokens(self, context: int) -> int:
        """Tokens that the answer may have."""
        room = max(1, min(context, MAX_ANSWER) - self.least_prompt)
        return self.max_tokens or room

    def extremes(self, written: int, context: int) -> tuple[tuple[int, int], ...]:
        """Tokens of prompt and answer, one of which costs most, whichever of the two is dearer.

        They share a context, so that the longest of both cannot meet.
        """
        longest, written = min(self.most_prompt, context), min(written, context)
        return (min(longest, context - written), written), (
            longest,
            min(written, context - longest),
        )

    def quoted(self, prices: Prices, context: int) -> Nano:
        """The most that the request may cost at these prices."""
        extremes = self.extremes(self.most_tokens(context), context)
        return max(quote(prompt, written, prices) for prompt, written in extremes)


class Quote(NamedTuple):
    """What a worker asks for, by its advert."""

    most: Nano
    """that the request may cost"""
    prices: Prices


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The acceptable workers by operator group, and how many were not, and why."""

    slots: Mapping[bytes, tuple[Entry, ...]]
    rejected: Mapping[Reason, int]
    cheapest: Quote | None = None
    """of those that are too dear; None: none is"""

    def __len__(self) -> int:
        return len(self.slots)


def draw(acceptable: Choice, entropy: Entropy) -> Entry:
    """An operator, each as likely as the others, then one of its nodes likewise.

    Raises `ValueError` if there is none.
    """
    return choice(entropy, acceptable.slots[choice(entropy, list(acceptable.slots))])


def acceptable(
    entries: Iterable[Entry],
    identity: bytes,
    terms: Terms,
    memory: "Memory",
    now: float,
    *,
    tried: Sequence[AdnlId] = (),
) -> Choice:
    """The workers that may be asked for this model.

    Those that say they are busy, or are cooling off, are taken back when nobody else is left, since
    in a small network each would soon be; those banned, or tried already for this request, are not.
    """
    slots: dict[bytes, tuple[Entry, ...]] = {}
    cooling: dict[bytes, tuple[Entry, ...]] = {}
    rejected: dict[Reason, int] = {}
    dear: list[Quote] = []
    for entry in entries:
        if entry.id in tried:
            continue
        reason = _reason(entry, identity, terms, memory, now)
        if reason is not None:
            rejected[reason] = rejected.get(reason, 0) + 1
        if reason is Reason.PRICE:
            dear.append(_quote(entry, identity, terms))
        if reason in (None, Reason.BUSY, Reason.COOLING):
            into = slots if reason is None else cooling
            into[entry.group] = (*into.get(entry.group, ()), entry)
    return Choice(slots=slots or cooling, rejected=rejected, cheapest=min(dear, default=None))


def model_of(entry: Entry, identity: bytes) -> Model | None:
    """What a worker says of a model."""
    return next((model for model in entry.advert.models if model.identity == identity), None)


def prices_of(model: Model) -> Prices:
    """The advertised prices as classes: cached at most as prompt, reasoning as completion."""
    prompt, completion = model.prices
    return Prices(prompt=prompt, cached=prompt, completion=completion, reasoning=completion)


def _quote(entry: Entry, identity: bytes, terms: Terms) -> Quote:
    model = model_of(entry, identity)
    assert model is not None
    prices = prices_of(model)
    return Quote(terms.quoted(prices, model.context), prices)


def _reason(
    entry: Entry, identity: bytes, terms: Terms, memory: "Memory", now: float
) -> Reason | None:
    if not entry.live or Role.WORKER not in entry.advert.roles:
        return Reason.NOT_LIVE
    if entry.id == terms.asker:
        return Reason.SELF
    model = model_of(entry, identity)
    if model is None or (terms.only is not None and entry.id != terms.only):
        return Reason.MODEL
    unfit = _unfit(model, terms)
    if unfit is not None:
        return unfit
    if terms.upload > entry.advert.request_cap:
        return Reason.CONTEXT
    if not entry.advert.onion or not (entry.advert.addresses or entry.advert.attachments):
        return Reason.UNREACHABLE
    return memory.excludes(now, entry.id, entry.group) or (None if entry.open else Reason.BUSY)


def _unfit(model: Model, terms: Terms) -> Reason | None:
    if terms.needs and terms.needs & ~Need.EVIDENCE & ~model.flags:
        return Reason.NEEDS
    if terms.least_prompt + (terms.max_tokens or 1) > model.context:
        return Reason.CONTEXT
    if model.context <= terms.context_above:
        return Reason.CONTEXT
    if any(model.prices):  # most are free, and a quote is the dearest part of this
        if terms.max_price < terms.quoted(prices_of(model), model.context):
            return Reason.PRICE
        if not terms.payable:
            return Reason.UNPAYABLE
    if model.answer_rate < terms.min_rate:
        return Reason.SLOW
    if model.assurance < terms.assurance:
        return Reason.ASSURANCE
    return None


# --- names of models ---


def identities(name: str, known: Sequence[Known], listed: Iterable[Entry]) -> tuple[bytes, ...]:
    """The models that a name stands for, the best ranked first; none if nobody knows it.

    `auto` stands for the whole catalogue, and for whatever is listed if there is no catalogue. A
    full hash may also be that of a model outside the catalogue: its identity.
    """
    if name == AUTO:
        ranked = sorted(known, key=lambda item: (-item.rank, item.name))
        offered = [model.identity for entry in listed for model in entry.advert.models]
        return _distinct([item.identity for item in ranked] or offered)
    label, pin = _split(name)
    named = [item for item in known if _means(item, label, pin)]
    if not named and len(pin) == 64 and all(item.file.hex() != pin for item in known):
        return (bytes.fromhex(pin),)
    return _distinct(item.identity for item in sorted(named, key=lambda item: item.name))


def pick_model(choices: Mapping[bytes, Choice]) -> bytes | None:
    """The first model that `FEW` operators serve, else the one that most do; None if none does."""
    for identity, among in choices.items():
        if len(among) >= FEW:
            return identity
    best = max(choices, key=lambda identity: len(choices[identity]), default=None)
    return best if best is not None and len(choices[best]) else None


def _split(name: str) -> tuple[str, str]:
    """Label and pinned digits; a pin that is too short or no hex matches nothing."""
    label, colon, pin = name.rpartition(":")
    if not colon:
        return name, ""
    digits = pin.lower()
    if not MIN_PIN <= len(digits) <= 64 or digits.strip("0123456789abcdef"):
        digits = "-"
    return label.removesuffix("@sha256"), digits


def _means(item: Known, label: str, pin: str) -> bool:
    labels = (item.base, f"{item.base}-{item.quant}", f"{item.base}@{item.quant}", AUTO)
    return label in labels and item.file.hex().startswith(pin)


def _distinct(items: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(items))


# --- memory ---

K = TypeVar("K", bound=bytes)


@final
class Memory:
    """Whom this node does not ask again for a while; one per node, shared by all its asks.

    `banned` are the bans that an earlier process left.
    """

    def __init__(self, banned: Mapping[bytes, float] | None = None) -> None:
        self._cooling: dict[AdnlId, float] = {}
        self._banned: dict[bytes, float] = {}
        for group, until in (banned or {}).items():
            _remember(self._banned, group, until)

    def bans(self) -> dict[bytes, float]:
        """Until when which operators are not asked."""
        return dict(self._banned)

    def refused(self, now: float, worker: AdnlId) -> None:
        """A worker said no: it may be busy still."""
        _remember(self._cooling, worker, now + COOL_REFUSED)

    def lost(self, now: float, worker: AdnlId) -> None:
        """A worker fell silent or went away."""
        _remember(self._cooling, worker, now + COOL_LOST)

    def suspected(self, now: float, worker: AdnlId) -> None:
        """An audit found its answers odd, on too few tokens for a ban."""
        _remember(self._cooling, worker, now + COOL_SUSPECTED)

    def lied(self, now: float, group: bytes) -> None:
        """A worker signed something false or broke the protocol: its operator is banned."""
        _remember(self._banned, group, now + BAN)

    def excludes(self, now: float, worker: AdnlId, group: bytes) -> Reason | None:
        """Whether a worker is not to be asked now, and why."""
        if self._banned.get(group, now) > now:
            return Reason.BANNED
        if self._cooling.get(worker, now) > now:
            return Reason.COOLING
        return None

    def sizes(self) -> dict[str, int]:
        """The length of both tables."""
        return {"cooling": len(self._cooling), "banned": len(self._banned)}


def _remember(table: dict[K, float], key: K, until: float) -> None:
    table[key] = max(until, table.pop(key, until))
    if len(table) > MAX_REMEMBERED:
        del table[next(iter(table))]
