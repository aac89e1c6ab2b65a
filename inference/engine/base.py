"""The engine seam: what every engine takes and gives, and what it never says by an exception.

An engine turns a prompt into tokens (`prepare`) and a job into a stream of events (`generate`).
What a peer, a file or a machine can cause is a value, `Failed`; only a bug of ours raises. Two
implementations stand behind it: `inference.engine.host` (llama.cpp in a child process) and
`inference.engine.fake` (a seeded twin without a model). One test suite runs on both.
"""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Final, Protocol, Self, TypeAlias

Tokens: TypeAlias = tuple[int, ...]
"""Token ids of one model's vocabulary."""

MAX_STOPS: Final = 4
"""stop strings of a job, as in the API that clients know."""

MAX_STOP: Final = 256
"""bytes of one stop string: text is held back while it may still become one."""

MAX_LOGPROBS: Final = 20
"""alternatives reported per token."""

NONCE_SIZE: Final = 16
"""bytes of the nonce that seeds an answer's sampling."""

MAX_SCORES: Final = 4
"""claimed answers that may wait to be scored; more are refused as BUSY"""

KV_TYPES: Final = ("f16", "q8_0")
"""types a cache may have"""

STRICT_ROWS: Final = 48
"""rows of a kernel call that keep one answer's numbers apart from how many are computed beside it:
from 64 rows of one sequence on, another kernel computes attention"""

MILLE: Final = 1_000
"""Settings are integers in thousandths: the same numbers on both sides of a wire."""


class Channel(IntEnum):
    """Where text of an answer belongs."""

    CONTENT = 0
    REASONING = 1
    TOOL_CALL = 2


class ToolStyle(Enum):
    """How a family of models writes that it calls a tool."""

    TAGGED = "tagged"
    """JSON between <tool_call> and </tool_call>, anywhere in the answer"""
    LISTED = "listed"
    """a JSON list to the end, [TOOL_CALLS] in front of it"""
    WHOLE = "whole"
    """the whole answer is one JSON object"""


THOUGHTS: Final = {
    "think": ("<think>", "</think>"),
    "seed": ("<seed:think>", "</seed:think>"),
    "bracket": ("[THINK]", "[/THINK]"),
}
"""The marks that families of models put around what they think before they answer."""


class Reason(Enum):
    """Why an answer ended. `CANCELLED`, `UNPAID` and `PAUSED` are said by a worker, not by an
    engine: a cancelled job has no further events."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    UNPAID = "unpaid"
    PAUSED = "paused"


class Fault(IntEnum):
    """Why there is no answer; the number travels in refusals."""

    NO_MODEL = 0
    TOO_LONG = 1
    BUSY = 2
    BAD_REQUEST = 3
    BAD_TEMPLATE = 4
    BAD_GRAMMAR = 5
    UNSUPPORTED = 6
    OUT_OF_MEMORY = 7
    DECODE = 8
    DIED = 9
    DEADLINE = 10
    UPSTREAM = 11


class EngineState(Enum):
    """What an engine is doing."""

    EMPTY = "empty"
    LOADING = "loading"
    READY = "ready"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one job in four disjoint classes; the token that ends the answer is counted."""

    prompt: int = 0
    """tokens of the prompt that were computed"""
    cached: int = 0
    """tokens of the prompt that were still there from an earlier job of the same tag"""
    completion: int = 0
    """tokens of the answer that are not reasoning"""
    reasoning: int = 0
    """tokens of the answer between reasoning tags, the tags included"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How each next token is chosen; `inference.engine.sample` says exactly how."""

    nonce: bytes
    """16 bytes: the asker's, so that nobody else chooses the answer"""
    temperature: int = 800
    """thousandths; 0 takes the most likely token"""
    top_p: int = 950
    """thousandths"""
    top_k: int = 40
    """candidates; 0 means 1,000, which is also the most"""
    min_p: int = 0
    """thousandths of the most likely token's probability"""
    frequency: int = 0
    """thousandths subtracted from a logit per earlier occurrence"""
    presence: int = 0
    """thousandths subtracted from a logit that has occurred"""
    bias: tuple[tuple[int, int], ...] = ()
    """(token, thousandths added to its logit)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to load a model on this machine."""

    context: int = 4_096
    """tokens of one prompt and its answer together"""
    slots: int = 1
    """answers at once, each with a context of its own"""
    batch: int = 512
    """tokens computed in one step at most: bounds how long a cancel waits on a GPU"""
    ubatch: int = 512
    """tokens computed in one kernel call"""
    threads: int = 0
    """0: the engine picks"""
    gpu_layers: int = 0
    """layers computed on a GPU"""
    kv_type: str = "f16"
    """type of the cache: one of `KV_TYPES`"""
    flash_attention: bool = True
    reproducible: bool = True
    """On a CPU: an answer's numbers do not depend on what is computed beside it, at the price of
    a seventh of the speed of many answers. See `strict`."""

    def __post_init__(self) -> None:
        if min(self.context, self.slots, self.batch, self.ubatch) < 1 or self.threads < 0:
            raise ValueError("a plan of nothing")
        if self.kv_type not in KV_TYPES:
            raise ValueError(f"no cache type {self.kv_type!r}")

    @property
    def strict(self) -> bool:
        """Whether slots have caches of their own and kernel calls `STRICT_ROWS` rows at most: then
        an answer is the same, bit for bit, alone and beside others. No GPU promises that."""
        return self.reproducible and not self.gpu_layers


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model is ready."""

    numerics: bytes
    """8 bytes: engines of one class may be expected to compute equal numbers"""
    context: int
    slots: int
    prompt_rate: float
    """tokens/s, measured at load, alone"""
    answer_rate: float
    """tokens/s, measured at load, alone"""
    seconds: float
    grammars: bool = False
    """whether answers can be held to a grammar, and so to a schema or a forced call"""
    tools: bool = False
    logprobs: bool = True
    embeds: bool = False
    reproducible: bool = False
    """the same job gives the same tokens on every engine of this numerics class"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A tool that was called in an earlier answer."""

    id: str
    name: str
    arguments: str
    """JSON of an object"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One message of a conversation."""

    role: str
    content: str
    calls: tuple[Call, ...] = ()
    """of an assistant: the tools it called"""
    call: str = ""
    """of a tool: the id of the call that this is the result of"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """Something that a model may call instead of, or before, an answer."""

    name: str
    description: str
    parameters: str
    """JSON schema of its arguments"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """How a model's text is to be taken apart: see `inference.engine.split`."""

    thought: str = ""
    """a key of `THOUGHTS`; empty: it does not show what it thinks"""
    opened: bool = False
    """the prompt ends within a thought"""
    style: ToolStyle | None = None
    """None: no tools"""
    tools: tuple[str, ...] = ()
    """names that it may call"""
    parallel: bool = True
    """whether it may call several"""

    @property
    def marks(self) -> tuple[str, str]:
        """Around a thought."""
        return THOUGHTS[self.thought or "think"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What an asker sent: a conversation for the template, or plain text to continue."""

    messages: tuple[ChatMessage, ...] = ()
    text: str | None = None
    """set: continued as it stands, no template"""
    stop: tuple[str, ...] = ()
    date: int | None = None
    """days since 1970 as the asker says; templates see this date or none"""
    schema: str = ""
    """JSON schema that the answer is to be an instance of; empty: any text"""
    tools: tuple[Tool, ...] = ()
    forced: tuple[str, ...] = ()
    """names of tools, one of which must be called; none: the model decides"""
    parallel: bool = True
    """whether several tools may be called in one answer"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A prompt as a job needs it."""

    tokens: Tokens
    stop: tuple[bytes, ...] = ()
    grammar: str | None = None
    """GBNF; what it does not allow is not drawn"""
    voice: Voice = Voice()


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One answer to be made. `id` is unique per engine; a `tag` names a conversation, and only
    jobs of one tag may share computed prefixes."""

    id: int
    tag: bytes
    tokens: Tokens
    max_tokens: int
    sampling: Sampling
    stop: tuple[bytes, ...] = ()
    logprobs: int = 0
    """alternatives per token in `Piece.top`; above 0, `Piece.logprobs` is filled too"""
    grammar: str | None = None
    """holds from the end of a thought on, if the answer begins with one"""
    voice: Voice = Voice()
    deadline_s: float = 300.0
    """seconds from `generate`, waiting included"""

    def __post_init__(self) -> None:
        if not self.tokens or self.max_tokens < 1:
            raise ValueError("a job needs a token to begin with and one to answer")
        if len(self.stop) > MAX_STOPS or not all(0 < len(stop) <= MAX_STOP for stop in self.stop):
            raise ValueError("too many stop strings, or one of a wrong length")
        if not 0 <= self.logprobs <= MAX_LOGPROBS or len(self.sampling.nonce) != NONCE_SIZE:
            raise ValueError("too many logprobs, or a nonce of a wrong length")


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """The job has a slot: so many tokens of its prompt are computed anew, so many reused."""

    prompt: int
    cached: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefilled:
    """So many tokens of the prompt are in, the reused ones included."""

    done: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """The next tokens of the answer and the text that became certain with them.

    `text` may be empty: bytes are held until they end a character and cannot begin a stop string.
    """

    first: int
    """index of `ids[0]` in the answer"""
    ids: Tokens
    text: str
    channel: Channel = Channel.CONTENT
    logprobs: tuple[float, ...] = ()
    """natural logarithms, one per id, before temperature; empty unless asked for"""
    top: tuple[tuple[tuple[int, float], ...], ...] = ()
    """per id the most likely (token, logprob), best first"""
    texts: tuple[tuple[bytes, ...], ...] = ()
    """per id its own bytes, then those of each in `top`: who asks has no vocabulary"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The answer is complete; no event follows."""

    reason: Reason
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """There is no answer, or no more of it; no event follows.

    `detail` with `TOO_LONG` is the largest possible number of tokens.
    """

    fault: Fault
    detail: int = 0


JobEvent: TypeAlias = Begun | Prefilled | Piece | Finished | Failed
"""What a generation yields, in the order `Begun Prefilled* Piece* (Finished | Failed)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """An answer that somebody claims, to be held against this model token by token."""

    tokens: Tokens
    """of the prompt"""
    answer: Tokens
    sampling: Sampling
    grammar: str | None = None
    free: int = 0
    """tokens of the answer before the grammar begins to hold"""

    def __post_init__(self) -> None:
        if not self.tokens or not self.answer or len(self.sampling.nonce) != NONCE_SIZE:
            raise ValueError("nothing to score, or a nonce of a wrong length")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """For each token of the answer how far it is from the one this model draws: see
    `inference.engine.sample.margin`."""

    margins: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatistics:
    """A snapshot: counts since start, and what is there now."""

    state: EngineState
    numerics: bytes = b""
    slots: int = 0
    busy: int = 0
    waiting: int = 0
    steps: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_reused: int = 0
    cancels: int = 0
    deaths: int = 0
    faults: dict[Fault, int] = field(default_factory=dict)


class Generation(Protocol):
    """The events of one job; ends after `Finished` or `Failed`.

    The consumer never holds the engine up: pieces it has not taken are merged into one.
    """

    def __aiter__(self) -> Self:
        """Itself."""

    async def __anext__(self) -> JobEvent:
        """The next event; waits for it."""

    def pause(self) -> None:
        """Compute nothing for this job until `resume`; its deadline goes on."""

    def resume(self) -> None:
        """Go on."""


class Engine(Protocol):
    """A model on this machine, or something that behaves like one."""

    async def load(self, plan: Plan) -> Loaded | Failed:
        """Load the model; jobs before this get `Failed(NO_MODEL)`. Again: loads anew."""

    async def prepare(self, prompt: Prompt) -> Prepared | Failed:
        """Render the model's chat template and tokenise."""

    def generate(self, job: Job) -> AbstractAsyncContextManager[Generation]:
        """Queue a job. Leaving the context cancels it without waiting: its slot is free within
        one step of the model, in prefill too, and no event follows."""

    async def score(self, task: Score) -> Scored | Failed:
        """Compute a claimed answer again, a little at a time between the jobs' steps."""

    async def unload(self) -> None:
        """Free the model; jobs end with `Failed(NO_MODEL)`."""

    def statistics(self) -> EngineStatistics:
        """A snapshot."""
