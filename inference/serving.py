"""The worker's core: quotes, takes prompts, has them answered, streams; knows no askers.

    state      of a stream that            leaves it when                    its timer
    ASKED      opened without a want       the want comes                    20 s
    QUOTED     has an offer                the prompt is whole               20 s; from its first
                                                                             byte 30 s + 1 s/4 KiB
    READY      has a prompt                the engine has made tokens of it  the asker's
    WAITING    is let in                   a slot is free                    the asker's
    RUNNING    holds a slot                the engine says the end           the asker's
    CLOSING    has its end, not all said   all is said                       60 s

What leaves the table is gone: later bytes of that stream are ignored. Bytes that break the
protocol, or that come in a state that does not expect them, reset the stream and are counted. An
engine's job bears the token of its order, and a tag of its circuit: only jobs of one circuit may
share computed prefixes. A circuit is all that is known of an asker.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final, TypeAlias, final

from inference import body, protocol
from inference.engine import base as engine
from inference.engine.base import Job
from inference.order import STOPS, Conversation, Order, Settings, State, refusal_of, settings_of
from inference.pieces import CELL
from inference.protocol import (
    PLAIN,
    Abort,
    Billed,
    Offer,
    Progress,
    Prompt,
    Refusal,
    Refuse,
    Want,
    Work,
)
from inference.schedule import MAX_PROMPT_BYTES, WAITING_PER_SLOT, Desk
from inference.service import Service, WorkerStatistics, rate
from ledger import tariff
from ledger.tariff import Count, Receipt
from p2p import codec
from p2p.core import Deadlines, Event, Send, Source
from p2p.entropy import Entropy
from p2p.errors import RemoteError
from p2p.identity import Identity
from p2p.onion.cell import CircuitId

# --- what the core wants done ---


@dataclass(frozen=True, slots=True)
class Accept:
    """Answer an incoming circuit with yes."""

    circuit: CircuitId
    reply: bytes


@dataclass(frozen=True, slots=True)
class Deny:
    """Answer an incoming circuit with no."""

    circuit: CircuitId
    reply: bytes


@dataclass(frozen=True, slots=True)
class Say:
    """Send on a stream; there is room for it."""

    circuit: CircuitId
    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """Nothing follows on a stream."""

    circuit: CircuitId
    stream: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Reset a stream."""

    circuit: CircuitId
    stream: int
    code: Abort


@dataclass(frozen=True, slots=True)
class Prepare:
    """Have the engine make tokens of a prompt: `prepared` answers."""

    token: int
    prompt: engine.Prompt


@dataclass(frozen=True, slots=True)
class Generate:
    """Have the engine answer: `generated` tells each of its events. `job.id` is the token."""

    job: Job


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop preparing or generating; no event of it may follow."""

    token: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Pause generating: the asker is slower than the model."""

    token: int


@dataclass(frozen=True, slots=True)
class GoOn:
    """End a `Hold`."""

    token: int


Effect: TypeAlias = Accept | Deny | Say | End | GiveUp | Prepare | Generate | Cancel | Hold | GoOn


MAX_QUOTES: Final = 256
"""offers that stand at once"""

OFFERS_PER_S: Final = 20

MAX_STREAMS: Final = 4
"""requests of one circuit at once: one running, two waiting, one quoted"""

QUOTE_WAIT: Final = float(protocol.OFFER_VALID)
UPLOAD_WAIT: Final = 30.0
UPLOAD_RATE: Final = 4_096
CLOSE_WAIT: Final = 60.0
"""seconds, and bytes a second; the table above says of what"""

STALL: Final = 60.0
"""seconds a job may be held because its asker takes nothing"""

BEAT: Final = 5.0
"""seconds between two words on a prompt that is being read"""

LOOK_AGAIN: Final = 0.05
"""seconds until a circuit without room is looked at again"""

SHARE: Final = 0.95
"""The engine has this part of the time that the asker gives, to fail first and say why."""


@dataclass(frozen=True, slots=True)
class Place:
    """The source of bytes: a stream of a circuit."""

    circuit: CircuitId
    stream: int


@final
class WorkerCore:
    """See the module. `room` says how many bytes a circuit takes now; it has no effect."""

    def __init__(
        self,
        identity: Identity,
        service: Service,
        entropy: Entropy,
        room: Callable[[CircuitId], int],
    ) -> None:
        if not service.prices.free:
            raise ValueError("nobody can pay yet: prices must be 0")
        self._identity = identity
        self._service = service
        self._entropy = entropy
        self._room = room

        self._now = 0.0
        self._out: list[Event] = []
        self._deadlines = Deadlines()
        self._desk = Desk(service.slots)
        self._circuits: dict[CircuitId, Conversation] = {}
        self._orders: dict[int, Order] = {}
        self._tokens = 0
        self._offers: deque[float] = deque(maxlen=OFFERS_PER_S)

        self._paused = self._draining = False
        self._ready = True
        self._answered = self._answer_tokens = self._misbehaved = 0
        self._refusals: dict[str, int] = {}

    # --- commands ---

    def incoming(self, now: float, circuit: CircuitId, request: bytes) -> None:
        """A circuit wants to end here; `Accept` or `Deny` answers."""
        self._now = now
        try:
            want = protocol.read_request(request)
        except RemoteError:
            self._misbehaved += 1
            self._deny(circuit, Refusal(Refuse.BAD_REQUEST, body.Field.WANT))
            return
        refusal = self._judge(want)
        if refusal is not None:
            self._deny(circuit, refusal)
            return
        conversation = self._circuits[circuit] = Conversation(circuit, self._entropy.token(16))
        order = self._begin(conversation, 1)
        offer = self._quote(order, want, request.removeprefix(PLAIN))
        self._out.append(Accept(circuit, PLAIN + offer))

    def receive(self, now: float, source: Source, datagram: bytes) -> None:
        """Bytes of a stream; the source is a `Place`."""
        self._now = now
        order = self._order_at(source) if isinstance(source, Place) else None
        if order is None:
            return
        order.unframer.feed(datagram)
        if self._held() > MAX_PROMPT_BYTES:
            self._give_up(order, Abort.OVERLOAD)
            return
        try:
            self._read(order)
        except RemoteError:
            self._misbehaved += 1
            self._give_up(order, Abort.PROTOCOL)

    def reset(self, now: float, circuit: CircuitId, stream: int) -> None:
        """The asker gave a stream up."""
        self._now = now
        order = self._find(circuit, stream)
        if order is not None:
            self._forget(order)
            self._dispatch()

    def lost(self, now: float, circuit: CircuitId) -> None:
        """A circuit is gone."""
        self._now = now
        conversation = self._circuits.pop(circuit, None)
        if conversation is not None:
            for order in list(conversation.orders.values()):
                self._forget(order)
            self._dispatch()

    def prepared(self, now: float, token: int, result: engine.Prepared | engine.Failed) -> None:
        """The engine has read a prompt."""
        self._now = now
        order = self._orders.get(token)
        if order is None or order.state is not State.READY:
            return
        self._enter(order, State.WAITING, order.until - now, self._late)
        if isinstance(result, engine.Failed):
            self._refuse(order, refusal_of(result))
        else:
            self._admit(order, result)
        self._dispatch()

    def generated(self, now: float, token: int, event: engine.JobEvent) -> None:
        """The engine says something of a job."""
        self._now = now
        order = self._orders.get(token)
        if order is None or order.state is not State.RUNNING:
            return
        match event:
            case engine.Begun(prompt=prompt, cached=cached):
                order.read = prompt, cached
                self._progress(order, cached)
            case engine.Prefilled(done=done):
                self._progress(order, done)
            case engine.Piece():
                order.outbox.put(event)
                self._flush(order)
            case engine.Finished() | engine.Failed():
                self._close(order, event)

    def model(self, now: float, *, ready: bool) -> None:
        """Whether the engine can take jobs; until it can, nothing is offered."""
        self._now = now
        self._ready = ready

    def drain_out(self, now: float) -> None:
        """No new offers any more: this worker is leaving."""
        self._now = now
        self._draining = True

    def pause(self, now: float) -> None:
        """No new offers; what was offered or runs goes on."""
        self._now = now
        self._paused = True

    def resume(self, now: float) -> None:
        """Offer again."""
        self._now = now
        self._paused = False

    @property
    def idle(self) -> bool:
        """Whether nothing is being answered; offers do not count."""
        return all(order.state in (State.ASKED, State.QUOTED) for order in self._orders.values())

    # --- the core's contract ---

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self._now = now
        self._deadlines.run(now)

    def next_deadline(self) -> float | None:
        """When something is due."""
        return self._deadlines.next()

    def drain(self) -> tuple[list[Send], list[Event]]:
        """Effects, in order."""
        out, self._out = self._out, []
        for conversation in self._circuits.values():
            conversation.said = 0
        return [], out

    def sizes(self) -> dict[str, int]:
        """The length of every table."""
        desk = {f"desk.{name}": size for name, size in self._desk.sizes().items()}
        return {
            "circuits": len(self._circuits),
            "orders": len(self._orders),
            "prompt_bytes": self._held(),
            "timers": len(self._deadlines),
            **desk,
        }

    def statistics(self) -> WorkerStatistics:
        """A snapshot."""
        return WorkerStatistics(
            paused=self._paused,
            draining=self._draining,
            quoted=self._count(State.QUOTED),
            waiting=self._count(State.READY) + self._count(State.WAITING),
            running=self._count(State.RUNNING) + self._count(State.CLOSING),
            answered=self._answered,
            tokens=self._answer_tokens,
            refusals=dict(self._refusals),
            misbehaved=self._misbehaved,
        )

    # --- ASKED and QUOTED ---

    def _judge(self, want: Want) -> Refusal | None:
        """Why a want cannot be offered anything, if so."""
        service = self._service
        if self._paused or self._draining:
            return Refusal(Refuse.PAUSED)
        if want.identity != service.identity:
            return Refusal(Refuse.NO_MODEL)
        if want.work not in (Work.CHAT, Work.TEXT) or want.rate:
            return Refusal(Refuse.UNSUPPORTED)
        missing = int(want.needs) & ~service.flags
        if missing:
            return Refusal(Refuse.UNSUPPORTED, missing)
        if (1 << want.size_class) // 4 >= service.context:
            return Refusal(Refuse.TOO_LONG, service.context)
        return Refusal(Refuse.BUSY) if not self._ready or self._crowded() else None

    def _crowded(self) -> bool:
        oldest = self._offers[0] if len(self._offers) == OFFERS_PER_S else -1.0
        return (
            self._desk.full or self._now - oldest < 1.0 or self._count(State.QUOTED) >= MAX_QUOTES
        )

    def _quote(self, order: Order, want: Want, message: bytes) -> bytes:
        """The signed offer; nothing is reserved by it."""
        ahead, wait = self._queue()
        share = min(self._desk.running + 1, self._service.slots)
        offer = Offer(
            want=sha256(message).digest(),
            identity=self._service.identity,
            numerics=self._service.numerics,
            prices=self._service.prices,
            ahead=min(ahead, 255),
            wait_s=min(int(wait), 2**16 - 1),
            context=self._service.context,
            prompt_rate=rate(self._service.prompt_rate / share),
            answer_rate=rate(self._service.answer_rate / share),
            assurance=self._service.assurance,
            nonce=self._entropy.token(16),
        ).sign(self._identity)
        self._offers.append(self._now)
        order.want = want
        order.session = protocol.session_of(offer)
        self._enter(order, State.QUOTED, QUOTE_WAIT, self._silent)
        return offer

    def _queue(self) -> tuple[int, float]:
        """Jobs before a new one, and the seconds until it may begin."""
        if self._desk.running < self._service.slots:
            return 0, 0.0
        prompts, answers = self._desk.tokens_ahead
        seconds = prompts / self._service.prompt_rate + answers / self._service.answer_rate
        return self._desk.waiting + self._desk.running, seconds / self._service.slots

    def _read(self, order: Order) -> None:
        """Take the messages that are whole. Raises `RemoteError` for one out of turn."""
        for data in order.unframer:
            message = protocol.read_asker(data)
            match order.state, message:
                case State.ASKED, Want():
                    self._answer_want(order, message, data)
                case State.QUOTED, Prompt():
                    self._take_prompt(order, message)
                case _:
                    raise RemoteError("a message out of turn")
            if order.token not in self._orders:
                return
        if order.state is State.QUOTED and len(order.unframer):
            self._uploading(order)

    def _answer_want(self, order: Order, want: Want, message: bytes) -> None:
        refusal = self._judge(want)
        if refusal is not None:
            self._refuse(order, refusal)
            return
        offer = codec.frame(self._quote(order, want, message))
        if self._free(order) >= len(offer):
            self._say(order, offer)
        else:
            self._give_up(order, Abort.OVERLOAD)

    def _uploading(self, order: Order) -> None:
        """Part of a prompt is there: the rest has its own time from the first byte on."""
        if order.upload_began is None:
            order.upload_began = self._now
        until = order.upload_began + UPLOAD_WAIT + len(order.unframer) / UPLOAD_RATE
        self._enter(order, State.QUOTED, until - self._now, self._silent)

    # --- READY ---

    def _take_prompt(self, order: Order, prompt: Prompt) -> None:
        assert order.want is not None
        order.prompt_hash = tariff.hash_prompt(order.session, prompt.body)
        order.until = self._now + prompt.deadline_ms / 1_000
        order.started = int(self._now)
        question = body.read(prompt.body, order.want.work)
        settings = settings_of(prompt, order.want)
        for read in (settings, question):
            if isinstance(read, Refusal):
                self._refuse(order, read)
                return
        if self._count(State.READY) + self._desk.waiting >= WAITING_PER_SLOT * self._service.slots:
            self._refuse(order, Refusal(Refuse.BUSY))
            return
        assert isinstance(question, body.Question)
        assert isinstance(settings, Settings)
        sampling = replace(settings.sampling, bias=question.bias)
        order.settings = replace(settings, sampling=sampling)
        self._enter(order, State.READY, order.until - self._now, self._late)
        self._out.append(Prepare(order.token, replace(question.prompt, date=prompt.date)))

    # --- WAITING and RUNNING ---

    def _admit(self, order: Order, prepared: engine.Prepared) -> None:
        settings = order.settings
        assert settings is not None
        assert order.want is not None
        read, context = len(prepared.tokens), self._service.context
        most = min(settings.max_tokens or order.want.max_tokens, context - read)
        if most < (settings.max_tokens or 1):
            self._refuse(order, Refusal(Refuse.TOO_LONG, context))
            return
        circuit = order.conversation.circuit
        if not self._desk.admit(order.token, circuit, prompt=read, max_tokens=most):
            self._refuse(order, Refusal(Refuse.BUSY))
            return
        order.job = Job(
            id=order.token,
            tag=order.conversation.tag,
            tokens=prepared.tokens,
            max_tokens=most,
            sampling=settings.sampling,
            stop=prepared.stop,
            logprobs=settings.logprobs,
            grammar=prepared.grammar,
            opens_reasoning=prepared.opens_reasoning,
        )

    def _dispatch(self) -> None:
        """Give free slots to those who are next."""
        while (token := self._desk.next()) is not None:
            order = self._orders[token]
            left = order.until - self._now
            self._enter(order, State.RUNNING, left, self._late)
            assert order.job is not None
            self._out.append(Generate(replace(order.job, deadline_s=SHARE * left)))

    def _progress(self, order: Order, done: int) -> None:
        """Tell how much of the prompt is read, now and every few seconds until the answer."""
        order.done = min(done, sum(order.read))
        if order.beat is not None:
            order.beat.cancel()
        order.beat = self._deadlines.at(self._now + BEAT, lambda: self._beat(order))
        prompt, cached = order.read
        data = codec.frame(Progress(prompt=prompt, cached=cached, done=order.done).encode())
        if self._free(order) >= len(data):
            self._say(order, data)

    def _beat(self, order: Order) -> None:
        """A long step of the model is no silence."""
        order.beat = None
        if order.state is State.RUNNING and not order.sent and not len(order.outbox):
            self._progress(order, order.done)

    def _flush(self, order: Order) -> None:
        """Say what there is room for; hold the job while its asker is too slow."""
        while len(order.outbox) and self._free(order) >= CELL:
            chunk = order.outbox.take()
            self._say(order, codec.frame(chunk.encode()))
            order.sent += len(chunk.ids)
            order.answer += chunk.text.encode()
        if order.state is State.RUNNING:
            self._hold_or_go_on(order)
        if len(order.outbox):
            self._look_again(order)
        elif order.ending is not None:
            self._finish(order, order.ending)

    def _hold_or_go_on(self, order: Order) -> None:
        if order.held_since is None and order.outbox.too_full:
            order.held_since = self._now
            self._out.append(Hold(order.token))
        elif order.held_since is not None and order.outbox.half_empty:
            order.held_since = None
            self._out.append(GoOn(order.token))

    def _look_again(self, order: Order) -> None:
        if order.look is None:
            order.look = self._deadlines.at(self._now + LOOK_AGAIN, lambda: self._looked(order))

    def _looked(self, order: Order) -> None:
        order.look = None
        if order.held_since is not None and self._now - order.held_since > STALL:
            self._give_up(order, Abort.SILENT)
        else:
            self._flush(order)

    # --- CLOSING ---

    def _close(self, order: Order, ending: engine.Finished | engine.Failed) -> None:
        """The engine is through with a job: its slot is free, what is unsent leaves first."""
        self._desk.leave(order.token)
        order.ending = ending
        self._enter(order, State.CLOSING, CLOSE_WAIT, self._silent)
        self._flush(order)
        self._dispatch()

    def _finish(self, order: Order, ending: engine.Finished | engine.Failed) -> None:
        if self._free(order) < CELL:
            self._look_again(order)
        elif isinstance(ending, engine.Failed):
            self._refuse(order, refusal_of(ending, sent=order.sent))
        else:
            billed = Billed(
                receipt=tariff.sign(self._receipt(order, ending), self._identity),
                numerics=self._service.numerics,
            )
            self._say(order, codec.frame(billed.encode()))
            self._answered += 1
            self._answer_tokens += order.sent
            self._end(order)

    def _receipt(self, order: Order, finished: engine.Finished) -> Receipt:
        usage = finished.usage
        count = Count(usage.prompt, usage.cached, usage.completion, usage.reasoning)
        return Receipt(
            offer=order.session,
            model=self._service.identity,
            prompt_hash=order.prompt_hash,
            answer_hash=tariff.hash_answer(order.session, bytes(order.answer)),
            tokens=count,
            cost=tariff.cost(count, self._service.prices),
            ticks=0,
            stop=STOPS[finished.reason],
            started=order.started,
            ended=int(self._now),
            worker=self._identity.id,
        )

    # --- ends ---

    def _silent(self, order: Order) -> None:
        self._give_up(order, Abort.SILENT)

    def _late(self, order: Order) -> None:
        """The asker's limit has passed: the engine should have known before."""
        self._refuse(order, Refusal(Refuse.DEADLINE, order.sent))
        self._dispatch()

    def _refuse(self, order: Order, refusal: Refusal) -> None:
        """Say no, or no more."""
        self._note(refusal)
        data = codec.frame(refusal.encode())
        if self._free(order) >= len(data):
            self._say(order, data)
            self._end(order)
        else:
            self._give_up(order, Abort.SILENT)

    def _deny(self, circuit: CircuitId, refusal: Refusal) -> None:
        self._note(refusal)
        self._out.append(Deny(circuit, PLAIN + refusal.encode()))

    def _note(self, refusal: Refusal) -> None:
        name = refusal.code.name.lower()
        self._refusals[name] = self._refusals.get(name, 0) + 1

    def _end(self, order: Order) -> None:
        self._out.append(End(order.conversation.circuit, order.stream))
        self._forget(order)

    def _give_up(self, order: Order, code: Abort) -> None:
        self._out.append(GiveUp(order.conversation.circuit, order.stream, code))
        self._forget(order)
        self._dispatch()

    def _forget(self, order: Order) -> None:
        """Drop a conversation, and with it what the engine does for it."""
        if order.state in (State.READY, State.RUNNING):
            self._out.append(Cancel(order.token))
        self._desk.leave(order.token)
        for handle in (order.timer, order.look, order.beat):
            if handle is not None:
                handle.cancel()
        del self._orders[order.token]
        del order.conversation.orders[order.stream]

    # --- privates of all states ---

    def _order_at(self, place: Place) -> Order | None:
        """The conversation of a stream; a stream that is new gets one."""
        conversation = self._circuits.get(place.circuit)
        if conversation is None:
            return None
        if place.stream <= conversation.newest:
            return conversation.orders.get(place.stream)
        order = self._begin(conversation, place.stream)
        self._enter(order, State.ASKED, QUOTE_WAIT, self._silent)
        if len(conversation.orders) > MAX_STREAMS:
            self._refuse(order, Refusal(Refuse.TOO_MANY))
            return None
        return order

    def _begin(self, conversation: Conversation, stream: int) -> Order:
        self._tokens += 1
        conversation.newest = stream
        order = conversation.orders[stream] = Order(self._tokens, conversation, stream)
        self._orders[order.token] = order
        return order

    def _find(self, circuit: CircuitId, stream: int) -> Order | None:
        conversation = self._circuits.get(circuit)
        return conversation.orders.get(stream) if conversation is not None else None

    def _enter(
        self, order: Order, state: State, seconds: float, then: Callable[[Order], None]
    ) -> None:
        if order.timer is not None:
            order.timer.cancel()
        order.state = state
        order.timer = self._deadlines.at(self._now + seconds, lambda: then(order))

    def _say(self, order: Order, data: bytes) -> None:
        order.conversation.said += len(data)
        self._out.append(Say(order.conversation.circuit, order.stream, data))

    def _held(self) -> int:
        return sum(len(order.unframer) for order in self._orders.values())

    def _count(self, state: State) -> int:
        return sum(order.state is state for order in self._orders.values())

    def _free(self, order: Order) -> int:
        """Bytes that the circuit takes, less what this step has said already."""
        return self._room(order.conversation.circuit) - order.conversation.said
