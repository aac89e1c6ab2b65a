"""The asker's core: one question, through one worker at a time, and always an end to it.

    state       leaves it when                                              its timer
    DRAW        the directory is there and a worker is drawn                10 s
    OPENING     the worker's offer or refusal comes through the circuit     12 s
    PAYING      coins for the accepted offer are set aside                  the offer's, then none
    OFFERED     the prompt, and the spend before it, has left               30 s + 1 s per 4 KiB
    STREAMING   the answer's last token, its receipt or a refusal comes     2 x quoted wait + 30 s
    CHECKING    the receipt is there and true                               5 s
    PARTING     the tick that pays the answer's end has left                5 s
    DONE        never

A circuit that breaks once the prompt has begun to leave is replaced, and the answer goes on where
it was, as `inference.mending` says: then for 10 s that is waited for, and for nothing else.

Over all of them stands 0.95 of the caller's limit, so that the caller hears from here why nothing
came. A worker that refuses, falls silent or lies before anything of its answer came gives way to
another, at most three in all; after that the ask ends with the partial text, since nobody else can
go on with it. What a worker did only ever excludes it: see `inference.market`.

An offer with prices is paid as `inference.meter` says, once the worker has shown that the mint has
locked the coins for it. However a try ends, its coins end with it: `Release` if the spend never
left, else `Collect`. In free mode PAYING and PARTING are left out. If coins are so long in coming
that the offer lapses, the worker is asked for another when they are there.

The core holds no circuit and no coin: it names its tries by number, and whoever drives it joins the
two.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Final, TypeAlias, final

from inference import endings, protocol
from inference.asking_effects import (
    Collect,
    Effect,
    Leave,
    Open,
    Release,
    Reserve,
    Resume,
    Say,
    Upload,
)
from inference.blame import After, Blame
from inference.drawing import Drawing
from inference.endings import Why
from inference.hearing import hear, pay
from inference.market import Choice
from inference.mending import MEND_PAUSE, MEND_WAIT, Mending, Verdict
from inference.meter import Spending, pace_of
from inference.protocol import (
    PLAIN,
    Billed,
    Offer,
    Pay,
    Prompt,
    Refusal,
    Refuse,
)
from inference.reading import Reading
from inference.request import (
    AskEvent,
    AskRequest,
    Policy,
    body_of,
    nonce_of,
    settings_of,
)
from inference.telling import Telling
from inference.trial import Trial
from ledger.payment import Decline, Payment, Unpaid
from p2p import codec
from p2p.core import Deadlines, Event, Handle, Send, Source
from p2p.errors import CodecError, RemoteError
from p2p.identity import AdnlId
from p2p.onion import events as onion
from p2p.onion.cell import Code as Hop
from p2p.overlay.listing import Entry

SHARE: Final = 0.95
"""Each inner party has this part of the time of the one outside it, to fail first and say why."""

JOIN_WAIT: Final = 10.0
OPEN_WAIT: Final = 12.0
UPLOAD_WAIT: Final = 30.0
UPLOAD_RATE: Final = 4_096
RECEIPT_WAIT: Final = 5.0
LAST_TICK_WAIT: Final = 5.0
"""seconds, and bytes a second; the table above says of what"""

OFFER_MARGIN: Final = 5
"""seconds of an offer's life that are left for the prompt's way"""

PATIENCE_PAUSE: Final = 0.4
"""seconds between two looks while a network is young"""

DAY: Final = 86_400


class State(Enum):
    """Where an ask is; the table at the top."""

    DRAW = "draw"
    OPENING = "opening"
    PAYING = "paying"
    OFFERED = "offered"
    STREAMING = "streaming"
    CHECKING = "checking"
    PARTING = "parting"
    DONE = "done"


@final
class AskCore:
    """See the module. `drain` gives effects and, for the caller, `AskEvent`s."""

    def __init__(self, request: AskRequest, policy: Policy, asker: AdnlId) -> None:
        self._request = request
        self._policy = policy
        self._body, self._objection = _body(request)
        self._drawing = Drawing(request, policy, asker, self._body)

        self._now = self._began = 0.0
        self._state = State.DRAW
        self._deadlines = Deadlines()
        self._limit: Handle | None = None
        self._timer: Handle | None = None
        self._out: list[Event] = []

        self._nonce = b""
        self._try: Trial | None = None
        self._tries = 0
        self._blame = Blame()
        self._mending = Mending(self._blame)
        self._telling = Telling(self._out_event)

    @property
    def state(self) -> State:
        """Where the ask is."""
        return self._state

    # --- commands ---

    def start(self, now: float, mints: Sequence[AdnlId] = ()) -> None:
        """Begin; the caller's limit counts from here. `mints` are whose credits may be spent."""
        if self._state is State.DONE:
            return
        self._now = self._began = self._telling.began = now
        self._drawing.mints = tuple(mints)
        limit = now + SHARE * self._policy.deadline_s
        self._limit = self._deadlines.at(limit, self._too_late)
        self._enter(State.DRAW, JOIN_WAIT, self._not_joined)
        if self._objection:
            self._fail(endings.no_request(self._objection))
        elif len(self._body) > protocol.MAX_UPLOAD - 1_024:
            self._fail(endings.TOO_LARGE)
        else:
            self._nonce = nonce_of(self._request, self._policy)

    def listed(self, now: float, entries: Sequence[Entry]) -> None:
        """The directory is there, with these workers."""
        self._now = now
        self._blame.begin(now)
        self._drawing.entries = entries
        if self._state == State.DRAW:
            self._draw()

    def opening(self, now: float, attempt: int, path: Sequence[AdnlId]) -> None:
        """A circuit is being built through these relays to the worker, who stands last."""
        self._now = now
        trying = self._current(attempt, State.OPENING)
        if trying is not None:
            trying.path = tuple(path)
            self._telling.chosen(trying)

    def unopened(self, now: float, attempt: int, *, full: bool) -> None:
        """No circuit could be begun: this node's bound is reached (`full`), or no path is there."""
        self._now = now
        trying = self._current(attempt, State.OPENING)
        if trying is None:
            return
        if not full and self._blame.early(now):
            self._open_soon(trying)
        else:
            self._fail(endings.NODE_FULL if full else endings.no_path(self._policy.relays))

    def opened(self, now: float, attempt: int, reply: bytes) -> None:
        """The worker accepted; this is its reply."""
        self._now = now
        trying = self._current(attempt, State.OPENING)
        if trying is None:
            return
        self._telling.circuit(now)
        try:
            self._consider(trying, protocol.read_reply(reply))
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
            self._unopened(trying, hop, status)

    def reserved(self, now: float, attempt: int, payment: Payment) -> None:
        """Coins are set aside for a try."""
        self._now = now
        trying = self._paying(attempt)
        if trying is None:
            self._do(Release(payment))
        elif trying.left:  # the offer has lapsed meanwhile; now that coins are there, it is quick
            self._do(Release(payment))
            self._open(trying.again())
        else:
            assert trying.offer is not None
            written = self._request.max_tokens or 1
            trying.spending = Spending(pace_of(trying.offer), payment, written)
            self._upload(trying, trying.offer, payment)

    def unreserved(self, now: float, attempt: int, reason: Unpaid, detail: str) -> None:
        """No coins could be set aside for a try."""
        self._now = now
        trying = self._paying(attempt)
        if trying is None:
            return
        if reason is Unpaid.NO_MINT:
            self._next(trying, Why.MINT)
        else:
            self._fail(endings.unpaid(reason, detail))

    def uploaded(self, now: float, attempt: int) -> None:
        """The prompt has left."""
        self._now = now
        trying = self._current(attempt, State.OFFERED)
        if trying is not None and self._mending.is_on:
            self._state = State.STREAMING  # it waits for the circuit, whose timer stands
        elif trying is not None:
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
                if self._try is not trying or trying.left or self._state == State.PARTING:
                    return
        except RemoteError as error:
            self._lied(trying, str(error))
        else:
            self._pay(trying)

    def said(self, now: float, attempt: int) -> None:
        """The newest tick has left."""
        self._now = now
        trying = self._current(attempt, State.STREAMING, State.CHECKING, State.PARTING)
        if trying is not None:
            trying.unsaid = False
            self._parted(attempt)

    def ended(self, now: float, attempt: int) -> None:
        """The worker says that nothing follows; yet no receipt came."""
        self._now = now
        if self._lapsed(attempt) or self._parted(attempt):
            return
        trying = self._current(attempt, State.OFFERED, State.STREAMING, State.CHECKING)
        if trying is not None:
            self._lied(trying, "the answer ended without a receipt")

    def reset(self, now: float, attempt: int, code: int) -> None:
        """The worker gave the stream up."""
        self._now = now
        if self._lapsed(attempt) or self._parted(attempt):
            return
        trying = self._current(attempt, State.OFFERED, State.STREAMING, State.CHECKING)
        if trying is not None:
            overloaded = code == protocol.Abort.OVERLOAD
            self._worker_gone(trying, Why.BUSY if overloaded else Why.LOST)

    def lost(self, now: float, attempt: int, hop: int | None, code: int) -> None:
        """The circuit is gone; as `p2p.onion.events.Lost`."""
        self._now = now
        if self._lapsed(attempt) or self._parted(attempt):
            return
        trying = self._current(attempt, *_WITH_CIRCUIT)
        if trying is None:
            return
        after = self._blame.lost(trying, hop, code)
        if after is None:
            self._worker_gone(trying, Why.LOST)
        else:
            self._circuit_gone(trying, after)

    def broken(self, now: float, attempt: int, hop: int | None, code: int) -> None:
        """The circuit is gone, and may be replaced; as `p2p.onion.events.Broken`."""
        self._now = now
        trying = self._current(attempt, State.OFFERED, State.STREAMING, State.CHECKING)
        if trying is None:
            self.lost(now, attempt, hop, code)
            return
        self._mending.begin(trying, hop, code)
        self._enter(self._state, MEND_WAIT, self._unmended)
        self._resume()

    def resuming(self, now: float, attempt: int, path: Sequence[AdnlId]) -> None:
        """Another circuit is being built through these relays to the worker, who stands last."""
        self._now = now
        trying = self._mended(attempt)
        if trying is not None:
            trying.path = tuple(path)

    def resumed(self, now: float, attempt: int) -> None:
        """It stands: the answer goes on."""
        self._now = now
        trying = self._mended(attempt)
        if trying is not None:
            self._mending.end(trying)
            self._enter(self._state, trying.patience, self._silent)

    def unresumed(self, now: float, attempt: int, hop: int | None, status: int | None) -> None:
        """It did not open; as `p2p.onion.events.Unresumed`. No status: there is no path now."""
        self._now = now
        trying = self._mended(attempt)
        if trying is None:
            return
        match self._mending.failed(trying, hop, status):
            case Verdict.FORGOTTEN if not trying.begun:
                self._unmended()
            case Verdict.WORKER | Verdict.FORGOTTEN:
                self._worker_gone(trying, Why.LOST)
            case Verdict.AGAIN:
                self._deadlines.at(now + MEND_PAUSE, self._resume)

    def stop(self, now: float) -> None:
        """The caller wants no more of the answer, and to hear what it has cost."""
        self._now = now
        self._fail(endings.CANCELLED)

    def cancel(self, now: float) -> None:
        """The caller has gone: no event follows."""
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
            "refused": len(self._telling),
            "timers": len(self._deadlines),
        }

    # --- DRAW ---

    def _draw(self) -> None:
        drawn = self._drawing.draw(self._now)
        if isinstance(drawn, Trial):
            self._open(drawn)
        else:
            self._give_up(drawn)

    def _not_joined(self) -> None:
        self._fail(endings.NOT_JOINED)

    # --- OPENING ---

    def _open(self, trying: Trial) -> None:
        self._tries += 1
        trying.number = self._tries
        trying.paths += 1
        trying.path = ()
        trying.want = self._drawing.want(trying).encode()
        self._try = trying
        self._enter(State.OPENING, OPEN_WAIT, self._no_reply)
        request, rate = PLAIN + trying.want, self._policy.rate
        self._do(Open(trying.number, trying.entry.id, request, self._blame.suspects, rate))

    def _open_soon(self, trying: Trial) -> None:
        """Look again in a moment: in a network that is seconds old, nobody is to blame."""
        self._leave()
        again = trying.again()
        again.paths -= 1
        self._enter(State.OPENING, PATIENCE_PAUSE, lambda: self._open(again))

    def _no_reply(self) -> None:
        trying = self._try
        assert trying is not None
        self._unopened(trying, None, onion.TIMED_OUT)

    def _unopened(self, trying: Trial, hop: int | None, status: int) -> None:
        self._circuit_gone(trying, self._blame.unopened(trying, hop, status, self._now))

    def _circuit_gone(self, trying: Trial, after: After) -> None:
        """Through other relays if that may help, else to another worker."""
        self._leave()
        if trying.begun:
            self._fail(endings.CIRCUIT_LOST)
            return
        match after:
            case After.SOON:
                self._open_soon(trying)
            case After.AGAIN:
                self._open(trying.again())
            case After.UNREACHABLE:
                self._policy.memory.lost(self._now, trying.entry.id)
                self._next(trying, Why.UNREACHABLE)
            case After.CIRCUIT:
                self._next(trying, Why.CIRCUIT)

    # --- a circuit that broke in mid-answer ---

    def _mended(self, attempt: int) -> Trial | None:
        """The try whose circuit is being replaced."""
        trying = self._current(attempt, State.OFFERED, State.STREAMING, State.CHECKING)
        return trying if self._mending.is_on else None

    def _resume(self) -> None:
        trying = self._try
        if trying is not None and not trying.left and self._mending.is_on:
            self._do(Resume(trying.number, trying.entry.id, self._blame.suspects))

    def _unmended(self) -> None:
        trying = self._try
        assert trying is not None
        self._circuit_gone(trying, self._blame.after(trying))

    # --- PAYING ---

    def _consider(self, trying: Trial, message: bytes) -> None:
        """Accept an offer, or go on to another worker. Raises `RemoteError` for a lie."""
        offer = protocol.read_offer(message, trying.entry.advert.public, trying.want)
        why_not = self._drawing.unacceptable(trying, offer, self._left())
        if why_not is not None:
            self._next(trying, why_not)
            return
        self._telling.offer(self._now)
        trying.accept(offer, message, self._body, self._request)
        if offer.prices.free:
            self._upload(trying, offer, None)
        else:
            self._reserve(trying, offer, protocol.session_of(message))

    def _reserve(self, trying: Trial, offer: Offer, session: bytes) -> None:
        terms = self._drawing.pay_terms(trying, offer, session, self._now, self._left())
        patience = max(1, offer.valid_s - OFFER_MARGIN)
        self._enter(State.PAYING, patience, lambda: self._lapse(trying))
        self._do(Reserve(trying.number, terms))

    def _paying(self, attempt: int) -> Trial | None:
        """The try that waits for coins, its circuit there or not."""
        trying = self._try
        waits = trying is not None and trying.number == attempt and self._state == State.PAYING
        return trying if waits else None

    def _lapsed(self, attempt: int) -> bool:
        """Whether a circuit has ended that waited for nothing but coins."""
        trying = self._paying(attempt)
        if trying is None:
            return False
        self._lapse(trying)
        return True

    def _lapse(self, trying: Trial) -> None:
        """The offer is as good as gone; coins are waited for up to the ask's own limit."""
        self._leave()
        if self._timer is not None:
            self._timer.cancel()

    # --- OFFERED ---

    def _upload(self, trying: Trial, offer: Offer, payment: Payment | None) -> None:
        self._telling.offered(trying)
        trying.prompt = self._prompt()
        data = codec.frame(trying.prompt.encode())
        if payment is not None:
            data = codec.frame(Pay(payment.spend).encode()) + data
        self._enter(State.OFFERED, UPLOAD_WAIT + len(data) / UPLOAD_RATE, self._silent)
        trying.sent = True
        self._do(Upload(trying.number, data))

    def _prompt(self) -> Prompt:
        return Prompt(
            nonce=self._nonce,
            date=int(self._began // DAY) if self._request.date is None else self._request.date,
            deadline_ms=max(1, int(1_000 * SHARE * self._left())),
            settings=settings_of(self._request),
            body=self._body,
        )

    # --- STREAMING ---

    def _take(self, trying: Trial, message: bytes) -> None:
        reading = trying.reading
        assert reading is not None
        match hear(trying, message, self._telling, self._now):
            case Billed() as billed:
                self._done(trying, reading, billed)
            case Refusal() as refusal:
                self._refusal(trying, refusal)
            case Why() as why:
                self._next(trying, why)
            case None if reading.full and self._state != State.CHECKING:
                self._enter(State.CHECKING, RECEIPT_WAIT, self._silent)
            case None if self._state == State.STREAMING:
                self._enter(State.STREAMING, trying.patience, self._silent)
            case None:
                pass

    def _pay(self, trying: Trial) -> None:
        tick = pay(trying)
        if tick is not None:
            trying.unsaid = True
            self._do(Say(trying.number, codec.frame(tick.encode())))

    def _silent(self) -> None:
        trying = self._try
        assert trying is not None
        self._worker_gone(trying, Why.SILENT)

    # --- CHECKING and PARTING ---

    def _done(self, trying: Trial, reading: Reading, billed: Billed) -> None:
        receipt = reading.receipt(billed, trying.entry.advert.public)
        trying.receipt = receipt, billed.receipt
        if trying.spending is not None:
            trying.due = trying.spending.bill(receipt.ticks)
            self._pay(trying)
        if not trying.unsaid:
            self._part(trying)
            return
        if self._limit is not None:  # the answer is whole: it is not late any more
            self._limit.cancel()
        wait = min(LAST_TICK_WAIT, max(0.0, self._left()))
        self._enter(State.PARTING, wait, lambda: self._part(trying))

    def _parted(self, attempt: int) -> bool:
        """Whether nothing was waited for but that the last tick leaves; now it has, or cannot."""
        trying = self._current(attempt, State.PARTING)
        if trying is None:
            return False
        self._part(trying)
        return True

    def _part(self, trying: Trial) -> None:
        assert trying.receipt is not None
        self._telling.done(self._now, trying, *trying.receipt)
        self._end()

    # --- ways not to get an answer ---

    def _refusal_in(self, trying: Trial, reason: bytes) -> None:
        """A refusal in a circuit's reply; empty if its node had to answer for it."""
        if not reason:
            self._worker_gone(trying, Why.SILENT)
            return
        try:
            refusal = protocol.read_worker(protocol.read_reply(reason))
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
                self._drawing.too_long(trying.context)
                self._refused_by(trying, Why.TOO_LONG)
            case Refuse.PAYMENT:
                self._unpaid(trying, refusal.detail)
            case code:
                self._refused_by(trying, endings.WHY[code])

    def _unpaid(self, trying: Trial, detail: int) -> None:
        """The mint would not lock our coins, says the worker: others are tried once."""
        if detail in _BAD_COINS and trying.sent and not trying.repaid and not trying.begun:
            trying.repaid = True
            self._leave()
            self._open(trying.again())
        elif not trying.sent:
            self._refused_by(trying, Why.MINT)
        else:
            self._refused_by(trying, _NOT_LOCKED.get(detail, Why.PAYMENT))

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
        self._telling.refused(trying, why)
        if trying.begun:
            self._fail(endings.broken_off(why, trying.lie))
        else:
            self._state = State.DRAW
            self._draw()

    def _too_late(self) -> None:
        self._fail(endings.too_late(self._policy.deadline_s, self._state.value))

    def _give_up(self, choices: Mapping[bytes, Choice]) -> None:
        """Nobody is left to be asked."""
        if not self._telling.whys:
            self._fail(endings.nobody(self._request, self._policy, choices))
        else:
            self._fail(endings.all_failed(self._telling.whys, self._policy.relays))

    def _fail(self, ending: endings.Ending) -> None:
        if self._state == State.DONE:
            return
        self._leave()
        self._telling.failed(self._now, self._try, ending)
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
        """End the try: its circuit, and its claim to coins."""
        trying = self._try
        if trying is None or trying.left:
            return
        trying.left = True
        self._mending.is_on = False
        self._telling.left(trying)
        self._do(Leave(trying.number, whole=trying.receipt is not None))
        spending = trying.spending
        if spending is not None:
            shown, owed = spending.revealed, spending.owed
            self._do(Collect(spending.payment, spending.locked, shown, owed))

    def _enter(self, state: State, seconds: float, then: "Action") -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._state = state
        self._timer = self._deadlines.at(self._now + seconds, then)

    def _do(self, effect: Effect) -> None:
        self._out.append(effect)

    def _out_event(self, event: AskEvent) -> None:
        self._out.append(event)

    def _left(self) -> float:
        """Seconds until this core ends the ask."""
        return self._began + SHARE * self._policy.deadline_s - self._now


Action: TypeAlias = Callable[[], None]

_WITH_CIRCUIT: Final = (State.OPENING, State.OFFERED, State.STREAMING, State.CHECKING)

_BAD_COINS: Final = (Decline.SPENT, Decline.BAD_AUTH, Decline.EXPIRED)
"""A mint's words that other coins may change."""

_NOT_LOCKED: Final[Mapping[int, Why]] = {Decline.BUSY: Why.MINT_SILENT, Decline.SPENT: Why.SPENT}


def _body(request: AskRequest) -> tuple[bytes, str]:
    """The body of the prompt, or what is wrong with the request."""
    try:
        return body_of(request), ""
    except UnicodeEncodeError:
        return b"", "text that is not Unicode: half of a surrogate pair"
    except ValueError as error:
        return b"", str(error)
