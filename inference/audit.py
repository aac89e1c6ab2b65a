"""Whether an answer came from the model it claims: what a replay says, and what that sums to.

An answer is sampled with a seed that its asker chose (`inference.engine.sample`), so whoever has
the model can compute it again and see, token by token, how far each claimed token is from the one
that model draws (`Engine.score`). Equal tokens accept; unequal ones alone prove nothing, since
builds and devices round differently. Only a mean over many tokens rejects, against limits that were
fixed beforehand. What all this cannot show stands in `docs/audits.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias, final

from inference.engine.base import ChatMessage, Sampling, Scored
from p2p.entropy import Entropy
from p2p.identity import AdnlId

Limits: TypeAlias = tuple[tuple[int, float], ...]
"""(tokens, the largest mean margin of so many or more), fewest tokens first."""

SAMPLED: Final[Limits] = ((64, 0.030), (256, 0.020), (1_024, 0.015))
GREEDY: Final[Limits] = ((64, 0.019), (256, 0.012), (1_024, 0.009))
"""Of the built-in model: above the mean of honest workers with other kernels, caches and builds,
below that of 4-bit weights made more cheaply. `tussah bench audit` holds them against new samples;
another model needs limits of its own."""

GREEDY_BELOW: Final = 500
"""thousandths of temperature: answers below are held against `GREEDY`"""

BAN_TOKENS: Final = 256
"""tokens below which a failure only suspends: one unlucky answer is not a cheat"""

PASS_TOKENS: Final = SAMPLED[-1][0]

LEAST_TOKENS: Final = 64
"""tokens of an answer worth an audit: fewer say nothing"""

WINDOW: Final = 30 * 86_400.0
"""seconds that sums and bans are kept"""

SUSPENSION: Final = 86_400.0
"""seconds in which a suspended worker is not asked"""

CLOSER_LOOKS: Final = 2
"""answers that are audited for certain after a suspension"""

MAX_BOOKED: Final = 1_024
"""workers and models with sums; the one heard of longest ago is forgotten for a new one"""


class Verdict(Enum):
    """What the sums say."""

    OPEN = "open"
    """too few tokens to say anything"""
    PASSED = "passed"
    SUSPECT = "suspect"
    """above a limit, on too few tokens for a ban"""
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Of the answers of one worker and model that were audited."""

    tokens: int = 0
    margin: float = 0.0
    """of all of them together"""

    @property
    def mean(self) -> float:
        """Margin of a token; 0 of none."""
        return self.margin / self.tokens if self.tokens else 0.0

    def __add__(self, margins: Sequence[float]) -> "Sums":
        return Sums(tokens=self.tokens + len(margins), margin=self.margin + sum(margins))


def judge(sums: Sums, limits: Limits) -> Verdict:
    """What the sums say: the limit that counts is the one for the most tokens there are."""
    most = [mean for tokens, mean in limits if sums.tokens >= tokens]
    if not most:
        return Verdict.OPEN
    if sums.mean > most[-1]:
        return Verdict.FAILED if sums.tokens >= BAN_TOKENS else Verdict.SUSPECT
    return Verdict.PASSED if sums.tokens >= PASS_TOKENS else Verdict.OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """An answer that was audited, and how it came out."""

    worker: AdnlId
    model: bytes
    """its identity"""
    sampling: Sampling
    prompt: int
    """tokens of the prompt by the worker's count"""
    replayed: int
    """and by the model's own tokenizer"""
    scored: Scored
    same_numerics: bool = False
    """both engines are of one class, and it promises reproducible numbers"""

    @property
    def exact(self) -> bool:
        """It is the very answer that this model gives: nothing is left to be estimated."""
        return self.same_numerics and not any(self.scored.margins)


@dataclass(slots=True)
class _Page:
    """What is booked of one worker and model."""

    since: float
    sums: dict[str, Sums] = field(default_factory=dict)
    verdict: Verdict = Verdict.OPEN
    suspended_until: float = 0.0
    closer_looks: int = 0


@final
class AuditBook:
    """Sums per worker and model, for 30 days; never a prompt, an answer or a token.

    Limits are those of the model: `AuditBook` is told none of the cheats, only numbers.
    """

    def __init__(self, sampled: Limits = SAMPLED, greedy: Limits = GREEDY) -> None:
        self._limits = {"sampled": sampled, "greedy": greedy}
        self._pages: dict[tuple[AdnlId, bytes], _Page] = {}

    def note(self, now: float, claim: Claim) -> Verdict:
        """Book an audited answer; what is known of its worker then.

        A prompt counted wrongly fails at once: that is arithmetic, and the receipt proves it.
        """
        page = self._page(now, claim)
        if claim.prompt != claim.replayed:
            page.verdict = Verdict.FAILED
        elif page.verdict is not Verdict.FAILED:
            page.verdict = self._weigh(now, page, claim)
        page.closer_looks = max(0, page.closer_looks - 1)
        if page.verdict is Verdict.SUSPECT:
            page.suspended_until, page.closer_looks = now + SUSPENSION, CLOSER_LOOKS
        return page.verdict

    def _weigh(self, now: float, page: _Page, claim: Claim) -> Verdict:
        kind = "greedy" if claim.sampling.temperature < GREEDY_BELOW else "sampled"
        page.sums[kind] = page.sums.get(kind, Sums()) + claim.scored.margins
        verdicts = [judge(sums, self._limits[name]) for name, sums in page.sums.items()]
        for verdict in (Verdict.FAILED, Verdict.SUSPECT):
            if verdict in verdicts:
                return verdict
        return Verdict.PASSED if Verdict.PASSED in verdicts or claim.exact else Verdict.OPEN

    def may_ask(self, now: float, worker: AdnlId) -> bool:
        """Whether this worker is neither banned nor suspended, whatever model it was for."""
        pages = [page for (who, _), page in self._pages.items() if who == worker]
        return not any(
            page.suspended_until > now
            or (page.verdict is Verdict.FAILED and page.since > now - WINDOW)
            for page in pages
        )

    def wants_audit(self, worker: AdnlId, model: bytes) -> bool:
        """Whether the next answer is to be audited for certain: it was suspended before."""
        page = self._pages.get((worker, model))
        return page is not None and page.closer_looks > 0

    def sums(self, worker: AdnlId, model: bytes) -> dict[str, Sums]:
        """By kind of sampling, for people and for the store."""
        page = self._pages.get((worker, model))
        return {} if page is None else dict(page.sums)

    def sizes(self) -> dict[str, int]:
        """The length of the table."""
        return {"pages": len(self._pages)}

    def _page(self, now: float, claim: Claim) -> _Page:
        key = claim.worker, claim.model
        page = self._pages.pop(key, None)
        if page is None or page.since <= now - WINDOW:
            page = _Page(now)
        self._pages[key] = page
        if len(self._pages) > MAX_BOOKED:
            del self._pages[next(iter(self._pages))]
        return page


# --- canaries: requests that look like anybody's, so that a worker cannot tell them ---

_FORMS: Final = (
    "Write a short story about {}.",
    "Explain to a child what {} is.",
    "What should I know about {} before I begin?",
    "Give me three ideas about {} and say which one you would choose.",
    "Summarise the history of {} in a few sentences.",
    "Write a friendly letter about {}.",
    "List the most common mistakes people make with {}, and why.",
    "Describe {} to somebody who has never seen it.",
)

_SUBJECTS: Final = (
    *("a lighthouse", "baking bread", "the tides", "a small garden", "learning the piano"),
    *("a long train journey", "honey bees", "sailing", "an old library", "wild silk"),
    *("a mountain village", "keeping a diary", "the night sky", "moving to a new city"),
    *("repairing a bicycle", "a winter market", "migrating birds", "making cheese", "chess"),
    *("a river delta", "wool", "volcanoes", "a school play", "paper", "clocks"),
)


def canary(entropy: Entropy) -> tuple[ChatMessage, ...]:
    """An ordinary question whose answer is not needed, only audited."""
    form = _FORMS[entropy.below(len(_FORMS))]
    subject = _SUBJECTS[entropy.below(len(_SUBJECTS))]
    return (ChatMessage(role="user", content=form.format(subject)),)
