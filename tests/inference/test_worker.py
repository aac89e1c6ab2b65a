"""The worker's core alone: whom it serves, what it says, and that it keeps nothing."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference import body, protocol
from inference.answering import CLOSE_WAIT, LOOK_AGAIN, LOOK_RARELY, STALL
from inference.body import Field, Question
from inference.engine.base import (
    Begun,
    Channel,
    ChatMessage,
    Failed,
    Fault,
    Finished,
    Piece,
    Prefilled,
    Prepared,
    Reason,
    Usage,
)
from inference.engine.base import Prompt as EnginePrompt
from inference.limits import State as Manner
from inference.limits import Verdict
from inference.protocol import (
    PLAIN,
    Abort,
    Billed,
    Chunk,
    Need,
    Pay,
    Progress,
    Prompt,
    Refusal,
    Refuse,
    Setting,
    Tick,
    Want,
    Work,
)
from inference.quoting import MAX_QUOTES, OFFERS_PER_S
from inference.service import Service
from inference.serving import (
    BYTES_PER_TOKEN,
    LEAST_UPLOAD,
    QUOTE_WAIT,
    SHARE,
    UPLOAD_WAIT,
    Place,
    WorkerCore,
)
from inference.serving_effects import (
    Accept,
    Cancel,
    Deny,
    End,
    Generate,
    GiveUp,
    GoOn,
    Hold,
    Prepare,
    Say,
)
from ledger import tariff
from ledger.tariff import Count, Prices, Stop
from p2p import codec
from p2p.core import Command, step
from p2p.entropy import seeded
from p2p.identity import Identity

NOW = 1_795_000_000.0
WORKER = Identity(b"w" * 32)
SERVICE = Service(
    identity=b"m" * 32,
    numerics=b"numerics",
    context=4_096,
    slots=1,
    prompt_rate=100.0,
    answer_rate=10.0,
    label="fake",
)
WANT = Want(
    work=Work.CHAT, identity=b"m" * 32, nonce=b"n" * 16, needs=Need.NONE, size_class=4, max_tokens=8
)
BODY = body.write(
    Question(prompt=EnginePrompt(messages=(ChatMessage(role="user", content="hi"),), stop=("x",)))
)
PROMPT = Prompt(nonce=b"s" * 16, date=20_780, deadline_ms=100_000, settings={0: 8, 1: 0}, body=BODY)
ROOMY = 1 << 20


class Worker:
    """A `WorkerCore` whose effects are kept, and an engine that says what a test wants."""

    def __init__(self, service=SERVICE):
        self.now = NOW
        self.room = ROOMY
        self.core = WorkerCore(WORKER, service, seeded(1), lambda circuit: self.room)
        self.effects = []

    def do(self, run):
        return self._step([Command("test", run)])

    def wait(self, seconds):
        self.now += seconds
        return self._step([])

    def _step(self, commands):
        sends, events = step(self.core, self.now, commands, [])
        assert sends == []
        self.effects += events
        return events

    def decides(self, state, until=None):
        verdict = Verdict(state=state, until=until)
        return self.do(lambda core, now: core.verdict(now, verdict))

    def asks(self, circuit=1, want=WANT):
        """A circuit comes in with a want; the effect that answers."""
        request = PLAIN + want.encode()
        (answer,) = self.do(lambda core, now: core.incoming(now, circuit, request))
        return answer

    def sends(self, message, circuit=1, stream=1):
        data = codec.frame(message if isinstance(message, bytes) else message.encode())
        return self.hears(data, circuit, stream)

    def hears(self, data, circuit=1, stream=1):
        return self.do(lambda core, now: core.receive(now, Place(circuit, stream), data))

    def prompts(self, circuit=1, prompt=PROMPT):
        """A want and its prompt; the `Prepare` that follows."""
        self.asks(circuit)
        (prepare,) = self.sends(prompt, circuit)
        assert isinstance(prepare, Prepare), prepare
        return prepare

    def prepares(self, token, tokens=12):
        prepared = Prepared(tokens=tuple(range(tokens)), stop=(b"x",))
        return self.do(lambda core, now: core.prepared(now, token, prepared))

    def runs(self, circuit=1, **kwargs):
        """A job that has its slot; its token."""
        prepare = self.prompts(circuit, **kwargs)
        (generate,) = self.prepares(prepare.token)
        assert isinstance(generate, Generate)
        return generate.job

    def engine(self, token, *events):
        said = []
        for event in events:
            said += self.do(lambda core, now, event=event: core.generated(now, token, event))
        return said

    @property
    def nothing_left(self):
        sizes = self.core.sizes()
        return not any(sizes[name] for name in sizes if name != "circuits")


def said(effects, circuit=1, stream=1):
    """The messages among effects."""
    data = b"".join(e.data for e in effects if isinstance(e, Say) and e.circuit == circuit)
    unframer = codec.Unframer(protocol.MAX_ANSWER)
    unframer.feed(data)
    return [protocol.read_worker(message) for message in unframer]


def refusal(effect):
    """The refusal in a circuit's reply."""
    assert isinstance(effect, Deny)
    return protocol.read_worker(effect.reply.removeprefix(PLAIN))


PIECE = Piece(first=0, ids=(1, 2), text="wild silk")
DONE = Finished(reason=Reason.STOP, usage=Usage(prompt=12, completion=2))


@pytest.fixture
def worker():
    return Worker()


# --- an answer ---


def test_an_answer_from_want_to_receipt(worker):
    accept = worker.asks()
    assert isinstance(accept, Accept)
    signed = accept.reply.removeprefix(PLAIN)
    offer = protocol.read_offer(signed, WORKER.public, WANT.encode())
    assert (offer.ahead, offer.wait_s, offer.valid_s) == (0, 0, 20)
    assert (offer.prices, offer.tick, offer.tick_tokens) == (Prices(), 0, 0)
    assert (offer.prompt_rate, offer.answer_rate, offer.context) == (100, 10, 4_096)

    (prepare,) = worker.sends(PROMPT)
    assert prepare.prompt == EnginePrompt(
        messages=(ChatMessage(role="user", content="hi"),), stop=("x",), date=20_780
    )
    (generate,) = worker.prepares(prepare.token)
    job = generate.job
    assert (job.id, job.max_tokens, job.stop) == (prepare.token, 8, (b"x",))
    assert (job.sampling.nonce, job.sampling.temperature) == (b"s" * 16, 0)
    assert job.deadline_s == pytest.approx(SHARE * 100, abs=1e-3)

    worker.wait(2)
    told = worker.engine(job.id, Begun(prompt=12, cached=0), Prefilled(done=12), PIECE)
    assert said(told) == [
        Progress(prompt=12, cached=0, done=0),
        Progress(prompt=12, cached=0, done=12),
        Chunk(first=0, ids=(1, 2), text="wild silk"),
    ]
    told = worker.engine(job.id, DONE)
    (billed,) = said(told)
    assert isinstance(billed, Billed)
    assert told[-1] == End(1, 1)
    receipt = tariff.verify(billed.receipt, WORKER.public)
    session = protocol.session_of(signed)
    assert receipt == tariff.Receipt(
        offer=session,
        model=b"m" * 32,
        prompt_hash=tariff.hash_prompt(session, BODY),
        answer_hash=tariff.hash_answer(session, b"wild silk"),
        tokens=Count(prompt=12, completion=2),
        cost=tariff.cost(Count(), Prices()),
        ticks=0,
        stop=Stop.STOP,
        started=int(NOW),
        ended=int(NOW + 2),
        worker=WORKER.id,
    )
    assert worker.nothing_left
    assert worker.core.statistics().answered == 1
    assert worker.core.statistics().tokens == 2


def test_a_later_request_of_a_circuit_asks_on_its_own_stream(worker):
    job = worker.runs()
    worker.engine(job.id, PIECE, DONE)
    want = replace(WANT, nonce=b"2" * 16)
    (say,) = worker.sends(want, stream=2)
    (signed,) = unframed(say.data)
    protocol.read_offer(signed, WORKER.public, want.encode())
    (prepare,) = worker.sends(PROMPT, stream=2)
    (generate,) = worker.prepares(prepare.token)
    assert generate.job.tag == job.tag
    told = worker.engine(generate.job.id, PIECE, DONE)
    assert told[-1] == End(1, 2)
    assert worker.runs(circuit=7).tag != job.tag


def unframed(data):
    unframer = codec.Unframer(protocol.MAX_UPLOAD)
    unframer.feed(data)
    return list(unframer)


def test_the_core_knows_no_asker_but_its_circuit(worker):
    """All that a record holds: bytes of the protocol, numbers, and this worker's own values."""
    worker.prompts()
    (order,) = worker.core._orders._orders.values()
    assert set(type(order).__dataclass_fields__) == {
        *("token", "conversation", "stream", "state", "timer", "unframer", "upload_began"),
        *("want", "session", "pace", "spend", "question", "earning", "prompt_hash", "settings"),
        *("until", "started", "job", "read", "done", "told", "beat", "outbox", "sent", "reasoned"),
        *("answer", "held_since", "said_at", "look", "looks", "owed", "ending", "billed"),
    }
    assert set(type(order.conversation).__dataclass_fields__) == {
        *("circuit", "tag", "newest", "orders", "said")
    }


def test_the_prompt_is_not_kept_once_it_is_prepared(worker):
    prepare = worker.prompts()
    worker.prepares(prepare.token)
    (order,) = worker.core._orders._orders.values()
    assert len(order.unframer) == 0
    assert not any(b"hi" in bytes(v) for v in vars_of(order) if isinstance(v, bytes | bytearray))


def vars_of(order):
    return [getattr(order, name) for name in type(order).__dataclass_fields__]


# --- wants ---


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"identity": b"x" * 32}, Refusal(Refuse.NO_MODEL)),
        ({"work": Work.EMBED}, Refusal(Refuse.UNSUPPORTED)),
        ({"rate": 5}, Refusal(Refuse.UNSUPPORTED)),
        ({"needs": Need.TOOLS | Need.GRAMMAR}, Refusal(Refuse.UNSUPPORTED, 3)),
        ({"size_class": 14}, Refusal(Refuse.TOO_LONG, 4_096)),
    ],
)
def test_a_want_that_cannot_be_met_is_refused(worker, change, expected):
    assert refusal(worker.asks(want=replace(WANT, **change))) == expected
    assert worker.core.statistics().refusals == {expected.code.name.lower(): 1}
    assert worker.core.sizes()["circuits"] == 0


def test_a_paused_or_leaving_worker_or_a_dead_engine_refuses(worker):
    worker.decides(Manner.PAUSE)
    assert refusal(worker.asks()) == Refusal(Refuse.PAUSED)
    worker.decides(Manner.PAUSE, until=NOW + 7.5)
    assert refusal(worker.asks()) == Refusal(Refuse.PAUSED, 8)
    worker.decides(Manner.SERVE)
    worker.do(lambda core, now: core.model(now, ready=False))
    assert refusal(worker.asks()) == Refusal(Refuse.BUSY)
    worker.do(lambda core, now: core.model(now, ready=True))
    assert isinstance(worker.asks(), Accept)
    worker.do(lambda core, now: core.drain_out(now))
    assert refusal(worker.asks(2)) == Refusal(Refuse.PAUSED)
    assert worker.core.idle


def test_pausing_lets_what_was_offered_go_on(worker):
    worker.asks()
    worker.decides(Manner.PAUSE)
    (prepare,) = worker.sends(PROMPT)
    (generate,) = worker.prepares(prepare.token)
    assert not worker.core.idle
    worker.engine(generate.job.id, PIECE, DONE)
    assert worker.core.idle


def test_a_stop_ends_what_runs_and_bills_what_was_said(worker):
    job = worker.runs()
    worker.engine(job.id, Begun(prompt=12, cached=0), Prefilled(done=12), PIECE)
    ends = worker.decides(Manner.STOP)
    assert ends[0] == Cancel(job.id)
    (billed,) = said(ends)
    receipt = tariff.verify(billed.receipt, WORKER.public)
    assert (receipt.stop, receipt.tokens) == (Stop.PAUSED, Count(prompt=12, completion=2))
    assert receipt.answer_hash == tariff.hash_answer(receipt.offer, b"wild silk")
    assert worker.engine(job.id, PIECE, DONE) == []
    assert worker.nothing_left
    assert worker.core.idle


def test_a_stop_says_no_to_whatever_has_no_answer_yet(worker):
    worker.asks(1)  # quoted
    preparing = worker.prompts(2)
    running = worker.runs(3)
    waiting = worker.prompts(4)
    worker.prepares(waiting.token)
    ends = worker.decides(Manner.STOP, until=NOW + 60)
    for circuit in (1, 2, 3, 4):
        assert said(ends, circuit) == [Refusal(Refuse.PAUSED, 60)]
    cancelled = {effect.token for effect in ends if isinstance(effect, Cancel)}
    assert cancelled == {preparing.token, running.id}
    assert worker.nothing_left
    assert refusal(worker.asks(5)) == Refusal(Refuse.PAUSED, 60)


def test_a_model_that_has_to_be_loaded_first_is_a_longer_wait(worker):
    worker.do(lambda core, now: core.model(now, ready=True, seconds=12.5))
    signed = worker.asks().reply.removeprefix(PLAIN)
    assert protocol.read_offer(signed, WORKER.public, WANT.encode()).wait_s == 12


@pytest.mark.parametrize("request_", [b"", b"\0", b"\1" + WANT.encode(), b"\0" + b"garbage"])
def test_a_request_that_is_no_want_is_refused_and_counted(worker, request_):
    (deny,) = worker.do(lambda core, now: core.incoming(now, 1, request_))
    assert refusal(deny) == Refusal(Refuse.BAD_REQUEST, Field.WANT)
    assert worker.core.statistics().misbehaved == 1


def test_at_most_so_many_offers_a_second(worker):
    answers = [worker.asks(circuit) for circuit in range(OFFERS_PER_S + 1)]
    assert isinstance(answers[-2], Accept)
    assert refusal(answers[-1]) == Refusal(Refuse.BUSY)
    worker.wait(1.0)
    assert isinstance(worker.asks(99), Accept)


def test_at_most_so_many_quotes_stand(worker):
    for circuit in range(MAX_QUOTES + 1):
        answer = worker.asks(circuit)
        worker.wait(0.06)
        if circuit < MAX_QUOTES:
            assert isinstance(answer, Accept), circuit
    assert refusal(answer) == Refusal(Refuse.BUSY)
    worker.wait(QUOTE_WAIT)
    assert isinstance(worker.asks(999), Accept)


def test_the_offer_says_how_long_the_queue_is(worker):
    worker.runs(1)
    for circuit in (2, 3):
        prepare = worker.prompts(circuit)
        worker.prepares(prepare.token)
    assert refusal(worker.asks(4)) == Refusal(Refuse.BUSY)
    worker.do(lambda core, now: core.lost(now, 3))
    accept = worker.asks(4)
    offer = protocol.read_offer(accept.reply[1:], WORKER.public, WANT.encode())
    assert offer.ahead == 2
    # one waiting prompt of 12 tokens at 100/s, and half of twice 8 tokens at 10/s
    assert offer.wait_s == 0
    assert offer.answer_rate == 10


# --- prompts ---


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"body": b"{}"}, Refusal(Refuse.BAD_REQUEST, Field.MESSAGES)),
        ({"body": b"["}, Refusal(Refuse.BAD_REQUEST, Field.JSON)),
        ({"body": BODY[:-1] + b',"images":[]}'}, Refusal(Refuse.UNSUPPORTED, Need.VISION)),
        ({"body": BODY[:-1] + b',"tools":[1]}'}, Refusal(Refuse.BAD_REQUEST, Field.TOOLS)),
        ({"settings": {1: 2_001}}, Refusal(Refuse.BAD_REQUEST, Setting.TEMPERATURE)),
        ({"settings": {0: 0}}, Refusal(Refuse.BAD_REQUEST, Setting.MAX_TOKENS)),
        ({"settings": {0: 9}}, Refusal(Refuse.BAD_REQUEST, Setting.MAX_TOKENS)),
        ({"settings": {5: -2_001}}, Refusal(Refuse.BAD_REQUEST, Setting.FREQUENCY)),
        ({"settings": {77: 1}}, Refusal(Refuse.BAD_REQUEST, Field.UNKNOWN)),
        ({"settings": {9: 1}}, Refusal(Refuse.UNSUPPORTED)),
    ],
)
def test_a_prompt_that_cannot_be_answered_is_refused(worker, change, expected):
    worker.asks()
    told = worker.sends(replace(PROMPT, **change))
    assert said(told) == [expected]
    assert told[-1] == End(1, 1)
    assert worker.nothing_left


def test_without_a_limit_an_answer_may_fill_the_context(worker):
    worker.asks(want=replace(WANT, max_tokens=2**31 - 1))
    (prepare,) = worker.sends(replace(PROMPT, settings={}))
    (generate,) = worker.prepares(prepare.token, tokens=96)
    assert generate.job.max_tokens == 4_000


@pytest.mark.parametrize("tokens", [4_089, 4_096, 5_000])
def test_a_prompt_too_long_for_the_context_is_refused(worker, tokens):
    prepare = worker.prompts()
    assert said(worker.prepares(prepare.token, tokens=tokens)) == [Refusal(Refuse.TOO_LONG, 4_096)]
    assert worker.nothing_left


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Failed(fault=Fault.TOO_LONG, detail=4_096), Refusal(Refuse.TOO_LONG, 4_096)),
        (Failed(fault=Fault.BAD_TEMPLATE, detail=3), Refusal(Refuse.BAD_TEMPLATE, 3)),
        (Failed(fault=Fault.BUSY), Refusal(Refuse.BUSY)),
        (Failed(fault=Fault.DIED), Refusal(Refuse.ENGINE, Fault.DIED)),
        (Failed(fault=Fault.NO_MODEL, detail=-1), Refusal(Refuse.ENGINE, Fault.NO_MODEL)),
    ],
)
def test_what_the_engine_cannot_prepare_is_refused(worker, fault, expected):
    prepare = worker.prompts()
    told = worker.do(lambda core, now: core.prepared(now, prepare.token, fault))
    assert said(told) == [expected]
    assert worker.nothing_left


@pytest.mark.parametrize("fault", Fault)
def test_every_fault_has_a_refusal(worker, fault):
    job = worker.runs()
    told = worker.engine(job.id, PIECE, Failed(fault=fault))
    assert isinstance(said(told)[-1], Refusal)
    assert worker.nothing_left


def test_more_prompts_than_may_wait_are_refused(worker):
    for circuit in range(1, 6):
        worker.asks(circuit)
    worker.sends(PROMPT, 1)
    worker.sends(PROMPT, 2)
    assert said(worker.sends(PROMPT, 3), 3) == [Refusal(Refuse.BUSY)]


def test_a_circuit_may_not_fill_the_queue_alone():
    worker = Worker(replace(SERVICE, slots=3))
    worker.asks()
    for stream in (2, 3, 4):
        worker.sends(replace(WANT, nonce=bytes([stream]) * 16), stream=stream)
    told = []
    for stream in (1, 2, 3, 4):
        (prepare,) = worker.sends(PROMPT, stream=stream)
        told += worker.prepares(prepare.token)
    assert [type(effect) for effect in told] == [Generate, Say, End]
    assert said(told) == [Refusal(Refuse.BUSY)]


def test_a_later_want_is_judged_too_and_an_offer_needs_room(worker):
    worker.asks()
    other = replace(WANT, identity=b"x" * 32)
    assert said(worker.sends(other, stream=2)) == [Refusal(Refuse.NO_MODEL)]
    worker.room = 100
    assert worker.sends(WANT, stream=3) == [GiveUp(1, 3, Abort.OVERLOAD)]
    worker.room = 0
    assert worker.sends(other, stream=4) == [GiveUp(1, 4, Abort.SILENT)]


# --- out of turn ---


@pytest.mark.parametrize(
    "message",
    [
        Pay(b""),
        Tick(0, b"x" * 32),
        WANT,
        b"garbage",
        b"",
        PROMPT.encode() + b"\0",
        Refusal(Refuse.BUSY).encode(),
    ],
)
def test_what_is_out_of_turn_resets_the_stream(worker, message):
    worker.asks()
    assert worker.sends(message) == [GiveUp(1, 1, Abort.PROTOCOL)]
    assert worker.core.statistics().misbehaved == 1
    assert worker.nothing_left
    assert worker.sends(PROMPT) == []


@pytest.mark.parametrize("message", [PROMPT, WANT, Tick(0, b"x" * 32)])
def test_nothing_more_may_come_once_the_prompt_is_there(worker, message):
    job = worker.runs()
    told = worker.sends(message)
    assert told == [GiveUp(1, 1, Abort.PROTOCOL), Cancel(job.id)]
    assert worker.nothing_left


def test_a_message_longer_than_any_resets_the_stream(worker):
    worker.asks()
    told = worker.hears((4 * 2**20 + 1).to_bytes(4, "little"))
    assert told == [GiveUp(1, 1, Abort.PROTOCOL)]


def test_a_new_stream_begins_with_a_want(worker):
    worker.asks()
    assert worker.sends(PROMPT, stream=2) == [GiveUp(1, 2, Abort.PROTOCOL)]
    assert worker.sends(WANT, stream=2) == []
    assert worker.hears(b"bytes of nobody", circuit=55) == []


def test_one_circuit_has_only_so_many_requests_at_once(worker):
    worker.asks()
    for stream in (2, 3, 4):
        worker.sends(replace(WANT, nonce=bytes([stream]) * 16), stream=stream)
    told = worker.sends(WANT, stream=5)
    assert said(told) == [Refusal(Refuse.TOO_MANY)]


def test_a_prompt_that_no_context_holds_is_not_taken_in(worker):
    worker.asks()
    most = LEAST_UPLOAD + BYTES_PER_TOKEN * SERVICE.context
    told = worker.hears((most + 1).to_bytes(4, "little"))
    assert told == [GiveUp(1, 1, Abort.PROTOCOL)]


def test_prompts_that_arrive_are_bounded_together():
    worker = Worker(replace(SERVICE, context=2**18))
    pile = bytes(4 * 2**20 - 100)
    for circuit in range(16):
        worker.asks(circuit)
        worker.hears((4 * 2**20).to_bytes(4, "little") + pile, circuit)
    worker.asks(16)
    told = worker.hears((4 * 2**20).to_bytes(4, "little") + pile, 16)
    assert told == [GiveUp(16, 1, Abort.OVERLOAD)]
    assert worker.core.sizes()["prompt_bytes"] <= 64 * 2**20


# --- time ---


def test_a_quote_stands_twenty_seconds(worker):
    worker.asks()
    assert worker.wait(QUOTE_WAIT - 0.1) == []
    assert worker.wait(0.1) == [GiveUp(1, 1, Abort.SILENT)]
    assert worker.nothing_left


def test_a_prompt_that_has_begun_has_its_own_time(worker):
    worker.asks()
    worker.wait(19)
    data = codec.frame(replace(PROMPT, body=bytes(40_960)).encode())
    worker.hears(data[:20_480])
    assert worker.wait(UPLOAD_WAIT + 4.9) == []
    assert worker.wait(0.2) == [GiveUp(1, 1, Abort.SILENT)]


def test_a_stream_without_a_want_is_given_up(worker):
    worker.asks()
    worker.hears(b"\0", stream=2)
    told = worker.wait(QUOTE_WAIT)
    assert GiveUp(1, 2, Abort.SILENT) in told


def test_a_silent_engine_is_given_up_at_the_askers_limit(worker):
    prepare = worker.prompts()
    assert worker.wait(99.9) == []
    told = worker.wait(0.1)
    assert said(told) == [Refusal(Refuse.DEADLINE)]
    assert told[-1] == Cancel(prepare.token)
    assert worker.nothing_left


def test_waiting_and_running_end_at_the_askers_limit_too(worker):
    job = worker.runs(1)
    waiting = worker.prompts(2, replace(PROMPT, deadline_ms=50_000))
    assert worker.prepares(waiting.token) == []
    worker.engine(job.id, PIECE)
    assert said(worker.wait(50), 2) == [Refusal(Refuse.DEADLINE)]
    told = worker.wait(50)
    assert said(told) == [Refusal(Refuse.DEADLINE, 2)]
    assert told[-1] == Cancel(job.id)
    assert worker.nothing_left


def test_the_slot_goes_to_the_next_when_a_job_ends_however_it_does(worker):
    jobs = {1: worker.runs(1)}
    for circuit in (2, 3):
        worker.prepares(worker.prompts(circuit).token)
    told = worker.engine(jobs[1].id, PIECE, DONE)
    second = next(e for e in told if isinstance(e, Generate))
    told = worker.do(lambda core, now: core.lost(now, 2))
    assert told[0] == Cancel(second.job.id)
    third = told[1]
    assert isinstance(third, Generate)
    told = worker.do(lambda core, now: core.reset(now, 3, 1))
    assert told == [Cancel(third.job.id)]
    assert worker.nothing_left


# --- leaving ---


@pytest.mark.parametrize("how", ["reset", "lost"])
def test_an_asker_that_leaves_stops_the_engine_in_every_state(worker, how):
    def leave(circuit):
        if how == "lost":
            return worker.do(lambda core, now: core.lost(now, circuit))
        return worker.do(lambda core, now: core.reset(now, circuit, 1))

    worker.asks(1)
    assert leave(1) == []
    prepare = worker.prompts(2)
    assert leave(2) == [Cancel(prepare.token)]
    assert worker.prepares(prepare.token) == []
    job = worker.runs(3)
    waiting = worker.prompts(4)
    worker.prepares(waiting.token)
    assert leave(4) == []
    assert leave(3) == [Cancel(job.id)]
    assert worker.engine(job.id, PIECE, DONE) == []
    job = worker.runs(5)
    worker.room = 0
    worker.engine(job.id, PIECE, DONE)
    assert leave(5) == []
    assert worker.nothing_left
    assert worker.wait(1_000) == []


# --- an asker that reads slowly ---


def test_a_full_circuit_pauses_the_engine_and_goes_on_at_half(worker):
    job = worker.runs()
    worker.room = 0
    piece = Piece(first=0, ids=tuple(range(256)), text="x" * 256)
    assert worker.engine(job.id, piece) == []
    over = replace(piece, first=256, ids=(256,), text="")
    assert worker.engine(job.id, over) == [Hold(job.id)]
    worker.room = 1_116
    told = worker.wait(LOOK_AGAIN)
    assert [type(effect) for effect in told] == [Say, GoOn]
    worker.room = ROOMY
    told += worker.wait(LOOK_AGAIN)
    assert [id_ for chunk in said(told) for id_ in chunk.ids] == list(range(257))


def test_room_is_counted_within_a_step_too(worker):
    job = worker.runs()
    worker.room = 3 * 1_116
    told = worker.engine(job.id, Piece(first=0, ids=(), text="x" * 10_000))
    assert len(told) <= 4
    assert sum(len(effect.data) for effect in told if isinstance(effect, Say)) <= worker.room


def test_an_asker_that_takes_nothing_is_given_up(worker):
    job = worker.runs()
    worker.room = 0
    worker.engine(job.id, Piece(first=0, ids=tuple(range(300)), text=""))
    told = []
    for _ in range(int(STALL / LOOK_RARELY) + 4):
        told += worker.wait(LOOK_RARELY)
    assert told == [GiveUp(1, 1, Abort.SILENT), Cancel(job.id)]
    assert worker.nothing_left


def test_an_end_that_cannot_be_said_is_given_up(worker):
    job = worker.runs()
    worker.room = 0
    worker.engine(job.id, PIECE, DONE)
    assert worker.wait(CLOSE_WAIT - 1) == []
    assert worker.wait(1) == [GiveUp(1, 1, Abort.SILENT)]
    assert worker.nothing_left


def test_a_receipt_waits_for_what_is_unsent(worker):
    job = worker.runs()
    worker.room = 0
    assert worker.engine(job.id, PIECE, DONE) == []
    worker.room = 1_116
    told = worker.wait(LOOK_AGAIN)
    assert [type(message) for message in said(told)] == [Chunk]
    told = worker.wait(LOOK_AGAIN)
    assert [type(message) for message in said(told)] == [Billed]


def test_progress_is_left_out_when_there_is_no_room(worker):
    job = worker.runs()
    worker.room = 5
    assert worker.engine(job.id, Begun(prompt=12, cached=0), Prefilled(done=12)) == []


def test_a_long_prompt_is_never_silent(worker):
    job = worker.runs()
    assert worker.wait(20) == []
    worker.engine(job.id, Begun(prompt=12, cached=0))
    told = []
    for _ in range(6):
        told += worker.wait(2)
    assert said(told) == [Progress(prompt=12, cached=0, done=0)] * 2
    worker.engine(job.id, PIECE)
    assert worker.wait(20) == []


def test_channels_and_logprobs_pass(worker):
    job = worker.runs(prompt=replace(PROMPT, settings={7: 1}))
    assert job.logprobs == 1
    piece = Piece(
        first=0,
        ids=(4,),
        text="hm",
        channel=Channel.REASONING,
        logprobs=(-0.5,),
        top=(((4, -0.5),),),
        texts=((b"hm", b"hm"),),
    )
    (chunk,) = said(worker.engine(job.id, piece))
    assert chunk == Chunk(
        first=0,
        ids=(4,),
        text="hm",
        channel=1,
        logprobs=(500,),
        top=(((4, 500),),),
        texts=((b"hm", b"hm"),),
    )


# --- whatever comes ---


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.binary(max_size=80))))
def test_no_bytes_raise_or_stay(pieces):
    worker = Worker()
    for circuit in (1, 2, 3):
        worker.asks(circuit)
    for circuit, stream, data in pieces:
        worker.hears(data, circuit, stream)
    worker.wait(200)
    assert worker.nothing_left


def test_a_service_lists_itself_within_an_advert():
    listed = SERVICE.listing()
    assert (listed.identity, listed.context, listed.slots) == (b"m" * 32, 4_096, 1)
    assert (listed.prompt_rate, listed.answer_rate, tuple(listed.prices)) == (100, 10, (0, 0))
    fast = replace(SERVICE, prompt_rate=1e9, answer_rate=0.4).listing()
    assert (fast.prompt_rate, fast.answer_rate) == (65_535, 0)


@pytest.mark.parametrize("wrong", [{"slots": 0}, {"context": 0}, {"answer_rate": 0.0}])
def test_a_service_that_cannot_serve_is_an_error_of_ours(wrong):
    with pytest.raises(ValueError, match="above 0"):
        replace(SERVICE, **wrong)
