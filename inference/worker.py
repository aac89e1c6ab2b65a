"""The worker: quotes, takes prompts, runs the engine, streams answers; knows no askers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import trio

from inference.engine.base import Engine
from p2p.node import Node
from p2p.overlay.advert import Model

if TYPE_CHECKING:
    from trio_typing import TaskStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The one model a worker serves, and its terms."""

    identity: bytes
    """32 bytes: `inference.gguf.identity`."""
    numerics: bytes
    """8 bytes, as the engine said when it loaded."""
    context: int
    slots: int
    """Answers at once; twice as many may wait."""
    prompt_rate: float
    answer_rate: float
    """tokens/s, one stream, as the engine measured at load."""
    quant: int = 0
    """GGUF file type."""
    flags: int = 0
    """1 tools, 2 grammar, 4 vision, 8 embeddings, 16 logprobs, 32 reproducible."""
    prices: tuple[int, int, int, int] = (0, 0, 0, 0)
    """nano per million tokens: prompt, cached, completion, reasoning; all 0 is `free` mode, the
    only one so far."""
    assurance: int = 0
    label: str = ""
    """At most 32 bytes for the advert."""

    def listing(self) -> Model:
        """How the advert names this service: `Fields(models=(service.listing(),), ...)`."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatistics:
    """A snapshot: what is there now, and counts since the start."""

    paused: bool
    draining: bool
    quoted: int
    """offers whose prompt has not come yet"""
    waiting: int
    running: int
    answered: int
    """answers that ended with a receipt"""
    tokens: int
    """tokens of answers"""
    refusals: dict[str, int]
    """by reason"""
    misbehaved: int
    """streams ended because the other side broke the protocol"""


@final
class Serving:
    """A running service; `serve` hands it out when it takes requests."""

    def statistics(self) -> WorkerStatistics:
        """A snapshot."""
        raise NotImplementedError

    def pause(self) -> None:
        """No new offers; running jobs finish."""
        raise NotImplementedError

    def resume(self) -> None:
        """Offer again."""
        raise NotImplementedError

    async def drain(self) -> None:
        """Pause, and wait until nothing runs or waits; the deadline is the caller's."""
        raise NotImplementedError


async def serve(
    node: Node,
    engine: Engine,
    service: Service,
    *,
    task_status: "TaskStatus[Serving]" = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer the circuits that end at this node until cancelled: `await nursery.start(serve, ...)`.

    The engine is loaded already, and the caller publishes the advert (roles with `WORKER`, models
    with `service.listing()`) once this has started. A dead engine is answered with refusals.
    """
    raise NotImplementedError
