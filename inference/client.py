"""The asker: one question through one worker at a time, and always an end to it."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from inference.engine.base import ChatMessage, Tokens, Usage
from inference.market import Known, Memory
from ledger.money import ZERO, Nano
from p2p.entropy import Entropy, SystemEntropy
from p2p.identity import AdnlId
from p2p.node import Node

Code: TypeAlias = Literal[
    "invalid_request",
    "context_length_exceeded",
    "request_too_large",
    "model_not_found",
    "price_above_cap",
    "joining_network",
    "no_path",
    "no_worker",
    "busy",
    "all_refused",
    "worker_lost",
    "circuit_lost",
    "deadline",
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
    model: str = "auto"
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
    entropy: Entropy = field(default_factory=SystemEntropy)


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
    """The worker's signed terms were accepted; the prompt leaves now."""

    worker: AdnlId
    ahead: int
    """Requests before this one in the worker's queue."""
    wait_s: float
    """The worker's guess of the time until it begins."""
    prices: tuple[int, int, int, int]
    """nano per million tokens: prompt, cached, completion, reasoning."""
    quoted: Nano
    """The most that the whole request may cost by the offer."""
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
    ids: Tokens
    """All tokens of the answer: with prompt, settings and `nonce` they can be computed again."""
    nonce: bytes
    date: int
    finish: Finish
    usage: Usage
    cost: Nano
    prices: tuple[int, int, int, int]
    quoted: Nano
    receipt: bytes
    """Signed by the worker; see `ledger/tariff.py`."""
    numerics: bytes
    timing: Timing
    refusals: tuple[Refused, ...]
    slots: int


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
    timing: Timing = Timing()
    refusals: tuple[Refused, ...] = ()


AskEvent: TypeAlias = Chosen | Offered | Progress | Piece | Done | AskFailed


class Answer(Protocol):
    """The events of one ask, ending after `Done` or `AskFailed`."""

    def __aiter__(self) -> AsyncIterator[AskEvent]:
        """Itself."""

    async def __anext__(self) -> AskEvent:
        """The next event; waits for it."""


def ask(request: AskRequest, node: Node, policy: Policy) -> AbstractAsyncContextManager[Answer]:
    """Ask, and read the answer as it is made.

    `async with ask(request, node, policy) as answer: async for event in answer: ...`

    Exactly one `Done` or `AskFailed` comes last, inside `policy.deadline_s`; `Chosen` and `Offered`
    come again if another worker is tried. Leaving the block cancels: the worker stops within a
    step. Nothing a peer does raises. Raises `ValueError` for a request that is none (no messages,
    a setting out of its bounds).
    """
    raise NotImplementedError
