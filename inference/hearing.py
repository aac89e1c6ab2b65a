"""What a worker says on its stream, message by message: held against what it may say, and paid."""

from typing import TypeAlias

from inference import protocol
from inference.endings import Why
from inference.meter import Spending
from inference.protocol import Billed, Chunk, Pay, Progress, Refusal, Tick
from inference.reading import Reading
from inference.telling import Telling
from inference.trial import Trial
from p2p.errors import RemoteError

Turn: TypeAlias = Billed | Refusal | Why | None
"""What ends the hearing: the receipt, a refusal, or why the asker leaves; None: it goes on."""


def hear(trying: Trial, message: bytes, telling: Telling, now: float) -> Turn:
    """Take a message. Raises `RemoteError` for one that is false or out of turn."""
    reading, spending = trying.reading, trying.spending
    assert reading is not None
    match protocol.read_worker(message):
        case Refusal() as refusal:
            return refusal
        case Pay(body=receipt) if spending is not None and not spending.locked:
            spending.lock(receipt)
        case _ if spending is not None and not spending.locked:
            raise RemoteError("an answer before its payment was locked")
        case Progress() as progress:
            reading.progress(progress)
            if spending is not None and _is_too_dear(trying, spending, progress):
                return Why.PRICE
            telling.read(progress)
        case Chunk() as chunk:
            reading.chunk(chunk)
            telling.piece(now, chunk)
            if spending is not None:
                trying.due = _due(spending, reading)
        case Billed() as billed:
            return billed
        case _:
            raise RemoteError("a message out of turn")
    return None


def pay(trying: Trial) -> Tick | None:
    """The newest tick, if one is due."""
    return trying.spending.reveal(trying.due) if trying.spending is not None else None


def _is_too_dear(trying: Trial, spending: Spending, progress: Progress) -> bool:
    """Owe the next step of the prompt, unless it costs more than was quoted."""
    if spending.too_dear(progress.prompt, progress.cached):
        return True
    trying.due = spending.told(progress.prompt, progress.cached, progress.done)
    return False


def _due(spending: Spending, reading: Reading) -> int:
    """Ticks for what has come: one ahead, unless nothing may follow."""
    return spending.total(reading.count) if reading.full else spending.due(reading.count)
