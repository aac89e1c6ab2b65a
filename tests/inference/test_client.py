"""The asker's core alone, against every way in which a worker or a circuit can fail it."""

from dataclasses import replace
from hashlib import sha256

import pytest

from inference import protocol
from inference.asking import (
    JOIN_WAIT,
    OPEN_WAIT,
    PATIENCE_PAUSE,
    RECEIPT_WAIT,
    SHARE,
    UPLOAD_WAIT,
    AskCore,
    State,
)
from inference.asking_effects import Leave, Open, Resume, Upload
from inference.blame import PATIENCE
from inference.engine.base import ChatMessage
from inference.market import BAN, COOL_LOST, COOL_REFUSED, Known, Memory, Reason
from inference.mending import MEND_PAUSE, MEND_WAIT
from inference.protocol import (
    PLAIN,
    Abort,
    Billed,
    Chunk,
    Evidence,
    Offer,
    Pay,
    Progress,
    Refusal,
    Refuse,
    Want,
)
from inference.request import AskFailed, AskRequest, Chosen, Done, Offered, Piece, Policy
from inference.request import Progress as Read
from inference.trial import SILENCE
from ledger import tariff
from ledger.money import ZERO, Nano
from ledger.tariff import Count, Prices, Receipt, Stop
from p2p import codec
from p2p.core import Command, step
from p2p.entropy import seeded
from p2p.identity import Identity
from p2p.onion import events as onion
from p2p.onion.cell import Code as Hop
from p2p.onion.cell import FailCode
from p2p.onion.shaping import Shaping

NOW = 1_795_000_000.0
MODEL = b"m" * 32
KNOWN = Known(base="fake", quant="f0", file=b"f" * 32, identity=MODEL)
QUESTION = AskRequest(
    messages=(ChatMessage(role="user", content="What is wild silk?"),), max_tokens=8
)
RELAYS = tuple(bytes([n]) * 32 for n in (101, 102, 103))


class Asker:
    """An `AskCore`, and a worker that says what a test wants it to."""

    def __init__(self, entries, request=QUESTION, **policy):
        self.entries = entries
        self.now = NOW
        self.policy = Policy(
            **{"known": (KNOWN,), "entropy": seeded(4), "memory": Memory(), **policy}
        )
        self.core = AskCore(request, self.policy, b"a" * 32)
        self.events = []
        self.opens = []
        self.left = []
        self.resumes = []
        self.upload = None
        self.do(lambda core, now: core.start(now))

    # --- driving ---

    def do(self, run):
        self._step([Command("test", run)])

    def wait(self, seconds):
        self.now += seconds
        self._step([])

    def _step(self, commands):
        sends, events = step(self.core, self.now, commands, [])
        assert sends == []
        for event in events:
            self._handle(event)

    def _handle(self, event):
        match event:
            case Open():
                self.opens.append(event)
                path = [*RELAYS, event.worker][-1 - self.policy.relays :]
                self.do(lambda core, now: core.opening(now, event.attempt, path))
            case Resume():
                self.resumes.append(event)
            case Upload():
                self.upload = event
            case Leave():
                self.left.append(event.attempt)
            case _:
                self.events.append(event)

    @property
    def last(self):
        return self.events[-1]

    @property
    def attempt(self):
        return self.opens[-1].attempt

    def listed(self):
        self.do(lambda core, now: core.listed(now, self.entries))
        return self

    # --- the worker's side ---

    @property
    def worker(self):
        """The identity of whoever is being asked."""
        entry = next(e for e in self.entries if e.id == self.opens[-1].worker)
        number = next(n for n in range(1, 40) if identity(n).id == entry.id)
        return identity(number)

    def offer(self, **changes):
        want = self.opens[-1].request.removeprefix(PLAIN)
        offer = Offer(
            want=sha256(want).digest(),
            identity=MODEL,
            numerics=b"numerics",
            prices=Prices(),
            ahead=0,
            wait_s=0,
            context=4_096,
            prompt_rate=450,
            answer_rate=140,
            nonce=b"n" * 16,
        )
        return replace(offer, **changes)

    def opened(self, reply=None, **changes):
        """The circuit opens with an offer."""
        attempt = self.attempt
        self.offered = reply or PLAIN + self.offer(**changes).sign(self.worker)
        self.do(lambda core, now: core.opened(now, attempt, self.offered))
        return self

    def uploaded(self):
        attempt = self.attempt
        self.do(lambda core, now: core.uploaded(now, attempt))
        return self

    def streaming(self, **changes):
        return self.listed().opened(**changes).uploaded()

    @property
    def prompt(self):
        (message,) = unframed(self.upload.data)
        return protocol.read_asker(message)

    def says(self, *messages):
        for message in messages:
            self.hears(codec.frame(message.encode()))
        return self

    def hears(self, data):
        attempt = self.attempt
        self.do(lambda core, now: core.receive(now, attempt, data))

    def refuses(self, *refusal):
        """At the circuit's end, before the prompt."""
        reason = PLAIN + Refusal(*refusal).encode()
        self.fails(3, Hop.REFUSED, reason)

    def fails(self, hop, status, reason=b""):
        attempt = self.attempt
        self.do(lambda core, now: core.failed(now, attempt, hop, status, reason))

    def loses(self, hop, code=FailCode.NEXT_LOST):
        attempt = self.attempt
        self.do(lambda core, now: core.lost(now, attempt, hop, code))

    def breaks(self, hop, code=FailCode.NEXT_LOST):
        attempt = self.attempt
        self.do(lambda core, now: core.broken(now, attempt, hop, code))
        return self

    def fails_again(self, hop, status):
        attempt = self.attempt
        self.do(lambda core, now: core.unresumed(now, attempt, hop, status))
        return self

    def goes_on(self, path=RELAYS):
        attempt, worker = self.attempt, self.opens[-1].worker
        self.do(lambda core, now: core.resuming(now, attempt, [*path, worker]))
        self.do(lambda core, now: core.resumed(now, attempt))
        return self

    def receipt(self, text="", written=0, signer=None, **changes):
        session = protocol.session_of(self.offered.removeprefix(PLAIN))
        receipt = Receipt(
            offer=session,
            model=MODEL,
            prompt_hash=tariff.hash_prompt(session, self.prompt.body),
            answer_hash=tariff.hash_answer(session, text.encode()),
            tokens=Count(prompt=12, completion=written),
            cost=ZERO,
            ticks=0,
            stop=Stop.STOP,
            started=int(self.now),
            ended=int(self.now),
            worker=self.worker.id,
        )
        return tariff.sign(replace(receipt, **changes), signer or self.worker)

    def bills(self, *args, **changes):
        numerics = changes.pop("numerics", b"numerics")
        return self.says(Billed(receipt=self.receipt(*args, **changes), numerics=numerics))


def identity(number):
    return Identity(number.to_bytes(32, "big"))


def unframed(data):
    unframer = codec.Unframer(protocol.MAX_UPLOAD)
    unframer.feed(data)
    return list(unframer)


ANSWER = Chunk(first=0, ids=(1, 2), text="wild silk")


@pytest.fixture
def workers(entry):
    return [entry(number) for number in (1, 2, 3, 4)]


@pytest.fixture
def asker(workers):
    def made(request=QUESTION, **policy):
        return Asker(workers, request, **policy)

    return made


# --- an answer ---


def test_an_answer_and_the_states_on_the_way(asker):
    ask = asker(QUESTION)
    seen = [ask.core.state]
    for go in (
        ask.listed,
        ask.opened,
        ask.uploaded,
        lambda: ask.says(Progress(prompt=12, cached=0, done=12), ANSWER),
        lambda: ask.says(Chunk(first=2, ids=(3, 4, 5, 6, 7, 8), text=" of moths", channel=0)),
        lambda: ask.bills("wild silk of moths", 8, stop=Stop.LENGTH),
    ):
        ask.wait(0.5)
        go()
        seen.append(ask.core.state)
    assert seen == [
        *(State.DRAW, State.OPENING, State.OFFERED, State.STREAMING, State.STREAMING),
        *(State.CHECKING, State.DONE),
    ]
    assert [type(event) for event in ask.events] == [Chosen, Offered, Read, Piece, Piece, Done]
    done = ask.last
    assert (done.text, done.ids, done.finish) == (
        "wild silk of moths",
        tuple(range(1, 9)),
        "length",
    )
    assert done.usage.prompt == 12
    assert done.path == (*RELAYS, done.worker)
    assert done.model == KNOWN.name
    assert done.slots == 4
    assert done.timing.first_token == 2_000
    assert done.timing.total == 3_000
    assert ask.left == [1]
    assert ask.core.next_deadline() is None


def test_channels_are_kept_apart(asker):
    ask = asker().streaming()
    ask.says(Chunk(first=0, ids=(1,), text="hm", channel=1), Chunk(first=1, ids=(2,), text="yes"))
    ask.bills("hmyes", tokens=Count(prompt=12, completion=1, reasoning=1))
    assert (ask.last.text, ask.last.reasoning) == ("yes", "hm")


def test_a_message_may_come_in_pieces_of_any_size(asker):
    ask = asker().streaming()
    for byte in codec.frame(ANSWER.encode()):
        ask.hears(bytes([byte]))
    assert ask.last.text == "wild silk"


def test_the_prompt_fills_in_defaults_and_carries_the_time_that_is_left(asker):
    ask = asker(deadline_s=100.0).listed()
    ask.wait(5)
    ask.opened()
    prompt = ask.prompt
    assert prompt.settings == {0: 8, 1: 800, 2: 950, 3: 40, 4: 0, 5: 0, 6: 0, 7: 0}
    assert prompt.deadline_ms == int(1_000 * SHARE * (SHARE * 100 - 5))
    assert prompt.date == int(NOW // 86_400)
    assert b"silk" in prompt.body
    assert 0 not in asker(replace(QUESTION, max_tokens=None)).streaming().prompt.settings


def test_the_nonce_is_the_callers_the_seeds_or_new(asker):
    assert asker(replace(QUESTION, nonce=b"x" * 16)).streaming().prompt.nonce == b"x" * 16
    seed = asker(replace(QUESTION, seed=7)).streaming().prompt.nonce
    assert seed == protocol.nonce_of_seed(7)
    fresh = [asker(entropy=seeded(n)).streaming().prompt.nonce for n in (1, 2)]
    assert fresh[0] != fresh[1]


def test_nothing_that_leaves_names_the_asker(asker):
    ask = asker().streaming()
    for sent in (ask.opens[0].request, ask.upload.data):
        assert b"a" * 32 not in sent
    want = protocol.read_request(ask.opens[0].request)
    assert want == Want(
        work=protocol.Work.CHAT,
        identity=MODEL,
        nonce=want.nonce,
        size_class=protocol.size_class(ask.prompt.body),
        max_tokens=8,
        rate=4,
    )


@pytest.mark.parametrize(
    ("changes", "rate"),
    [
        ({}, 4),
        ({"swift": True}, 10),
        ({"shaping": Shaping.OFF}, 0),
        ({"shaping": Shaping.OFF, "swift": True}, 0),
    ],
)
def test_the_worker_is_asked_for_the_rate_that_the_circuit_has(asker, changes, rate):
    (opened,) = asker(**changes).streaming().opens
    assert protocol.read_request(opened.request).rate == opened.rate == rate


# --- lies: each ends in another worker before the answer, in a clear error within it ---

LIES_BEFORE = {
    "no offer": lambda ask: ask.opened(b"garbage"),
    "an empty reply": lambda ask: ask.opened(PLAIN),
    "a resumed offer": lambda ask: ask.opened(b"\x01" + ask.offer().sign(ask.worker)),
    "an offer of another's": lambda ask: ask.opened(PLAIN + ask.offer().sign(identity(30))),
    "an offer for another want": lambda ask: ask.opened(want=b"w" * 32),
    "an offer of another model": lambda ask: ask.opened(identity=b"x" * 32),
    "cached dearer than prompt": lambda ask: ask.opened(prices=Prices(prompt=1, cached=2)),
    "a refusal that is none": lambda ask: ask.fails(3, Hop.REFUSED, b"\0\0\0"),
    "a chunk as a refusal": lambda ask: ask.fails(3, Hop.REFUSED, PLAIN + ANSWER.encode()),
    "an offer as a refusal": lambda ask: ask.fails(
        3, Hop.REFUSED, PLAIN + ask.offer().sign(ask.worker)
    ),
}


def calls(ask, line):
    """The answer goes on with the call of a tool, and ends with it."""
    ask.says(Chunk(first=2, ids=(9,), text=line, channel=2))
    return ask.bills(f"wild silk{line}", 3, stop=Stop.TOOL_CALLS)


LIES_WITHIN = {
    "a gap": lambda ask: ask.says(replace(ANSWER, first=3)),
    "an overlap": lambda ask: ask.says(replace(ANSWER, first=1)),
    "more tokens than asked for": lambda ask: ask.says(
        Chunk(first=2, ids=tuple(range(9)), text="")
    ),
    "an empty chunk": lambda ask: ask.says(Chunk(first=2, ids=(), text="")),
    "no receipt": lambda ask: ask.do(lambda core, now: core.ended(now, ask.attempt)),
    "a frame too long": lambda ask: ask.hears((2**16 + 1).to_bytes(4, "little")),
    "no message": lambda ask: ask.hears(codec.frame(b"garbage")),
    "a broken character": lambda ask: ask.hears(
        codec.frame(codec.pack([5, 2, b"\1\0\0", b"\xff", 0, None, None, None]))
    ),
    "a payment": lambda ask: ask.says(Pay(b"")),
    "evidence": lambda ask: ask.says(Evidence(b"")),
    "an offer": lambda ask: ask.hears(codec.frame(ask.offer().sign(ask.worker))),
    "a want": lambda ask: ask.hears(codec.frame(ask.opens[0].request.removeprefix(PLAIN))),
    "a prompt of more tokens than bytes": lambda ask: ask.says(
        Progress(prompt=10_000, cached=0, done=0)
    ),
    "a prompt counted anew": lambda ask: ask.says(
        Progress(prompt=12, cached=0, done=0), Progress(prompt=13, cached=0, done=0)
    ),
    "a receipt of another's": lambda ask: ask.bills("wild silk", 2, signer=identity(30)),
    "a receipt for another": lambda ask: ask.bills("wild silk", 2, worker=identity(30).id),
    "a receipt of another offer": lambda ask: ask.bills("wild silk", 2, offer=b"o" * 32),
    "a receipt of another model": lambda ask: ask.bills("wild silk", 2, model=b"x" * 32),
    "a receipt of another prompt": lambda ask: ask.bills("wild silk", 2, prompt_hash=b"p" * 32),
    "a receipt of another answer": lambda ask: ask.bills("tame silk", 2),
    "a receipt of more tokens": lambda ask: ask.bills("wild silk", 3),
    "a receipt of more prompt": lambda ask: ask.bills(
        "wild silk", tokens=Count(prompt=9_999, completion=2)
    ),
    "a receipt that costs": lambda ask: ask.bills("wild silk", 2, cost=Nano(1)),
    "a receipt with ticks": lambda ask: ask.bills("wild silk", 2, ticks=1),
    "a receipt of another class": lambda ask: ask.bills("wild silk", 2, numerics=b"other..."),
    "cancelled by nobody": lambda ask: ask.bills("wild silk", 2, stop=Stop.CANCELLED),
    "unpaid and free": lambda ask: ask.bills("wild silk", 2, stop=Stop.UNPAID),
    "a length not reached": lambda ask: ask.bills("wild silk", 2, stop=Stop.LENGTH),
    "a call that is no JSON": lambda ask: calls(ask, "[\n"),
    "a call of half a character": lambda ask: calls(
        ask, '{"name": "moth", "arguments": {"a": "\\ud800"}}\n'
    ),
    "a call of no number": lambda ask: calls(ask, '{"name": "moth", "arguments": {"a": NaN}}\n'),
    "a call without arguments": lambda ask: calls(ask, '{"name": "moth"}\n'),
    "a receipt cut short": lambda ask: ask.says(
        Billed(receipt=ask.receipt("wild silk", 2)[:-1], numerics=b"numerics")
    ),
}


def test_calls_of_tools_are_read_once_the_receipt_is_there(asker):
    line = '{"name": "moth", "arguments": {"legs": 6}}\n'
    ask = calls(asker().streaming().says(ANSWER), line * 2)
    done = ask.last
    assert (done.text, done.finish) == ("wild silk", "tool_calls")
    assert [(call.name, call.arguments) for call in done.calls] == [("moth", '{"legs": 6}')] * 2
    assert len({call.id for call in done.calls}) == 2


def banned(ask, worker):
    return ask.policy.memory.excludes(ask.now, worker, worker) is Reason.BANNED


@pytest.mark.parametrize("lie", LIES_BEFORE)
def test_a_lie_before_the_answer_is_another_workers_turn(asker, lie):
    ask = asker().listed()
    liar = ask.opens[-1].worker
    LIES_BEFORE[lie](ask)
    assert banned(ask, liar)
    assert ask.opens[-1].worker != liar
    assert ask.core.state is State.OPENING
    assert ask.left == [1]
    ask.opened().uploaded().says(ANSWER).bills("wild silk", 2)
    assert [refused.reason for refused in ask.last.refusals] == ["lied"]


@pytest.mark.parametrize("lie", LIES_WITHIN)
def test_a_lie_within_the_answer_is_an_error_with_the_text(asker, lie):
    ask = asker().streaming().says(ANSWER)
    liar = ask.opens[-1].worker
    LIES_WITHIN[lie](ask)
    failed = ask.last
    assert isinstance(failed, AskFailed)
    assert failed.code == "worker_lost"
    assert failed.text == "wild silk"
    assert "broke the protocol" in failed.message
    assert (failed.worker, ask.left) == (liar, [1])
    assert banned(ask, liar)
    assert ask.core.next_deadline() is None


def test_more_text_than_an_answer_may_have_is_a_lie(asker):
    ask = asker().streaming()
    while ask.core.state is State.STREAMING:
        ask.says(Chunk(first=0, ids=(), text="x" * 1_000))
    assert ask.last.code == "worker_lost"
    assert 4 * 2**20 - 1_000 < len(ask.last.text) <= 4 * 2**20


def test_three_liars_end_the_ask(asker):
    ask = asker().listed()
    for _ in range(3):
        ask.opened(b"garbage")
    assert ask.last.code == "worker_lost"
    assert [refused.reason for refused in ask.last.refusals] == ["lied"] * 3
    assert len({refused.worker for refused in ask.last.refusals}) == 3


# --- refusals ---

NEXT_WORKER = {
    (Refuse.BUSY, 0): "busy",
    (Refuse.PAUSED, 60): "busy",
    (Refuse.NO_MODEL, 0): "all_refused",
    (Refuse.UNSUPPORTED, 4): "all_refused",
    (Refuse.PAYMENT, 5): "mint_unreachable",
    (Refuse.PAYMENT, 6): "all_refused",
    (Refuse.ENGINE, 7): "worker_lost",
    (Refuse.TOO_MANY, 0): "busy",
    (Refuse.DEADLINE, 0): "busy",
    (Refuse.UNPAID, 0): "all_refused",
}


@pytest.mark.parametrize(("refusal", "code"), NEXT_WORKER.items())
@pytest.mark.parametrize("late", [False, True])
def test_a_refusal_before_the_answer_is_another_workers_turn(asker, refusal, code, late):
    if refusal[0] is Refuse.PAYMENT and not late:
        code = "mint_unreachable"
    ask = asker().listed()
    for _ in range(3):
        first = ask.opens[-1].worker
        if late:
            ask.opened().uploaded().says(Refusal(*refusal))
        else:
            ask.refuses(*refusal)
        assert ask.policy.memory.excludes(ask.now, first, first) is Reason.COOLING
        assert ask.policy.memory.excludes(ask.now + COOL_REFUSED, first, first) is None
    assert ask.last.code == code
    assert len(ask.last.refusals) == 3


@pytest.mark.parametrize("code", [Refuse.BAD_REQUEST, Refuse.BAD_GRAMMAR, Refuse.BAD_TEMPLATE])
def test_a_bad_request_is_the_callers(asker, code):
    ask = asker().streaming().says(Refusal(code, 3))
    assert ask.last.code == "invalid_request"
    assert len(ask.opens) == 1


@pytest.mark.parametrize(
    ("number", "name"), [(1, "temperature"), (17, "messages"), (200, "field 200")]
)
def test_a_bad_request_names_the_field(asker, number, name):
    ask = asker().streaming().says(Refusal(Refuse.BAD_REQUEST, number))
    assert name in ask.last.message


def test_a_bad_request_before_the_prompt_is_not_believed(asker):
    ask = asker().listed()
    ask.refuses(Refuse.BAD_REQUEST, 3)
    assert len(ask.opens) == 2


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (Refusal(Refuse.DEADLINE, 2), "deadline"),
        (Refusal(Refuse.ENGINE, 9), "worker_lost"),
        (Refusal(Refuse.UNPAID, 2), "worker_lost"),
        (Refusal(Refuse.BUSY), "worker_lost"),
    ],
)
def test_a_refusal_within_the_answer_ends_with_what_came(asker, refusal, code):
    ask = asker().streaming().says(ANSWER, refusal)
    assert (ask.last.code, ask.last.text) == (code, "wild silk")


def test_too_long_is_the_callers_once_nobody_has_a_larger_context(entry):
    workers = [entry(1, context=1_024), entry(2, context=2_048), entry(3, context=2_048)]
    ask = Asker(workers, replace(QUESTION, max_tokens=None)).listed()
    sizes = {worker.id: worker.advert.models[0].context for worker in workers}
    tried = []
    while ask.core.state is State.OPENING:
        tried.append(sizes[ask.opens[-1].worker])
        ask.refuses(Refuse.TOO_LONG, tried[-1])
    assert tried in ([1_024, 2_048], [2_048])
    assert ask.last.code == "context_length_exceeded"


def test_a_price_above_the_cap_never_sees_the_prompt(asker):
    ask = asker().listed()
    for _ in range(3):
        ask.opened(prices=Prices(completion=1), tick=1, tick_tokens=16, step_ticks=1)
    assert ask.last.code == "price_above_cap"
    assert ask.upload is None
    assert ask.policy.memory.sizes() == {"cooling": 0, "banned": 0}


@pytest.mark.parametrize("terms", [{"assurance": 0}, {"context": 1_024}])
def test_an_offer_of_less_than_was_advertised_is_passed_over(entry, terms):
    workers = [entry(n, assurance=1, context=2_048) for n in (1, 2)]
    ask = Asker(workers, assurance=1).listed()
    if "context" in terms:
        ask.refuses(Refuse.TOO_LONG, 1_024)
        ask = Asker([entry(n, assurance=1, context=4_096) for n in (1, 2)], assurance=1).listed()
        ask.core._drawing.context_above = 2_048
    ask.opened(**{"assurance": 1, **terms})
    assert ask.upload is None
    assert len(ask.opens) == 2


def test_a_model_outside_the_catalogue_goes_by_its_workers_label(asker):
    ask = asker(known=()).listed()
    assert ask.events[0].model == "fake"


def test_an_offer_that_begins_after_the_deadline_is_passed_over(asker):
    ask = asker(deadline_s=60.0).listed().opened(wait_s=60)
    assert ask.upload is None
    assert len(ask.opens) == 2


# --- silence: every state has a timer ---


def test_nobody_to_join(asker):
    ask = asker()
    ask.wait(JOIN_WAIT - 0.1)
    assert ask.events == []
    ask.wait(0.1)
    assert ask.last.code == "joining_network"


def test_circuits_that_never_open(asker):
    ask = asker(deadline_s=1_000.0).listed()
    for opened in range(1, 7):
        assert len(ask.opens) == opened
        ask.wait(OPEN_WAIT)
    assert ask.last.code == "circuit_lost"
    assert ask.left == [1, 2, 3, 4, 5, 6]
    first = ask.opens[0].worker
    assert ask.policy.memory.excludes(ask.now - COOL_LOST + 1, first, first) is Reason.COOLING


@pytest.mark.parametrize(
    ("reach", "patience"),
    [
        (lambda ask: ask.listed().opened(), UPLOAD_WAIT),
        (lambda ask: ask.streaming(), SILENCE),
        (lambda ask: ask.streaming(wait_s=10), SILENCE + 20),
    ],
)
def test_a_worker_that_falls_silent_gives_way(asker, reach, patience):
    ask = asker()
    reach(ask)
    ask.wait(patience - 0.5)
    assert len(ask.opens) == 1
    ask.wait(1.0)
    assert len(ask.opens) == 2
    assert ask.core.state is State.OPENING


def test_a_worker_that_falls_silent_within_the_answer(asker):
    ask = asker().streaming().says(ANSWER)
    ask.wait(SILENCE - 1)
    ask.says(Chunk(first=2, ids=(3,), text="!"))
    ask.wait(SILENCE - 1)
    assert ask.core.state is State.STREAMING
    ask.wait(1)
    assert (ask.last.code, ask.last.text) == ("worker_lost", "wild silk!")
    assert "silent" in ask.last.message


def test_a_receipt_that_does_not_come(asker):
    ask = asker().streaming().says(Chunk(first=0, ids=tuple(range(8)), text="all"))
    ask.wait(RECEIPT_WAIT)
    assert (ask.last.code, ask.last.text) == ("worker_lost", "all")


@pytest.mark.parametrize(
    "reach",
    [
        lambda ask: ask,
        lambda ask: ask.listed(),
        lambda ask: ask.listed().opened(),
        lambda ask: ask.streaming(),
        lambda ask: ask.streaming().says(ANSWER),
        lambda ask: ask.streaming().says(Chunk(first=0, ids=tuple(range(8)), text="all")),
    ],
)
def test_the_ask_ends_before_the_callers_limit_in_every_state(asker, reach):
    ask = asker(deadline_s=4.0)
    reach(ask)
    ask.wait(3.75)
    assert not isinstance(ask.last, AskFailed) if ask.events else True
    ask.wait(0.05)
    assert ask.last.code == "deadline"
    assert ask.core.next_deadline() is None
    assert len(ask.left) == len(ask.opens)


@pytest.mark.parametrize(
    "reach",
    [
        lambda ask: ask,
        lambda ask: ask.listed(),
        lambda ask: ask.listed().opened(),
        lambda ask: ask.streaming(),
        lambda ask: ask.streaming().says(Chunk(first=0, ids=tuple(range(8)), text="all")),
        lambda ask: ask.streaming().says(ANSWER).bills("wild silk", 2),
    ],
)
def test_cancelling_leaves_the_circuit_in_every_state(asker, reach):
    ask = asker()
    reach(ask)
    told = len(ask.events)
    ask.do(lambda core, now: core.cancel(now))
    ask.do(lambda core, now: core.cancel(now))
    assert len(ask.events) == told
    assert ask.left == [opened.attempt for opened in ask.opens]
    assert ask.core.state is State.DONE
    assert ask.core.next_deadline() is None


@pytest.mark.parametrize(
    ("reach", "text"),
    [
        (lambda ask: ask, ""),
        (lambda ask: ask.listed(), ""),
        (lambda ask: ask.listed().opened(), ""),
        (lambda ask: ask.streaming().says(ANSWER), "wild silk"),
    ],
)
def test_who_stops_an_ask_hears_of_its_end_once(asker, reach, text):
    ask = asker()
    reach(ask)
    for _ in range(2):
        ask.do(lambda core, now: core.stop(now))
    assert [event.code for event in ask.events if isinstance(event, AskFailed)] == ["cancelled"]
    assert ask.last.text == text
    assert ask.left == [opened.attempt for opened in ask.opens]
    assert ask.core.next_deadline() is None


def test_an_ask_that_was_stopped_first_does_not_begin(entry):
    core = AskCore(QUESTION, Policy(known=(KNOWN,), entropy=seeded(4)), b"a" * 32)
    core.stop(NOW)
    core.start(NOW)
    (end,) = core.drain()[1]
    assert (end.code, core.next_deadline()) == ("cancelled", None)


def test_what_comes_after_the_end_or_from_an_older_try_is_ignored(asker):
    ask = asker().listed()
    old = ask.attempt
    offer = PLAIN + ask.offer().sign(ask.worker)
    ask.refuses(Refuse.BUSY)
    ask.do(lambda core, now: core.opened(now, old, offer))
    ask.do(lambda core, now: core.receive(now, old, b"garbage"))
    ask.do(lambda core, now: core.lost(now, old, None, 0))
    ask.do(lambda core, now: core.uploaded(now, old))
    assert ask.core.state is State.OPENING
    ask.opened().uploaded().says(ANSWER).bills("wild silk", 2)
    told = len(ask.events)
    ask.says(ANSWER)
    ask.loses(None)
    ask.do(lambda core, now: core.ended(now, ask.attempt))
    ask.do(lambda core, now: core.listed(now, ask.entries))
    assert len(ask.events) == told


# --- circuits ---


@pytest.mark.parametrize(
    ("hop", "status", "suspects"),
    [
        (None, onion.GUARD_UNREACHABLE, RELAYS[:1]),
        (None, onion.DESTROYED, RELAYS[:1]),
        (0, Hop.UNREACHABLE, RELAYS[1:2]),
        (1, Hop.UNREACHABLE, RELAYS[2:]),
        (1, Hop.BUSY, RELAYS[1:2]),
        (2, Hop.CLOSING, RELAYS[2:]),
        (2, Hop.UNREACHABLE, ()),
        (None, onion.TIMED_OUT, ()),
        (None, onion.BAD_REPLY, ()),
    ],
)
def test_the_culprit_is_gone_around_and_the_worker_asked_again(asker, hop, status, suspects):
    ask = asker().listed()
    first = ask.opens[-1]
    ask.fails(hop, status)
    again = ask.opens[-1]
    assert again.worker == first.worker
    assert again.attempt == first.attempt + 1
    assert again.request != first.request
    assert again.suspects == tuple(suspects)
    assert ask.policy.memory.sizes()["cooling"] == 0


def test_a_worker_out_of_reach_on_two_paths_gives_way(asker):
    ask = asker().listed()
    first = ask.opens[-1].worker
    ask.wait(PATIENCE)
    ask.fails(2, Hop.UNREACHABLE)
    ask.fails(2, Hop.UNKNOWN_NEXT)
    assert ask.opens[-1].worker != first
    assert ask.policy.memory.excludes(NOW, first, first) is Reason.COOLING


def test_relays_that_do_not_know_each_other_yet_are_asked_again(asker):
    ask = asker().listed()
    first = ask.opens[-1].worker
    for number in range(1, 13):
        assert len(ask.opens) == number
        ask.fails(2, Hop.UNKNOWN_NEXT)
        ask.wait(PATIENCE_PAUSE)
    assert {opened.worker for opened in ask.opens} == {first}
    assert ask.opens[-1].suspects == ()
    ask.opened().uploaded().says(ANSWER).bills("wild silk", 2)
    assert isinstance(ask.last, Done)


def test_too_few_relays_are_waited_for_but_not_long(asker):
    ask = asker().listed()
    while not isinstance(ask.last, AskFailed):
        attempt = ask.attempt
        ask.do(lambda core, now: core.unopened(now, attempt, full=False))  # noqa: B023 - at once
        ask.wait(PATIENCE_PAUSE)
    assert ask.last.code == "no_path"
    assert ask.now == pytest.approx(NOW + PATIENCE, abs=2 * PATIENCE_PAUSE)


def test_relays_that_fail_on_three_paths_are_not_the_workers_fault(asker):
    ask = asker().listed()
    first = ask.opens[-1].worker
    for _ in range(3):
        ask.fails(0, Hop.UNREACHABLE)
    assert ask.opens[-1].worker != first
    assert ask.policy.memory.sizes()["cooling"] == 0
    for _ in range(6):
        ask.fails(0, Hop.UNREACHABLE)
    assert ask.last.code == "circuit_lost"


@pytest.mark.parametrize(
    ("hop", "said", "code"),
    [
        (None, 0, "circuit_lost"),
        (0, FailCode.NEXT_LOST, "circuit_lost"),
        (1, FailCode.NEXT_DESTROYED, "circuit_lost"),
        (2, FailCode.LIMITS, "circuit_lost"),
        (2, FailCode.NEXT_LOST, "worker_lost"),
        (2, FailCode.NEXT_DESTROYED, "worker_lost"),
    ],
)
def test_a_circuit_lost_within_the_answer(asker, hop, said, code):
    ask = asker().streaming().says(ANSWER)
    ask.loses(hop, said)
    assert (ask.last.code, ask.last.text) == (code, "wild silk")
    assert ask.policy.memory.sizes()["cooling"] == (code == "worker_lost")


# --- circuits that are replaced ---

OTHERS = tuple(bytes([n]) * 32 for n in (104, 105, 106))


def test_an_answer_goes_on_over_another_circuit(asker):
    ask = asker().streaming().says(ANSWER).breaks(0)
    (resume,) = ask.resumes
    assert (resume.attempt, resume.worker) == (ask.attempt, ask.worker.id)
    assert resume.suspects == (RELAYS[1],)
    ask.goes_on(OTHERS).says(Chunk(first=2, ids=(3,), text=".")).bills("wild silk.", 3)
    assert isinstance(ask.last, Done)
    assert (ask.last.text, ask.last.resumed) == ("wild silk.", 1)
    assert ask.last.path[:3] == OTHERS
    assert len(ask.opens) == 1


def test_after_a_silence_every_relay_is_gone_around(asker):
    ask = asker().streaming().breaks(None, onion.SILENT)
    assert ask.resumes[0].suspects == RELAYS


def test_a_path_that_fails_is_followed_by_another_in_a_moment(asker):
    ask = asker().streaming().says(ANSWER).breaks(None, 0)
    assert ask.resumes[0].suspects == (RELAYS[0],)
    ask.fails_again(1, Hop.UNREACHABLE)
    assert len(ask.resumes) == 1
    ask.wait(MEND_PAUSE)
    assert ask.resumes[1].suspects == (RELAYS[0], RELAYS[2])
    ask.fails_again(None, None)
    ask.wait(MEND_PAUSE)
    assert len(ask.resumes) == 3
    assert not isinstance(ask.last, AskFailed)


def test_an_answer_whose_circuit_is_not_replaced_in_time_is_lost(asker):
    ask = asker().streaming().says(ANSWER).breaks(0)
    ask.wait(MEND_WAIT)
    assert (ask.last.code, ask.last.text) == ("circuit_lost", "wild silk")
    assert ask.left == [ask.attempt]


@pytest.mark.parametrize("said", [True, False])
def test_two_relays_that_cannot_reach_the_worker_are_believed(asker, said):
    ask = asker().streaming()
    if said:
        ask.says(ANSWER)
    first = ask.opens[-1].worker
    ask.breaks(2)
    assert ask.resumes
    ask.fails_again(2, Hop.UNREACHABLE)
    if said:
        assert ask.last.code == "worker_lost"
    else:
        assert ask.opens[-1].worker != first


@pytest.mark.parametrize("said", [True, False])
def test_a_worker_that_has_forgotten_is_lost_unless_nothing_had_come(asker, said):
    ask = asker().streaming()
    if said:
        ask.says(ANSWER)
    ask.breaks(1).fails_again(3, Hop.REFUSED)
    if said:
        assert ask.last.code == "worker_lost"
    else:
        assert len(ask.opens) == 2
        assert ask.opens[0].worker == ask.opens[1].worker


def test_a_prompt_that_was_on_its_way_goes_on(asker):
    """It is whole while the circuit is being replaced: the worker's silence counts from then."""
    ask = asker().listed().opened().breaks(0).uploaded().goes_on()
    ask.wait(25.0)
    ask.says(ANSWER).bills("wild silk", 2)
    assert isinstance(ask.last, Done)


def test_what_comes_of_a_circuit_that_was_left_does_nothing(asker):
    ask = asker().streaming().says(ANSWER).breaks(0)
    ask.do(lambda core, now: core.stop(now))
    events = len(ask.events)
    ask.goes_on().fails_again(2, Hop.UNREACHABLE)
    ask.wait(20.0)
    assert len(ask.events) == events
    assert len(ask.resumes) == 1


def test_a_circuit_lost_before_the_answer_is_built_anew(asker):
    ask = asker().streaming()
    first = ask.opens[-1].worker
    ask.loses(0)
    assert ask.opens[-1].worker == first
    assert ask.opens[-1].suspects == RELAYS[1:2]
    ask.opened().uploaded().says(ANSWER).bills("wild silk", 2)
    assert isinstance(ask.last, Done)


def test_a_worker_lost_before_the_answer_gives_way(asker):
    ask = asker().streaming()
    first = ask.opens[-1].worker
    ask.loses(2)
    assert ask.opens[-1].worker != first


@pytest.mark.parametrize(("code", "reason"), [(Abort.OVERLOAD, "busy"), (Abort.SILENT, "lost")])
def test_a_stream_given_up_by_the_worker(asker, code, reason):
    ask = asker().streaming()
    ask.do(lambda core, now: core.reset(now, ask.attempt, code))
    assert len(ask.opens) == 2
    ask.opened().uploaded().says(ANSWER).bills("wild silk", 2)
    assert [refused.reason for refused in ask.last.refusals] == [reason]


def test_a_node_that_answers_for_its_worker_is_a_silent_worker(asker):
    ask = asker().listed()
    ask.fails(3, Hop.REFUSED)
    assert len(ask.opens) == 2


@pytest.mark.parametrize(("full", "code"), [(True, "busy"), (False, "no_path")])
def test_no_circuit_can_be_begun(entry, full, code):
    ask = Asker([entry(1)]).listed()
    core = AskCore(QUESTION, ask.policy, b"a" * 32)
    core.start(NOW)
    core.listed(NOW, ask.entries)
    core.unopened(NOW + PATIENCE, 1, full=full)
    assert core.drain()[1][-1].code == code


def test_a_direct_circuit_blames_the_worker(asker):
    ask = asker(relays=0).listed()
    first = ask.opens[-1].worker
    ask.fails(None, onion.GUARD_UNREACHABLE)
    ask.fails(None, onion.GUARD_UNREACHABLE)
    assert ask.opens[-1].worker != first


def test_where_nobody_answers_directly_a_relay_is_advised(asker):
    ask = asker(relays=0).listed()
    while not isinstance(ask.last, AskFailed):
        ask.fails(None, onion.GUARD_UNREACHABLE)
    assert ask.last.code == "circuit_lost"
    assert "--relays 1 or more" in ask.last.advice
    assert "worker.allow_direct" in ask.last.advice


# --- nobody to ask ---


@pytest.mark.parametrize(
    ("request_", "policy", "code"),
    [
        ({"model": "gpt-17"}, {}, "model_not_found"),
        ({"model": "fake:" + "00" * 6}, {}, "model_not_found"),
        ({"model": "x:" + "00" * 32}, {}, "no_worker"),
        ({"max_tokens": 5_000}, {}, "context_length_exceeded"),
        ({"logprobs": 3}, {}, "no_worker"),
        ({}, {"min_rate": 1_000}, "no_worker"),
        ({}, {"worker": b"x" * 32}, "no_worker"),
        ({}, {"assurance": 1}, "no_worker"),
    ],
)
def test_why_nobody_is_acceptable_is_said(asker, request_, policy, code):
    ask = asker(replace(QUESTION, **request_), **policy).listed()
    assert ask.opens == []
    assert ask.last.code == code
    assert ask.last.message
    assert ask.last.advice


def test_prices_above_the_cap_are_said(entry):
    ask = Asker([entry(1, prices=(0, 10**9))]).listed()
    assert ask.last.code == "price_above_cap"


def test_one_worker_may_be_asked_for_by_name(asker, workers):
    ask = asker(worker=workers[2].id).listed()
    assert ask.opens[-1].worker == workers[2].id
    ask.refuses(Refuse.BUSY)
    assert ask.last.code == "busy"


def test_a_request_too_large_for_any_worker(asker):
    huge = replace(QUESTION, messages=(ChatMessage(role="user", content="x" * 2**22),))
    assert asker(huge).last.code == "request_too_large"


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": ()},
        {"text": "both"},
        {"messages": (), "text": ""},
        {"messages": (), "text": " \n"},
        {"messages": (ChatMessage(role="user", content="\t"),)},
        {"messages": (ChatMessage(role="user", content="\ud83d"),)},
        {"stop": ("x" * 300,)},
        {"messages": (ChatMessage(role="god", content="hi"),)},
        {"stop": ("",)},
        {"stop": ("a",) * 5},
        {"temperature": 2_001},
        {"top_p": -1},
        {"max_tokens": 0},
        {"logprobs": 21},
        {"nonce": b"short"},
        {"seed": 2**63},
        {"bias": ((1, 10**6),)},
    ],
)
def test_a_request_that_is_none_is_said_and_goes_nowhere(asker, wrong):
    ask = asker(replace(QUESTION, **wrong)).listed()
    assert ask.opens == []
    assert ask.last.code == "invalid_request"
    assert ask.core.next_deadline() is None


def test_ban_outlasts_a_month_less_a_second(asker):
    ask = asker().listed()
    liar = ask.opens[-1].worker
    ask.opened(b"garbage")
    assert ask.policy.memory.excludes(NOW + BAN - 1, liar, liar) is Reason.BANNED
