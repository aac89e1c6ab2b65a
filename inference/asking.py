"""The asker's core: one question, through one worker at a time, and always an end to it.

    state       leaves it when                                              its timer
    DRAW        the directory is there and a worker is drawn                10 s
    OPENING     the worker's offer or refusal comes through the circuit     12 s
    OFFERED     the accepted offer's prompt has left                        30 s + 1 s per 4 KiB
    STREAMING   the answer's last token, its receipt or a refusal comes     2 x quoted wait + 30 s
    CHECKING    the receipt is there and true                               5 s
    DONE        never

Over all of them stands 0.95 of the caller's limit, so that the caller hears from here why nothing
came. A worker that refuses, falls silent or lies before anything of its answer came gives way to
another, at most three in all; after that the ask ends with the partial text, since nobody else can
go on with it. What a worker did only ever excludes it: see `inference.market`.

The core holds no circuit: it names its tries by number, and whoever drives it joins the two.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, TypeAlias, final

from inference import endings, market, protocol
from inference.endings import Why
from inference.engine.base import Usage
from inference.market import Choice, Terms
from inference.protocol import (
    PLAIN,
    Billed,
    Chunk,
    Need,
    Offer,
    Progress,
    Prompt,
    Refusal,
    Refuse,
    Want,
)
from inference.reading import Reading
from inference.request import (
    AskFailed,
    AskRequest,
    Done,
    Piece,
    Policy,
    Refused,
    Timing,
    body_of,
    nonce_of,
    settings_of,
)
from inference.request import Progress as Read
from inference.trial import Trial
from ledger.tariff import Receipt, fair
from p2p import codec
from p2p.core import Deadlines, Event, Handle, Send, Source
from p2p.errors import CodecError, RemoteError
from p2p.identity import AdnlId
from p2p.onion import events as onion
from p2p.onion.cell import Code as Hop
from p2p.overlay.directory import Entry

MAX_DRAWS: Final = 3
"""workers tried for one request"""

MAX_PATHS: Final = 3
"""paths tried to one worker, as long as relays are to blame"""

MAX_PATHS_BLAMED: Final = 2
"""paths that may end at a worker out of reach: one relay's word is checked through others"""

SHARE: Final = 0.95
"""Each inner party has this part of the time of the one outside it, to fail first and say why."""

JOIN_WAIT: Final = 10.0
OPEN_WAIT: Final = 12.0
UPLOAD_WAIT: Final = 30.0
UPLOAD_RATE: Final = 4_096
RECEIPT_WAIT: Final = 5.0
"""seconds, and bytes a second; the table above says of what"""

DAY: Final = 86_400


class State(Enum):
    """Where an ask is; the table at the top."""

    DRAW = "draw"
    OPENING = "opening"
    OFFERED = "offered"
    STREAMING = "streaming"
    CHECKING = "checking"
    DONE = "done"


# --- what the core wants done; answered by commands with the number of the try ---


@dataclass(frozen=True, slots=True)
class Open:
    """Open a circuit: `opening`, then `opened`, `failed` or `unopened` answer."""

    attempt: int
    worker: AdnlId
    request: bytes
    suspects: tuple[AdnlId, ...]
    """Relays to avoid if there are others."""


@dataclass(frozen=True, slots=True)
class Upload:
    """Send this on the request's stream, and END behind it: `uploaded` answers."""

    attempt: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Leave:
    """Reset the stream and close the circuit, if there is one: the worker is to stop."""

    attempt: int


Effect: TypeAlias = Open | Upload | Leave


@final
class AskCore:
    """See the module. `drain` gives effects and, for the caller, `AskEvent`s.

    Raises `ValueError` for a request that no worker would take.
    """

    def __init__(self, request: AskRequest, policy: Policy, asker: AdnlId) -> None:
        self._request = request
        self._policy = policy
        self._asker = asker
        self._body = body_of(request)

        self._now = self._began = 0.0
        self._state = State.DRAW
        self._deadlines = Deadlines()
        self._limit: Handle | None = None
        self._timer: Handle | None = None
        self._out: list[Event] = []

        self._nonce = b""
        self._entries: Sequence[Entry] = ()
        self._try: Trial | None = None
        self._tries = 0
        self._context_above = 0
        self._suspects: dict[AdnlId, None] = {}
        self._drawn: dict[AdnlId, None] = {}
        self._refused: list[Refused] = []
        self._whys: list[Why] = []
        self._timing = Timing()

    @property
    def state(self) -> State:
        """Where the ask is."""
        return self._state

    # --- commands ---

    def start(self, now: float) -> None:
        """Begin; the caller's limit counts from here."""
        self._now = self._began = now
        self._nonce = nonce_of(self._request, self._policy)
        limit = now + SHARE * self._policy.deadline_s
        self._limit = self._deadlines.at(limit, self._too_late)
        self._enter(State.DRAW, JOIN_WAIT, self._not_joined)
        if len(self._body) > protocol.MAX_UPLOAD - 1_024:
            self._fail(endings.TOO_LARGE)

    def listed(self, now: float, entries: Sequence[Entry]) -> None:
        """The directory is there, with these workers."""
        self._now = now
        self._entries = entries
        if self._state == State.DRAW:
            self._draw()

    def opening(self, now: float, attempt: int, path: Sequence[AdnlId]) -> None:
        """A circuit is being built through these relays to the worker, who stands last."""
        self._now = now
        trying = self._current(attempt, State.OPENING)
        if trying is not None:
            trying.path = tuple(path)
            self._out.append(trying.chosen())

    def unopened(self, now: float, attempt: int, *, full: bool) -> None:
        """No circuit could be begun: this node's bound is reached (`full`), or no path is there."""
        self._now = now
        if self._current(attempt, State.OPENING) is not None:
            self._fail(endings.NODE_FULL if full else endings.no_path(self._policy.relays))

    def opened(self, now: float, attempt: int, reply: bytes) -> None:
        """The worker accepted; this is its reply."""
        self._now = now
        trying = self._current(attempt, State.OPENING)
        if trying is None:
            return
        self._mark(circuit=self._elapsed())
        try:
            self._consider(trying, _plain(reply))
        except RemoteError as error:
            self._lied(trying, str(error))

    def failed(self, now: float, attempt: int, hop: int | None, status: int, reason: bytes) -> None:
        """The circuit did not open; as `p2p.onion.events.Failed`."""
        self._now = now
        trying = self._current(attempt, State.OPENING)
        if trying is None:
            return
        if status == Hop.REFUSED and hop == len(trying.path) - 1:
            self._refusal_in(trying, reason)
        else:
            self._no_circuit(trying, hop, status)

    def uploaded(self, now: float, attempt: int) -> None:
        """The prompt has left."""
        self._now = now
        trying = self._current(attempt, State.OFFERED)
        if trying is not None:
            self._enter(State.STREAMING, trying.patience, self._silent)

    def receive(self, now: float, source: Source, datagram: bytes) -> None:
        """Bytes of the answer's stream; the source is the number of the try."""
        self._now = now
        trying = self._current(source, State.OFFERED, State.STREAMING, State.CHECKING)
        if trying is None:
            return
        try:
            trying.unframer.feed(datagram)
            for message in trying.unframer:
                self._take(trying, message)
                if self._try is not trying:
                    return
        except RemoteError as error:
            self._lied(trying, str(error))

    def ended(self, now: float, attempt: int) -> None:
        """The worker says that nothing follows; yet no receipt came."""
        self._now = now
        trying = self._current(attempt, State.OFFERED, State.STREAMING, State.CHECKING)
        if trying is not None:
            self._lied(trying, "the answer ended without a receipt")

    def reset(self, now: float, attempt: int, code: int) -> None:
        """The worker gave the stream up."""
        self._now = now
        trying = self._current(attempt, State.OFFERED, State.STREAMING, State.CHECKING)
        if trying is not None:
            overloaded = code == protocol.Abort.OVERLOAD
            self._worker_gone(trying, Why.BUSY if overloaded else Why.LOST)

    def lost(self, now: float, attempt: int, hop: int | None, code: int) -> None:
        """The circuit is gone; as `p2p.onion.events.Lost`."""
        self._now = now
        trying = self._current(attempt, *_WITH_CIRCUIT)
        if trying is None:
            return
        culprit = trying.lost_by(hop, code)
        if culprit >= trying.last:
            self._worker_gone(trying, Why.LOST)
        else:
            self._suspect(trying, culprit)
            self._circuit_gone(trying)

    def cancel(self, now: float) -> None:
        """The caller does not want the answer any more; no event follows."""
        self._now = now
        if self._state != State.DONE:
            self._end()

    # --- the core's contract ---

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self._now = now
        self._deadlines.run(now)

    def next_deadline(self) -> float | None:
        """When something is due; None once the ask has ended."""
        return self._deadlines.next()

    def drain(self) -> tuple[list[Send], list[Event]]:
        """Effects and events, in order."""
        out, self._out = self._out, []
        return [], out

    def sizes(self) -> dict[str, int]:
        """The length of every table."""
        trying = self._try
        return {
            "answer": 0 if trying is None or trying.reading is None else len(trying.reading.ids),
            "partial": 0 if trying is None else len(trying.unframer),
            "refused": len(self._refused),
            "timers": len(self._deadlines),
        }

    # --- DRAW ---

    def _draw(self) -> None:
        choices = self._choices()
        identity = market.pick_model(choices)
        if identity is None:
            self._give_up(choices)
        elif len(self._drawn) >= MAX_DRAWS:
            self._give_up({})
        else:
            among = choices[identity]
            entry = market.draw(among, self._policy.entropy)
            self._drawn[entry.id] = None
            self._open(Trial(entry, identity, self._name(entry, identity), slots=len(among)))

    def _choices(self) -> dict[bytes, Choice]:
        names = market.identities(self._request.model, self._policy.known, self._entries)
        return {identity: self._acceptable(identity) for identity in names}

    def _acceptable(self, identity: bytes) -> Choice:
        return market.acceptable(
            self._entries,
            identity,
            self._terms(),
            self._policy.memory,
            self._now,
            tried=list(self._drawn),
        )

    def _terms(self) -> Terms:
        return Terms(
            needs=Need.LOGPROBS if self._request.logprobs else Need.NONE,
            size_class=protocol.size_class(self._body),
            max_tokens=self._request.max_tokens,
            max_price=self._policy.max_price,
            min_rate=self._policy.min_rate,
            assurance=self._policy.assurance,
            asker=self._asker,
            only=self._policy.worker,
            context_above=self._context_above,
            upload=len(self._body),
        )

    def _name(self, entry: Entry, identity: bytes) -> str:
        for known in self._policy.known:
            if known.identity == identity:
                return known.name
        model = market.model_of(entry, identity)
        return model.label if model is not None else ""

    def _not_joined(self) -> None:
        self._fail(endings.NOT_JOINED)

    # --- OPENING ---

    def _open(self, trying: Trial) -> None:
        self._tries += 1
        trying.number = self._tries
        trying.paths += 1
        trying.path = ()
        trying.want = self._want(trying).encode()
        self._try = trying
        self._enter(State.OPENING, OPEN_WAIT, self._no_reply)
        self._out.append(
            Open(trying.number, trying.entry.id, PLAIN + trying.want, tuple(self._suspects))
        )

    def _want(self, trying: Trial) -> Want:
        terms = self._terms()
        return Want(
            work=protocol.Work.CHAT if self._request.text is None else protocol.Work.TEXT,
            identity=trying.identity,
            nonce=self._policy.entropy.token(16),
            needs=terms.needs,
            size_class=terms.size_class,
            max_tokens=terms.max_tokens or max(1, trying.context - terms.least_prompt),
        )

    def _no_reply(self) -> None:
        trying = self._try
        assert trying is not None
        self._no_circuit(trying, None, onion.TIMED_OUT)

    def _no_circuit(self, trying: Trial, hop: int | None, status: int) -> None:
        """Blame who is to blame, and try another path or another worker."""
        culprit = trying.culprit(hop, status)
        if culprit is not None and culprit < trying.last:
            self._suspect(trying, culprit)
        else:
            trying.blamed += 1
        self._circuit_gone(trying)

    def _suspect(self, trying: Trial, hop: int) -> None:
        if hop < trying.last:
            self._suspects[trying.path[hop]] = None

    def _circuit_gone(self, trying: Trial) -> None:
        """Through other relays if that may help, else to another worker."""
        self._leave()
        if trying.begun:
            self._fail(endings.CIRCUIT_LOST)
        elif trying.paths < MAX_PATHS and trying.blamed < MAX_PATHS_BLAMED:
            self._open(trying.again())
        elif trying.blamed:
            self._policy.memory.lost(self._now, trying.entry.id)
            self._next(trying, Why.UNREACHABLE)
        else:
            self._next(trying, Why.CIRCUIT)

    # --- OFFERED ---

    def _consider(self, trying: Trial, message: bytes) -> None:
        """Accept an offer, or go on to another worker. Raises `RemoteError` for a lie."""
        offer = protocol.read_offer(message, trying.entry.advert.public, trying.want)
        if offer.identity != trying.identity or not fair(offer.prices):
            raise RemoteError("the offer is for another model, or at prices that break a rule")
        unacceptable = self._unacceptable(offer)
        if unacceptable is not None:
            self._next(trying, unacceptable)
        else:
            self._accept(trying, offer, message)

    def _unacceptable(self, offer: Offer) -> Why | None:
        terms = self._terms()
        # Nobody can pay yet, so that any price is above every cap.
        if terms.max_price < terms.quoted(offer.prices, offer.context) or not offer.prices.free:
            return Why.PRICE
        if offer.context <= self._context_above or offer.assurance < terms.assurance:
            return Why.UNSUPPORTED
        return Why.BUSY if offer.wait_s >= self._left() else None

    def _accept(self, trying: Trial, offer: Offer, message: bytes) -> None:
        self._mark(offer=self._elapsed())
        trying.offer = offer
        trying.reading = Reading(
            offer,
            message,
            self._body,
            messages=max(1, len(self._request.messages)),
            cap=self._request.max_tokens or max(1, offer.context),
            exact=self._request.max_tokens is not None,
        )
        self._out.append(trying.offered(offer, self._terms()))
        data = codec.frame(self._prompt().encode())
        self._enter(State.OFFERED, UPLOAD_WAIT + len(data) / UPLOAD_RATE, self._silent)
        self._out.append(Upload(trying.number, data))

    def _prompt(self) -> Prompt:
        return Prompt(
            nonce=self._nonce,
            date=self._date(),
            deadline_ms=max(1, int(1_000 * SHARE * self._left())),
            settings=settings_of(self._request),
            body=self._body,
        )

    def _date(self) -> int:
        date = self._request.date
        return int(self._began // DAY) if date is None else date

    # --- STREAMING ---

    def _take(self, trying: Trial, message: bytes) -> None:
        reading = trying.reading
        assert reading is not None
        match protocol.read_worker(message):
            case Progress() as progress:
                reading.progress(progress)
                self._out.append(
                    Read(prompt=progress.prompt, cached=progress.cached, done=progress.done)
                )
            case Chunk() as chunk:
                reading.chunk(chunk)
                self._piece(chunk)
            case Billed() as billed:
                self._done(trying, reading, billed)
                return
            case Refusal() as refusal:
                self._refusal(trying, refusal)
                return
            case _:
                raise RemoteError("a message out of turn")
        self._heard(trying, reading)

    def _piece(self, chunk: Chunk) -> None:
        if self._timing.first_token is None:
            self._mark(first_token=self._elapsed())
        self._out.append(
            Piece(
                first=chunk.first,
                ids=chunk.ids,
                text=chunk.text,
                channel=chunk.channel,
                logprobs=chunk.logprobs,
                top=chunk.top,
            )
        )

    def _heard(self, trying: Trial, reading: Reading) -> None:
        if reading.full and self._state != State.CHECKING:
            self._enter(State.CHECKING, RECEIPT_WAIT, self._silent)
        elif self._state == State.STREAMING:
            self._enter(State.STREAMING, trying.patience, self._silent)

    def _silent(self) -> None:
        trying = self._try
        assert trying is not None
        self._worker_gone(trying, Why.SILENT)

    # --- CHECKING ---

    def _done(self, trying: Trial, reading: Reading, billed: Billed) -> None:
        receipt = reading.receipt(billed, trying.entry.advert.public)
        self._mark(total=self._elapsed())
        self._out.append(self._whole(trying, reading, receipt, billed.receipt))
        self._end()

    def _whole(self, trying: Trial, reading: Reading, receipt: Receipt, signed: bytes) -> Done:
        offer = trying.offer
        assert offer is not None
        return Done(
            worker=trying.entry.id,
            identity=trying.identity,
            model=trying.name,
            path=trying.path,
            text=reading.content,
            reasoning=reading.reasoning,
            ids=reading.ids,
            nonce=self._nonce,
            date=self._date(),
            finish=endings.FINISH[receipt.stop],
            usage=Usage(**receipt.tokens._asdict()),
            cost=receipt.cost,
            prices=offer.prices,
            quoted=self._terms().quoted(offer.prices, offer.context),
            receipt=signed,
            numerics=offer.numerics,
            timing=self._timing,
            refusals=tuple(self._refused),
            slots=trying.slots,
        )

    # --- ways not to get an answer ---

    def _refusal_in(self, trying: Trial, reason: bytes) -> None:
        """A refusal in a circuit's reply; empty if its node had to answer for it."""
        if not reason:
            self._worker_gone(trying, Why.SILENT)
            return
        try:
            refusal = protocol.read_worker(_plain(reason))
            if not isinstance(refusal, Refusal):
                raise CodecError("a circuit is refused with a refusal")
        except RemoteError as error:
            self._lied(trying, str(error))
        else:
            self._refusal(trying, refusal)

    def _refusal(self, trying: Trial, refusal: Refusal) -> None:
        match refusal.code:
            case Refuse.BAD_REQUEST | Refuse.BAD_GRAMMAR | Refuse.BAD_TEMPLATE if trying.offer:
                self._fail(endings.bad_request(refusal))
            case Refuse.DEADLINE if trying.begun:
                self._fail(endings.worker_late(self._policy.deadline_s))
            case Refuse.TOO_LONG:
                self._context_above = max(self._context_above, trying.context)
                self._refused_by(trying, Why.TOO_LONG)
            case code:
                self._refused_by(trying, endings.WHY[code])

    def _refused_by(self, trying: Trial, why: Why) -> None:
        self._policy.memory.refused(self._now, trying.entry.id)
        self._next(trying, why)

    def _worker_gone(self, trying: Trial, why: Why) -> None:
        if why in (Why.BUSY, Why.ENGINE):
            self._policy.memory.refused(self._now, trying.entry.id)
        else:
            self._policy.memory.lost(self._now, trying.entry.id)
        self._next(trying, why)

    def _lied(self, trying: Trial, how: str) -> None:
        self._policy.memory.lied(self._now, trying.entry.group)
        trying.lie = how
        self._next(trying, Why.LIED)

    def _next(self, trying: Trial, why: Why) -> None:
        """Ask another worker, unless this one had begun to answer."""
        self._leave()
        self._refused.append(Refused(worker=trying.entry.id, reason=why.value))
        self._whys.append(why)
        if trying.begun:
            self._fail(endings.broken_off(why, trying.lie))
        else:
            self._state = State.DRAW
            self._draw()

    def _too_late(self) -> None:
        self._fail(endings.too_late(self._policy.deadline_s, self._state.value))

    def _give_up(self, choices: dict[bytes, Choice]) -> None:
        """Nobody is left to be asked."""
        if not self._whys:
            self._fail(endings.nobody(self._request, self._policy, choices))
        else:
            self._fail(endings.all_failed(self._whys))

    def _fail(self, ending: endings.Ending) -> None:
        if self._state == State.DONE:
            return
        trying = self._try
        self._mark(total=self._elapsed())
        self._out.append(
            AskFailed(
                code=ending.code,
                message=ending.message,
                advice=ending.advice,
                text="" if trying is None or trying.reading is None else trying.reading.content,
                worker=None if trying is None else trying.entry.id,
                timing=self._timing,
                refusals=tuple(self._refused),
            )
        )
        self._end()

    def _end(self) -> None:
        self._leave()
        self._state = State.DONE
        for handle in (self._limit, self._timer):
            if handle is not None:
                handle.cancel()

    # --- privates of all states ---

    def _current(self, attempt: Source, *states: State) -> Trial | None:
        """The try of this number, if the ask is in one of these states; else what comes is late."""
        trying = self._try
        if trying is None or trying.left or trying.number != attempt or self._state not in states:
            return None
        return trying

    def _leave(self) -> None:
        trying = self._try
        if trying is not None and not trying.left:
            trying.left = True
            self._out.append(Leave(trying.number))

    def _enter(self, state: State, seconds: float, then: "Action") -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._state = state
        self._timer = self._deadlines.at(self._now + seconds, then)

    def _left(self) -> float:
        """Seconds until this core ends the ask."""
        return self._began + SHARE * self._policy.deadline_s - self._now

    def _elapsed(self) -> int:
        return round(1_000 * (self._now - self._began))

    def _mark(self, **milliseconds: int) -> None:
        self._timing = replace(self._timing, **milliseconds)


Action: TypeAlias = Callable[[], None]

_WITH_CIRCUIT: Final = (State.OPENING, State.OFFERED, State.STREAMING, State.CHECKING)


def _plain(reply: bytes) -> bytes:
    return protocol.read_reply(reply)
