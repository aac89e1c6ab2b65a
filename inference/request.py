"""What is asked, how, and what comes back: the values of one ask."""

from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Literal, TypeAlias

from inference import body, protocol
from inference.engine.base import NONCE_SIZE, Call, ChatMessage, Tokens, Tool, Usage
from inference.engine.base import Prompt as EnginePrompt
from inference.market import AUTO, Known, Memory
from inference.protocol import Need, Prompt, Refusal, Setting
from ledger.money import ZERO, Nano
from ledger.payment import Bought, Opening, Purchase, Purse
from ledger.policy import MAIN
from ledger.tariff import Prices
from p2p.defaults import ANSWER_RATES
from p2p.entropy import Entropy, SystemEntropy
from p2p.identity import AdnlId
from p2p.onion.shaping import Shape, Shaping

Code: TypeAlias = Literal[
    "invalid_request",
    "context_length_exceeded",
    "request_too_large",
    "model_not_found",
    "price_above_cap",
    "no_credits",
    "not_agreed",
    "mint_unreachable",
    "chain_unreachable",
    "joining_network",
    "no_path",
    "no_worker",
    "busy",
    "all_refused",
    "worker_lost",
    "circuit_lost",
    "deadline",
    "cancelled",
    "internal",
]
"""Why there is no whole answer; stable words, for programs."""

Finish: TypeAlias = Literal["stop", "length", "tool_calls", "price_cap", "deadline", "worker_lost"]
"""Why a whole answer ended. The last two are the worker's own word, with a valid receipt: it ran
out of the time it was given, or it was paused by its owner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskRequest:
    """What is asked; nothing here names the asker, and all of it but `model` goes to the worker.

    Settings are integers in thousandths; those left alone are sent with their defaults, so that
    nobody's stand out.
    """

    messages: tuple[ChatMessage, ...] = ()
    text: str | None = None
    """Set instead of `messages`: continued as it stands, no chat template."""
    model: str = AUTO
    """`auto`, `base`, `base@quant`, any of them `:hex` of the file's hash, or `name@sha256:hex`."""
    max_tokens: int | None = None
    """None: as many as the model's context leaves."""
    temperature: int = 800
    top_p: int = 950
    top_k: int = 40
    min_p: int = 0
    frequency: int = 0
    presence: int = 0
    bias: tuple[tuple[int, int], ...] = ()
    """(token, thousandths added to its logit)"""
    stop: tuple[str, ...] = ()
    logprobs: int = 0
    """Alternatives told per token, with the token's own; 0: nothing of either."""
    schema: str = ""
    """JSON schema that the answer is to be an instance of; empty: any text."""
    tools: tuple[Tool, ...] = ()
    """What the model may call."""
    forced: tuple[str, ...] = ()
    """Names of tools, one of which must be called; none: the model decides."""
    parallel: bool = True
    """Whether several may be called in one answer."""
    seed: int | None = None
    """Fixes the nonce, as OpenAI's `seed` should."""
    nonce: bytes | None = None
    """16 bytes that fix which tokens are drawn; None: from `seed`, else random."""
    date: int | None = None
    """Days since 1970 shown to chat templates that ask for the date; None: today, in UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How to ask; stays on this machine."""

    known: tuple[Known, ...] = ()
    """The catalogue: which names stand for which models."""
    memory: Memory = field(default_factory=Memory)
    """Shared by all asks of a node, so that a bad worker is not drawn again."""
    relays: int = 3
    shaping: Shaping = Shaping.PADDED
    """How little the traffic says of the texts."""
    swift: bool = False
    """A shaped answer at the higher rate: first words sooner, more bytes."""
    deadline_s: float = 300.0
    """The ask has ended by then, always."""
    max_price: Nano = ZERO
    """For the whole request, all classes."""
    min_rate: int = 3
    """tokens/s of the answer; slower workers are not asked."""
    assurance: int = 0
    """0 none, 1 audited, 2 TEE."""
    worker: AdnlId | None = None
    """Ask this worker only: the choice is no longer uniform."""
    purse: Purse | None = None
    """What pays; None: only who asks nothing is asked."""
    may_buy: bool = True
    """Whether it may buy credits where it has too few."""
    least_lock: int = MAIN.least_lock
    """seconds: no mint locks coins for less"""
    lock_margin: int = MAIN.lock_margin
    """seconds that coins stay locked beyond the ask's own limit"""
    entropy: Entropy = field(default_factory=SystemEntropy)

    @property
    def rate(self) -> int:
        """Cells/s of the answer; 0: as they are ready."""
        if self.shaping is Shaping.OFF:
            return 0
        calm, swift = ANSWER_RATES
        return swift if self.swift else calm


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A worker that was drawn and gave no answer; `reason` is a stable word."""

    worker: AdnlId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A worker was drawn, and its circuit is being built."""

    worker: AdnlId
    identity: bytes
    """Of the model asked for."""
    model: str
    """Its name in the catalogue, else the worker's label for it; may be empty."""
    slots: int
    """How many operators the draw was among: the smaller, the less it hides."""
    path: tuple[AdnlId, ...]
    """The relays, then the worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """The worker's signed terms were accepted, coins are set aside; the prompt leaves now."""

    worker: AdnlId
    ahead: int
    """Requests before this one in the worker's queue."""
    wait_s: float
    """The worker's guess of the time until it begins."""
    prices: Prices
    quoted: Nano
    """The most that may be paid for it: what is set aside, in whole ticks of the offer."""
    numerics: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The worker reads the prompt: `done` of its tokens are in."""

    prompt: int
    cached: int
    done: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """The next tokens of the answer and the text that became certain with them."""

    first: int
    ids: Tokens
    text: str
    channel: int
    """0 content, 1 reasoning, 2 tool call."""
    logprobs: tuple[int, ...] | None = None
    """Per token round(-1000 ln p); None unless asked for."""
    top: tuple[tuple[tuple[int, int], ...], ...] | None = None
    """Per token the likeliest (token, as above), best first."""
    texts: tuple[tuple[bytes, ...], ...] | None = None
    """Per token its bytes, and those of each of these; long ones are cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Milliseconds since the ask began, None if it did not come so far."""

    circuit: int | None = None
    """The worker's offer came back through the circuit (one round trip builds and asks)."""
    offer: int | None = None
    """It was checked and accepted."""
    first_token: int | None = None
    total: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The whole answer, with the worker's receipt checked. The last event."""

    worker: AdnlId
    identity: bytes
    model: str
    path: tuple[AdnlId, ...]
    text: str
    """Channel 0 alone."""
    reasoning: str
    calls: tuple[Call, ...] = ()
    """Tools that the model calls, in order."""
    ids: Tokens
    """All tokens of the answer: with prompt, settings and `nonce` they can be computed again."""
    nonce: bytes
    date: int
    finish: Finish
    usage: Usage
    cost: Nano
    """By the receipt."""
    paid: Nano = ZERO
    """What the worker has for it: the cost in whole ticks, by its receipt."""
    prices: Prices
    quoted: Nano
    """What was set aside; what is above `paid` comes back."""
    receipt: bytes
    """Signed by the worker; see `ledger/tariff.py`."""
    numerics: bytes
    timing: Timing
    refusals: tuple[Refused, ...]
    slots: int
    resumed: int = 0
    """Circuits that died in mid-answer and were replaced."""
    shape: Shape | None = None
    """What of it shows on the links, the end of the bucket included that still goes on; None if it
    was not shaped. The tick that pays the end may yet take the next bucket."""
    prompt: Prompt | None = None
    """What the worker was sent: whoever has its model can hold the answer against it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskFailed:
    """There is no whole answer. The last event, instead of `Done`."""

    code: Code
    message: str
    """What happened and why, a sentence."""
    advice: str
    """What to do."""
    text: str = ""
    """What had come of the answer."""
    worker: AdnlId | None = None
    """Who was being asked at the end."""
    paid: Nano = ZERO
    """What workers can have for it, all that were tried: ticks that were revealed."""
    quoted: Nano = ZERO
    """What was set aside for them; what is above `paid` comes back."""
    timing: Timing = Timing()
    refusals: tuple[Refused, ...] = ()


AskEvent: TypeAlias = (
    Chosen | Offered | Purchase | Opening | Bought | Progress | Piece | Done | AskFailed
)


# --- what of it goes to the worker ---


def body_of(request: AskRequest) -> bytes:
    """The body of the prompt. Raises `ValueError` for one that every worker would refuse."""
    if bool(request.messages) == (request.text is not None):
        raise ValueError("a request has either messages or text")
    prompt = EnginePrompt(
        messages=request.messages,
        text=request.text,
        stop=request.stop,
        schema=request.schema,
        tools=request.tools,
        forced=request.forced,
    )
    written = body.write(body.Question(prompt=prompt, bias=request.bias))
    refusal = body.read(written, body.work_of(prompt))
    if isinstance(refusal, Refusal):
        raise ValueError(f"no worker would take this request: {body.Field(refusal.detail).name}")
    for key, value in settings_of(request).items():
        least, most = protocol.SETTING_BOUNDS[key]
        if not least <= value <= most:
            raise ValueError(f"{Setting(key).name} is {value}, not within {least} and {most}")
    if request.nonce is not None and len(request.nonce) != NONCE_SIZE:
        raise ValueError("a nonce is 16 bytes")
    if request.seed is not None and not -(2**63) <= request.seed < 2**63:
        raise ValueError("a seed is a whole number of 64 bits")
    return written


def needs_of(request: AskRequest) -> Need:
    """What a worker must be able to do for it."""
    needs = {
        Need.LOGPROBS: bool(request.logprobs),
        Need.GRAMMAR: bool(request.schema or request.forced),
        Need.TOOLS: bool(request.tools),
    }
    return reduce(or_, (need for need, is_needed in needs.items() if is_needed), Need.NONE)


def settings_of(request: AskRequest) -> dict[int, int]:
    """All of them, defaults filled in, so that nobody's stand out; but none for "as many"."""
    settings = {
        int(Setting.TEMPERATURE): request.temperature,
        int(Setting.TOP_P): request.top_p,
        int(Setting.TOP_K): request.top_k,
        int(Setting.MIN_P): request.min_p,
        int(Setting.FREQUENCY): request.frequency,
        int(Setting.PRESENCE): request.presence,
        int(Setting.LOGPROBS): request.logprobs,
    }
    if not request.parallel:
        settings[int(Setting.PARALLEL_TOOLS)] = 0
    if request.max_tokens is not None:
        settings[int(Setting.MAX_TOKENS)] = request.max_tokens
    return settings


def nonce_of(request: AskRequest, policy: Policy) -> bytes:
    """What fixes the tokens drawn: as the request says, else random."""
    if request.nonce is not None:
        return request.nonce
    if request.seed is not None:
        return protocol.nonce_of_seed(request.seed)
    return policy.entropy.token(16)
