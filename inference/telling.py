"""What the caller of an ask is told: events as they come, one of them last, with times."""

from collections.abc import Callable
from dataclasses import replace
from typing import final

from inference import endings
from inference.endings import Ending, Why
from inference.engine.base import Usage
from inference.protocol import Chunk, Progress
from inference.request import AskEvent, AskFailed, Done, Piece, Refused, Timing
from inference.request import Progress as Read
from inference.trial import Trial
from ledger.money import ZERO
from ledger.tariff import Receipt


@final
class Telling:
    """The events of one ask, put into `out` among the core's effects. Times count from `began`."""

    def __init__(self, out: Callable[[AskEvent], None]) -> None:
        self.began = 0.0
        self._tell = out
        self.whys: list[Why] = []
        """Why workers gave no answer, in the order they were asked."""
        self._refused: list[Refused] = []
        self._paid = self._quoted = ZERO
        self._timing = Timing()

    def circuit(self, now: float) -> None:
        """A worker's reply has come."""
        self._mark(circuit=self._elapsed(now))

    def offer(self, now: float) -> None:
        """Its offer is accepted."""
        self._mark(offer=self._elapsed(now))

    def offered(self, trying: Trial) -> None:
        """The prompt leaves."""
        assert trying.offer is not None
        self._tell(trying.offered(trying.offer))

    def chosen(self, trying: Trial) -> None:
        """A worker is drawn, and a circuit to it begun."""
        self._tell(trying.chosen())

    def left(self, trying: Trial) -> None:
        """A try is over, and what it was paid stays paid."""
        self._paid += trying.paid
        self._quoted += trying.quoted

    def refused(self, trying: Trial, why: Why) -> None:
        """A worker gave no answer."""
        self._refused.append(Refused(worker=trying.entry.id, reason=why.value))
        self.whys.append(why)

    def read(self, progress: Progress) -> None:
        """The prompt is being read."""
        self._tell(Read(prompt=progress.prompt, cached=progress.cached, done=progress.done))

    def piece(self, now: float, chunk: Chunk) -> None:
        """More of the answer."""
        if self._timing.first_token is None:
            self._mark(first_token=self._elapsed(now))
        self._tell(
            Piece(
                first=chunk.first,
                ids=chunk.ids,
                text=chunk.text,
                channel=chunk.channel,
                logprobs=chunk.logprobs,
                top=chunk.top,
                texts=chunk.texts,
            )
        )

    def done(self, now: float, trying: Trial, receipt: Receipt, signed: bytes) -> None:
        """The whole answer; `signed` is its receipt."""
        self._mark(total=self._elapsed(now))
        offer, reading, prompt = trying.offer, trying.reading, trying.prompt
        assert offer is not None
        assert reading is not None
        assert prompt is not None
        assert prompt.date is not None
        self._tell(
            Done(
                worker=trying.entry.id,
                identity=trying.identity,
                model=trying.name,
                path=trying.path,
                text=reading.content,
                reasoning=reading.reasoning,
                calls=reading.calls,
                ids=reading.ids,
                nonce=prompt.nonce,
                date=prompt.date,
                finish=endings.FINISH[receipt.stop],
                usage=Usage(**receipt.tokens._asdict()),
                cost=receipt.cost,
                paid=trying.paid,
                prices=offer.prices,
                quoted=trying.quoted,
                receipt=signed,
                numerics=offer.numerics,
                timing=self._timing,
                refusals=tuple(self._refused),
                slots=trying.slots,
                resumed=trying.resumed,
            )
        )

    def failed(self, now: float, trying: Trial | None, ending: Ending) -> None:
        """There is no whole answer, and no try is under way any more."""
        self._mark(total=self._elapsed(now))
        self._tell(
            AskFailed(
                code=ending.code,
                message=ending.message,
                advice=ending.advice,
                text="" if trying is None or trying.reading is None else trying.reading.content,
                worker=None if trying is None else trying.entry.id,
                paid=self._paid,
                quoted=self._quoted,
                timing=self._timing,
                refusals=tuple(self._refused),
            )
        )

    def __len__(self) -> int:
        return len(self._refused)

    def _elapsed(self, now: float) -> int:
        return round(1_000 * (now - self.began))

    def _mark(self, **milliseconds: int) -> None:
        self._timing = replace(self._timing, **milliseconds)
