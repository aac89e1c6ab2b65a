"""One request as a worker keeps it, from its want to its receipt."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from inference import body
from inference.engine import base as engine
from inference.engine.base import Fault, Job, Reason, Sampling
from inference.engine.base import Prompt as EnginePrompt
from inference.meter import Earning, Pace
from inference.pieces import Outbox
from inference.protocol import SETTING_BOUNDS, Prompt, Refusal, Refuse, Setting, Want
from inference.service import Service
from ledger import tariff
from ledger.tariff import Count, Receipt, Stop
from p2p import codec
from p2p.core import Handle
from p2p.identity import AdnlId
from p2p.onion.cell import CircuitId


class State(Enum):
    """Where a stream is; the table at the top."""

    ASKED = "asked"
    QUOTED = "quoted"
    LOCKING = "locking"
    READY = "ready"
    WAITING = "waiting"
    RUNNING = "running"
    CLOSING = "closing"


@dataclass(slots=True)
class Conversation:
    """A conversation. Only its jobs share what the engine has computed, by its random tag."""

    circuit: CircuitId
    tag: bytes
    newest: int = 0
    """stream"""
    orders: "dict[int, Order]" = field(default_factory=dict)
    """by stream"""
    said: int = 0
    """bytes said in this step, which the circuit's room does not know of yet"""


@dataclass(slots=True, eq=False)
class Order:
    """One stream of a circuit: a request from its want to its receipt."""

    token: int
    conversation: Conversation
    stream: int
    unframer: codec.Unframer
    state: State = State.ASKED
    timer: Handle | None = None
    upload_began: float | None = None

    want: Want | None = None
    session: bytes = b""
    pace: Pace | None = None
    """how the offer is paid; None in free mode"""
    spend: bytes = b""
    """what the asker would pay with, until it is locked"""
    question: EnginePrompt | None = None
    """until it is prepared"""
    earning: Earning | None = None
    """what was paid, from the lock on"""
    prompt_hash: bytes = b""
    settings: "Settings | None" = None
    until: float = 0.0
    """when the asker's limit ends"""
    started: int = 0
    """Unix time of the prompt"""
    job: Job | None = None

    read: tuple[int, int] = (0, 0)
    """tokens of the prompt: computed, reused"""
    done: int = 0
    """tokens of the prompt that are in"""
    told: bool = False
    """whether the asker knows how many tokens its prompt has"""
    beat: Handle | None = None
    """when its progress is told again"""
    outbox: Outbox = field(default_factory=Outbox)
    sent: int = 0
    """tokens of the answer that were said"""
    reasoned: int = 0
    """those among them that are reasoning"""
    answer: bytearray = field(default_factory=bytearray)
    """text of the answer that was said"""
    held_since: float | None = None
    look: Handle | None = None
    said_at: float = 0.0
    """when a chunk was last said"""
    looks: int = 0
    """in a row that found no room"""
    owed: Handle | None = None
    """when the wait for a tick ends"""
    ending: engine.Finished | engine.Failed | None = None
    billed: Receipt | None = None
    """the receipt that was said, while its last tick is waited for"""

    @property
    def count(self) -> Count:
        """What was read and said so far."""
        prompt, cached = self.read
        return Count(prompt, cached, self.sent - self.reasoned, self.reasoned)

    @property
    def earned(self) -> int:
        """Ticks that were paid and worked for: by the receipt, else by what is in and was said."""
        if self.earning is None:
            return 0
        if self.billed is not None:
            return self.earning.earned(self.billed.tokens)
        _, cached = self.read
        done = self.count._replace(prompt=max(0, self.done - cached), cached=min(cached, self.done))
        return self.earning.earned(done)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a prompt, checked."""

    max_tokens: int | None
    logprobs: int
    parallel: bool
    """whether several tools may be called"""
    sampling: Sampling


def settings_of(prompt: Prompt, want: Want) -> Settings | Refusal:
    """The settings of a prompt, or which of them is wrong."""
    for key, value in prompt.settings.items():
        least, most = SETTING_BOUNDS.get(key, (1, 0))
        if not least <= value <= most:
            number = key if key in SETTING_BOUNDS else body.Field.UNKNOWN
            return Refusal(Refuse.BAD_REQUEST, int(number))
        if key == Setting.REASONING_EFFORT:
            return Refusal(Refuse.UNSUPPORTED)
    given = prompt.settings
    max_tokens = given.get(Setting.MAX_TOKENS)
    if max_tokens is not None and max_tokens > want.max_tokens:
        return Refusal(Refuse.BAD_REQUEST, int(Setting.MAX_TOKENS))
    return Settings(
        max_tokens=max_tokens,
        logprobs=given.get(Setting.LOGPROBS, 0),
        parallel=bool(given.get(Setting.PARALLEL_TOOLS, 1)),
        sampling=sampling_of(prompt),
    )


def sampling_of(prompt: Prompt) -> Sampling:
    """How its answer's tokens are drawn, bias apart."""
    given = prompt.settings
    return Sampling(
        nonce=prompt.nonce,
        temperature=given.get(Setting.TEMPERATURE, 800),
        top_p=given.get(Setting.TOP_P, 950),
        top_k=given.get(Setting.TOP_K, 40),
        min_p=given.get(Setting.MIN_P, 0),
        frequency=given.get(Setting.FREQUENCY, 0),
        presence=given.get(Setting.PRESENCE, 0),
    )


def receipt_of(
    order: Order, finished: engine.Finished, service: Service, worker: AdnlId, now: float
) -> Receipt:
    """What a worker says of an answer that is complete."""
    usage = finished.usage
    count = Count(usage.prompt, usage.cached, usage.completion, usage.reasoning)
    return Receipt(
        offer=order.session,
        model=service.identity,
        prompt_hash=order.prompt_hash,
        answer_hash=tariff.hash_answer(order.session, bytes(order.answer)),
        tokens=count,
        cost=tariff.cost(count, service.prices),
        ticks=0 if order.pace is None else order.pace.total(count),
        stop=STOPS[finished.reason],
        started=order.started,
        ended=int(now),
        worker=worker,
    )


STOPS: Final[Mapping[Reason, Stop]] = {
    Reason.STOP: Stop.STOP,
    Reason.LENGTH: Stop.LENGTH,
    Reason.TOOL_CALLS: Stop.TOOL_CALLS,
    Reason.CANCELLED: Stop.CANCELLED,
    Reason.DEADLINE: Stop.DEADLINE,
    Reason.UNPAID: Stop.UNPAID,
    Reason.PAUSED: Stop.PAUSED,
}

_FAULTS: Final[Mapping[Fault, Refuse]] = {
    Fault.TOO_LONG: Refuse.TOO_LONG,
    Fault.BUSY: Refuse.BUSY,
    Fault.BAD_REQUEST: Refuse.BAD_REQUEST,
    Fault.BAD_TEMPLATE: Refuse.BAD_TEMPLATE,
    Fault.BAD_GRAMMAR: Refuse.BAD_GRAMMAR,
    Fault.UNSUPPORTED: Refuse.UNSUPPORTED,
    Fault.DEADLINE: Refuse.DEADLINE,
}
"""Faults that have a refusal of their own; the others are ENGINE's."""


def refusal_of(failed: engine.Failed, sent: int = 0) -> Refusal:
    code = _FAULTS.get(failed.fault, Refuse.ENGINE)
    detail = min(max(failed.detail, 0), 2**32 - 1)
    if code is Refuse.ENGINE:
        detail = int(failed.fault)
    elif code is Refuse.DEADLINE:
        detail = sent
    return Refusal(code, detail)
