"""The worker's core: quotes, takes prompts, has them answered, streams; knows no askers.

    state      of a stream that            leaves it when                    its timer
    ASKED      opened without a want       the want comes                    20 s
    QUOTED     has an offer                the prompt is whole               20 s; from its first
                                                                             byte 30 s + 1 s/4 KiB
    LOCKING    has a prompt to be paid     the mint has locked its coins     12 s
    READY      has a prompt                the engine has made tokens of it  the asker's
    WAITING    is let in                   a slot is free                    the asker's
    RUNNING    holds a slot                the engine says the end           the asker's
    CLOSING    has its end, not all said   all is said, and paid             60 s; 10 s for the
                                                                             last tick
In free mode nothing is locked, and LOCKING is left out.

What leaves the table is gone: later bytes of that stream are ignored, and what was paid is settled.
Bytes that break the protocol, or that come in a state that does not expect them, reset the stream
and are counted. An engine's job bears the token of its order, and a tag of its circuit: only jobs
of one circuit may share computed prefixes. A circuit is all that is known of an asker.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, final

from inference import body, protocol
from inference.answering import Answering
from inference.engine import base as engine
from inference.engine.base import Job
from inference.limits import State as Manner
from inference.limits import Verdict
from inference.meter import Earning
from inference.order import Order, Settings, State, refusal_of, settings_of
from inference.orders import MAX_STREAMS, Orders
from inference.protocol import PLAIN, Abort, Pay, Prompt, Refusal, Refuse, Tick, Want
from inference.quoting import Mints, Quoting
from inference.schedule import MAX_PROMPT_BYTES, WAITING_PER_SLOT, Desk
from inference.service import Service, WorkerStatistics
from inference.serving_effects import Accept, Cancel, Generate, Lock, Prepare, Settle
from ledger import tariff
from ledger.payment import Decline, Locked
from p2p import codec
from p2p.core import Event, Send, Source
from p2p.entropy import Entropy
from p2p.errors import RemoteError
from p2p.identity import Identity
from p2p.onion.cell import CircuitId

QUOTE_WAIT: Final = float(protocol.OFFER_VALID)
UPLOAD_WAIT: Final = 30.0
UPLOAD_RATE: Final = 4_096
LOCK_WAIT: Final = 12.0
"""seconds, and bytes a second; the table above says of what"""

SHARE: Final = 0.95
"""The engine has this part of the time that the asker gives, to fail first and say why."""

SETTLE_MARGIN: Final = 5.0
"""seconds before a lock ends by which its answer has ended, so that its last tick is paid"""

BYTES_PER_TOKEN: Final = 16
"""of a prompt, at the most: no prompt of more can fit the context"""

LEAST_UPLOAD: Final = 64 * 1_024
"""bytes that any prompt may have, whatever the context"""


@dataclass(frozen=True, slots=True)
class Place:
    """The source of bytes: a stream of a circuit."""

    circuit: CircuitId
    stream: int


@final
class WorkerCore:
    """See the module. `room` says how many bytes a circuit takes now, and `mints` whose credits
    are taken now; neither has an effect."""

    def __init__(
        self,
        identity: Identity,
        service: Service,
        entropy: Entropy,
        room: Callable[[CircuitId], int],
        mints: Mints = tuple,
    ) -> None:
        self._service = service
        self._entropy = entropy
        self._desk = Desk(service.slots)
        upload = min(protocol.MAX_UPLOAD, LEAST_UPLOAD + BYTES_PER_TOKEN * service.context)
        self._orders = Orders(self._desk, entropy, room, upload=upload)
        self._quoting = Quoting(
            identity, service, self._orders, self._desk, entropy=entropy, mints=mints
        )
        self._answering = Answering(identity, service, self._orders, self._desk)

    # --- commands ---

    def incoming(self, now: float, circuit: CircuitId, request: bytes) -> None:
        """A circuit wants to end here; `Accept` or `Deny` answers."""
        self._orders.now = now
        try:
            want = protocol.read_request(request)
        except RemoteError:
            self._orders.misbehaved += 1
            self._orders.deny(circuit, Refusal(Refuse.BAD_REQUEST, body.Field.WANT))
            return
        refusal = self._quoting.judge(want)
        if refusal is not None:
            self._orders.deny(circuit, refusal)
            return
        order = self._orders.begin(self._orders.greet(circuit), 1)
        offer = self._quote(order, want, request.removeprefix(PLAIN))
        self._orders.out(Accept(circuit, PLAIN + offer, want.rate))

    def receive(self, now: float, source: Source, datagram: bytes) -> None:
        """Bytes of a stream; the source is a `Place`."""
        self._orders.now = now
        order = self._order_at(source) if isinstance(source, Place) else None
        if order is None:
            return
        order.unframer.feed(datagram)
        if self._orders.held() > MAX_PROMPT_BYTES:
            self._orders.give_up(order, Abort.OVERLOAD)
            return
        try:
            self._read(order)
        except RemoteError:
            self._orders.misbehaved += 1
            self._orders.give_up(order, Abort.PROTOCOL)

    def reset(self, now: float, circuit: CircuitId, stream: int) -> None:
        """The asker gave a stream up."""
        self._orders.now = now
        order = self._orders.find(circuit, stream)
        if order is not None:
            self._orders.forget(order)

    def lost(self, now: float, circuit: CircuitId) -> None:
        """A circuit is gone."""
        self._orders.now = now
        self._orders.part(circuit)

    def locked(self, now: float, token: int, result: Locked | Decline) -> None:
        """The mint has locked the coins of a spend, or not."""
        self._orders.now = now
        order = self._orders.get(token, State.LOCKING)
        if order is not None:
            self._locked(order, result)
        elif isinstance(result, Locked):  # for somebody who has gone: the coins are theirs again
            self._orders.out(Settle(result.lock_id, final=True, ticks=0))

    def prepared(self, now: float, token: int, result: engine.Prepared | engine.Failed) -> None:
        """The engine has read a prompt."""
        self._orders.now = now
        order = self._orders.get(token, State.READY)
        if order is None:
            return
        self._orders.enter(order, State.WAITING, order.until - now, self._late)
        if isinstance(result, engine.Failed):
            self._orders.refuse(order, refusal_of(result))
        else:
            self._admit(order, result)

    def generated(self, now: float, token: int, event: engine.JobEvent) -> None:
        """The engine says something of a job."""
        self._orders.now = now
        order = self._orders.get(token, State.RUNNING)
        if order is None:
            return
        match event:
            case engine.Begun():
                self._answering.begun(order, event)
            case engine.Prefilled(done=done):
                self._answering.progress(order, done)
            case engine.Piece():
                self._answering.piece(order, event)
            case engine.Finished() | engine.Failed():
                self._answering.close(order, event)

    def model(self, now: float, *, ready: bool, seconds: float = 0.0) -> None:
        """Whether the engine can take jobs, if not now then after so many seconds of loading; if
        it cannot, nothing is offered."""
        self._orders.now = now
        self._quoting.ready, self._quoting.loading = ready, seconds

    def drain_out(self, now: float) -> None:
        """No new offers any more: this worker is leaving."""
        self._orders.now = now
        self._quoting.draining = True

    def verdict(self, now: float, verdict: Verdict) -> None:
        """What the machine allows from now on.

        `PAUSE`: no new offers; what was offered or runs goes on. `STOP`: that ends, too, and what
        was said of an answer is billed as far as it was paid.
        """
        self._orders.now = now
        self._quoting.verdict = verdict
        if verdict.state is Manner.STOP:
            for order in self._orders.all():
                self._break_off(order)

    def _break_off(self, order: Order) -> None:
        if order.state is State.RUNNING and order.sent:
            self._orders.out(Cancel(order.token))
            self._answering.break_off(order)
        elif order.state is not State.CLOSING:
            self._orders.refuse(order, self._quoting.pausing)

    def stop(self, now: float) -> None:
        """This worker is gone in a moment: every session is settled as far as it was paid."""
        self.drain_out(now)
        self._orders.part_all()

    @property
    def idle(self) -> bool:
        """Whether nothing is being answered; offers do not count."""
        return self._orders.idle

    # --- the core's contract ---

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self._orders.now = now
        self._orders.deadlines.run(now)

    def next_deadline(self) -> float | None:
        """When something is due."""
        return self._orders.deadlines.next()

    def drain(self) -> tuple[list[Send], list[Event]]:
        """Effects, in order; slots that have become free are given away first."""
        self._dispatch()
        return [], self._orders.drain()

    def sizes(self) -> dict[str, int]:
        """The length of every table."""
        desk = {f"desk.{name}": size for name, size in self._desk.sizes().items()}
        return {**self._orders.sizes(), **desk}

    def statistics(self) -> WorkerStatistics:
        """A snapshot."""
        orders = self._orders
        return WorkerStatistics(
            paused=self._quoting.paused,
            draining=self._quoting.draining,
            quoted=orders.count(State.QUOTED),
            waiting=orders.count(State.LOCKING, State.READY, State.WAITING),
            running=orders.count(State.RUNNING, State.CLOSING),
            answered=self._answering.answered,
            tokens=self._answering.tokens,
            refusals=dict(orders.refusals),
            misbehaved=orders.misbehaved,
            earned=orders.earned,
        )

    # --- ASKED and QUOTED ---

    def _quote(self, order: Order, want: Want, message: bytes) -> bytes:
        offer = self._quoting.quote(order, want, message)
        self._orders.enter(order, State.QUOTED, QUOTE_WAIT, self._orders.silent)
        return offer

    def _read(self, order: Order) -> None:
        """Take the messages that are whole. Raises `RemoteError` for one out of turn."""
        for data in order.unframer:
            self._take(order, protocol.read_asker(data), data)
            if not self._orders.here(order):
                return
        if order.state is State.QUOTED and (order.spend or len(order.unframer)):
            self._uploading(order)

    def _take(self, order: Order, message: protocol.FromAsker, data: bytes) -> None:
        match order.state, message:
            case State.ASKED, Want():
                self._answer_want(order, message, data)
            case State.QUOTED, Pay(body=spend) if order.pace is not None and not order.spend:
                order.spend = spend
            case State.QUOTED, Prompt():
                self._take_prompt(order, message)
            case _, Tick() if order.earning is not None:
                self._answering.paid(order, message)
            case _:
                raise RemoteError("a message out of turn")

    def _answer_want(self, order: Order, want: Want, message: bytes) -> None:
        """A later request of a circuit: it cannot be given a shape any more."""
        refusal = Refusal(Refuse.UNSUPPORTED) if want.rate else self._quoting.judge(want)
        if refusal is not None:
            self._orders.refuse(order, refusal)
            return
        offer = codec.frame(self._quote(order, want, message))
        if self._orders.free(order) >= len(offer):
            self._orders.say(order, offer)
        else:
            self._orders.give_up(order, Abort.OVERLOAD)

    def _uploading(self, order: Order) -> None:
        """Part of a prompt is there: the rest has its own time from the first byte on."""
        if order.upload_began is None:
            order.upload_began = self._orders.now
        until = order.upload_began + UPLOAD_WAIT + len(order.unframer) / UPLOAD_RATE
        self._orders.enter(order, State.QUOTED, until - self._orders.now, self._orders.silent)

    # --- a prompt: LOCKING and READY ---

    def _take_prompt(self, order: Order, prompt: Prompt) -> None:
        assert order.want is not None
        order.prompt_hash = tariff.hash_prompt(order.session, prompt.body)
        order.until = self._orders.now + prompt.deadline_ms / 1_000
        order.started = int(self._orders.now)
        question = body.read(prompt.body, order.want.work)
        settings = settings_of(prompt, order.want)
        for read in (settings, question):
            if isinstance(read, Refusal):
                self._orders.refuse(order, read)
                return
        assert isinstance(question, body.Question)
        assert isinstance(settings, Settings)
        sampling = replace(settings.sampling, bias=question.bias)
        order.settings = replace(settings, sampling=sampling)
        order.question = replace(question.prompt, date=prompt.date, parallel=settings.parallel)
        self._take_payment(order)

    def _take_payment(self, order: Order) -> None:
        if self._is_full():
            self._orders.refuse(order, Refusal(Refuse.BUSY))
        elif order.pace is None:
            self._prepare(order)
        elif not order.spend:
            self._orders.refuse(order, Refusal(Refuse.PAYMENT, Decline.TERMS))
        else:
            self._orders.enter(order, State.LOCKING, LOCK_WAIT, self._unlocked)
            lock = Lock(order.token, order.spend, order.session, order.pace.tick)
            self._orders.out(lock)

    def _is_full(self) -> bool:
        coming = self._orders.count(State.LOCKING, State.READY)
        return coming + self._desk.waiting >= WAITING_PER_SLOT * self._service.slots

    def _unlocked(self, order: Order) -> None:
        self._orders.refuse(order, Refusal(Refuse.PAYMENT, Decline.BUSY))

    def _locked(self, order: Order, result: Locked | Decline) -> None:
        if isinstance(result, Decline):
            self._orders.refuse(order, Refusal(Refuse.PAYMENT, result))
            return
        assert order.pace is not None
        order.spend = b""
        order.earning = Earning(order.pace, result)
        order.earning.settled_at = self._orders.now
        order.until = min(order.until, result.expiry - SETTLE_MARGIN)
        receipt = codec.frame(Pay(result.receipt).encode())
        if self._orders.free(order) < len(receipt) or order.until <= self._orders.now:
            self._orders.refuse(order, Refusal(Refuse.DEADLINE))
        else:
            self._orders.say(order, receipt)
            self._prepare(order)

    def _prepare(self, order: Order) -> None:
        assert order.question is not None
        left = order.until - self._orders.now
        self._orders.enter(order, State.READY, left, self._late)
        self._orders.out(Prepare(order.token, order.question))
        order.question = None

    # --- WAITING and RUNNING ---

    def _admit(self, order: Order, prepared: engine.Prepared) -> None:
        read, circuit = len(prepared.tokens), order.conversation.circuit
        most = self._most_tokens(order, read)
        if isinstance(most, Refusal):
            self._orders.refuse(order, most)
        elif not self._desk.admit(order.token, circuit, prompt=read, max_tokens=most):
            self._orders.refuse(order, Refusal(Refuse.BUSY))
        else:
            order.job = self._job(order, prepared, most)

    def _most_tokens(self, order: Order, read: int) -> int | Refusal:
        """How long the answer to a prompt of `read` tokens may be: by its asker, context, coins."""
        settings, want = order.settings, order.want
        assert settings is not None
        assert want is not None
        least, context = settings.max_tokens or 1, self._service.context
        most = min(settings.max_tokens or want.max_tokens, context - read)
        if most < least:
            return Refusal(Refuse.TOO_LONG, context)
        paid = order.earning.room(read) if order.earning is not None else None
        if paid is not None and paid < least:
            return Refusal(Refuse.PAYMENT, Decline.TERMS)
        return most if paid is None else min(most, paid)

    def _job(self, order: Order, prepared: engine.Prepared, max_tokens: int) -> Job:
        settings = order.settings
        assert settings is not None
        return Job(
            id=order.token,
            tag=order.conversation.tag,
            tokens=prepared.tokens,
            max_tokens=max_tokens,
            sampling=settings.sampling,
            stop=prepared.stop,
            logprobs=settings.logprobs,
            grammar=prepared.grammar,
            voice=prepared.voice,
        )

    def _dispatch(self) -> None:
        """Give free slots to those who are next."""
        while (token := self._desk.next()) is not None:
            order = self._orders.get(token, State.WAITING)
            assert order is not None
            left = order.until - self._orders.now
            self._orders.enter(order, State.RUNNING, left, self._late)
            assert order.job is not None
            self._orders.out(Generate(replace(order.job, deadline_s=SHARE * left)))

    def _late(self, order: Order) -> None:
        """The asker's limit has passed: the engine should have known before."""
        self._orders.refuse(order, Refusal(Refuse.DEADLINE, order.sent))

    # --- privates of all states ---

    def _order_at(self, place: Place) -> Order | None:
        """The request of a stream; a stream that is new gets one."""
        conversation = self._orders.conversation(place.circuit)
        if conversation is None:
            return None
        if place.stream <= conversation.newest:
            return conversation.orders.get(place.stream)
        order = self._orders.begin(conversation, place.stream)
        self._orders.enter(order, State.ASKED, QUOTE_WAIT, self._orders.silent)
        if len(conversation.orders) > MAX_STREAMS:
            self._orders.refuse(order, Refusal(Refuse.TOO_MANY))
            return None
        return order
