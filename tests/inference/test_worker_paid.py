"""The worker's core, paid: nothing starts before a lock, and every end settles what was paid."""

from dataclasses import replace

import pytest

from inference import protocol
from inference.answering import LAST_TICK_WAIT, UNPAID_WAIT
from inference.engine.base import Begun, Finished, Piece, Prefilled, Reason, Usage
from inference.meter import Spending, pace_of
from inference.protocol import (
    Abort,
    Billed,
    Chunk,
    Pay,
    Progress,
    Refusal,
    Refuse,
    Tick,
    Want,
    Work,
)
from inference.serving import LOCK_WAIT, WorkerCore
from inference.serving_effects import (
    Cancel,
    End,
    Generate,
    GiveUp,
    GoOn,
    Hold,
    Keep,
    Lock,
    Prepare,
    Say,
    Settle,
)
from ledger import tariff
from ledger.money import Nano
from ledger.payment import Decline, PayTerms
from ledger.tariff import Prices
from p2p.entropy import seeded
from p2p.identity import Identity
from simulations.purse import FakeMint, FakePurse, FakeTill
from tests.inference.test_worker import NOW, PROMPT, SERVICE, WORKER, Worker, refusal, said

MINT = Identity(b"M" * 32)
PRICES = Prices(20_000_000, 20_000_000, 20_000_000, 20_000_000)
PRICED = replace(SERVICE, prices=PRICES, settle_ticks=2)
WANT = Want(
    work=Work.CHAT,
    identity=b"m" * 32,
    nonce=b"n" * 16,
    size_class=4,
    max_tokens=64,
    mints=(b"other" + bytes(27), MINT.id),
)
LONG = replace(PROMPT, settings={0: 64, 1: 0})


class Paid(Worker):
    """A worker with prices, a mint, and an asker whose coins a test spends."""

    def __init__(self, service=PRICED):
        super().__init__(service)
        self.mint = FakeMint(MINT)
        self.till = FakeTill(self.mint, WORKER.id, lambda: self.now)
        self.core = WorkerCore(
            WORKER, service, seeded(1), lambda circuit: self.room, self.till.mints
        )
        self.purse = FakePurse(self.mint, Nano(10**9), seeded(2))

    def offered(self, circuit=1, **changes):
        """An offer, and coins that are set aside for it."""
        accept = self.asks(circuit, WANT)
        signed = accept.reply[1:]
        self.offer = protocol.read_offer(signed, WORKER.public, WANT.encode())
        self.pace = pace_of(self.offer)
        terms = PayTerms(
            mints=self.offer.mints,
            payee=WORKER.id,
            session=protocol.session_of(signed),
            tick=self.pace.tick,
            ticks=self.pace.most(200, 64),
            expiry=int(NOW) + 200,
        )
        self.payment = self.purse.take(replace(terms, **changes))
        self.spending = Spending(self.pace, self.payment, 1)
        return self

    def locking(self, **changes):
        """The prompt has come; the `Lock` that follows."""
        self.offered(**changes)
        assert self.sends(Pay(self.payment.spend)) == []
        (self.lock,) = self.sends(LONG)
        assert isinstance(self.lock, Lock)
        return self

    def locked(self, result=None):
        lock = self.lock
        result = result or self.till.take(lock.spend, lock.session, lock.tick)
        return self.do(lambda core, now: core.locked(now, lock.token, result))

    def running(self, tokens=100, cached=0):
        """A job that reads its prompt; its token."""
        told = self.locking().locked()
        prepare = told[-1]
        (generate,) = self.prepares(prepare.token, tokens)
        self.job = generate.job
        self.engine(self.job.id, Begun(prompt=tokens - cached, cached=cached))
        return self

    def writes(self, count, first=0):
        piece = Piece(first=first, ids=tuple(range(count)), text="x" * count)
        return self.engine(self.job.id, piece)

    def ends(self, written):
        usage = Usage(prompt=100, completion=written)
        return self.engine(self.job.id, Finished(reason=Reason.STOP, usage=usage))

    def pays(self, index):
        return self.sends(self.spending.reveal(index))

    def settles(self, ticks, *, final=True):
        return Settle(self.payment.lock_id, final=final, ticks=ticks)


@pytest.fixture
def worker():
    return Paid()


def test_an_offer_says_how_it_is_paid(worker):
    worker.offered()
    offer = worker.offer
    assert offer.prices == PRICES
    assert (offer.tick_tokens, offer.tick) == (16, 320)
    assert offer.step_ticks == 1_024 // 16 + 1
    assert offer.mints == (MINT.id,)
    assert worker.pace.sound


def test_an_asker_without_a_mint_of_ours_is_refused(worker):
    for want in (replace(WANT, mints=()), replace(WANT, mints=(b"x" * 32,))):
        assert refusal(worker.asks(want=want)) == Refusal(Refuse.PAYMENT, Decline.TERMS)
    worker.mint.down = True
    assert refusal(worker.asks(want=WANT)) == Refusal(Refuse.PAYMENT, Decline.TERMS)


def test_a_paid_answer_from_spend_to_settlement(worker):
    told = worker.locking().locked()
    assert [type(effect) for effect in told] == [Say, Prepare]
    (pay,) = said(told)
    worker.spending.lock(pay.body)
    (generate,) = worker.prepares(told[-1].token, 100)
    worker.job = generate.job
    told = worker.engine(worker.job.id, Begun(prompt=100, cached=0))
    assert said(told) == [Progress(prompt=100, cached=0, done=0)]
    (keep,) = worker.pays(7)
    assert keep.index == 7
    told = worker.writes(16)
    assert [type(message) for message in said(told)] == [Chunk]
    (keep, settle) = worker.pays(8)
    assert (keep.index, settle) == (8, worker.settles(8, final=False))
    worker.now += 1
    told = worker.ends(16)
    (billed,) = said(told)
    receipt = tariff.verify(billed.receipt, WORKER.public)
    assert receipt.ticks == 8
    assert receipt.cost == Nano(116 * 20)
    assert told[-2:] == [End(1, 1), worker.settles(8)]
    assert worker.core.statistics().earned == Nano(8 * 320)
    assert worker.nothing_left


# --- the lock ---


@pytest.mark.parametrize("why", Decline)
def test_what_the_mint_declines_is_refused_in_its_words(worker, why):
    told = worker.locking().locked(why)
    assert said(told) == [Refusal(Refuse.PAYMENT, why)]
    assert not any(isinstance(effect, Settle | Prepare) for effect in told)
    assert worker.nothing_left


def test_a_prompt_without_a_spend_is_refused(worker):
    worker.offered()
    assert said(worker.sends(LONG)) == [Refusal(Refuse.PAYMENT, Decline.TERMS)]


def test_a_mint_that_is_silent_is_busy_and_its_late_lock_is_given_back(worker):
    worker.locking()
    assert worker.wait(LOCK_WAIT - 0.1) == []
    assert said(worker.wait(0.1)) == [Refusal(Refuse.PAYMENT, Decline.BUSY)]
    assert worker.nothing_left
    assert worker.locked() == [worker.settles(0)]


def test_a_lock_that_ends_too_soon_starts_nothing(worker):
    told = worker.locking(expiry=int(NOW) + 3).locked()
    assert said(told) == [Refusal(Refuse.DEADLINE)]
    assert told[-1] == worker.settles(0)


@pytest.mark.parametrize(("ticks", "code"), [(10, Refuse.PAYMENT), (11, None)])
def test_a_lock_must_pay_for_the_prompt_and_the_answer(worker, ticks, code):
    told = worker.locking(ticks=ticks).locked()
    told = worker.prepares(told[-1].token, 100)
    if code is None:
        assert isinstance(told[0], Generate)
    else:
        assert said(told) == [Refusal(code, Decline.TERMS)]
        assert told[-1] == worker.settles(0)


# --- out of turn ---


def test_a_second_spend_resets_the_stream(worker):
    worker.offered()
    worker.sends(Pay(b"one"))
    assert worker.sends(Pay(b"two")) == [GiveUp(1, 1, Abort.PROTOCOL)]


def test_a_tick_before_the_lock_resets_the_stream(worker):
    worker.locking()
    assert worker.pays(1) == [GiveUp(1, 1, Abort.PROTOCOL)]


@pytest.mark.parametrize(
    "tick", [Tick(9, b"x" * 32), Tick(60_000, b"x" * 32), Tick(2, b"\0" * 32)], ids=repr
)
def test_a_false_tick_ends_the_answer_and_settles_the_true_ones(worker, tick):
    worker.running()
    worker.pays(1)
    worker.writes(3)
    told = worker.sends(tick)
    assert told == [GiveUp(1, 1, Abort.PROTOCOL), Cancel(worker.job.id), worker.settles(1)]
    assert [effect.index for effect in worker.effects if isinstance(effect, Keep)] == [1]
    assert worker.nothing_left


# --- an asker that does not pay ---


def test_the_model_is_held_at_the_last_paid_token_and_goes_on_with_a_tick(worker):
    worker.running()
    worker.pays(7)
    told = worker.writes(40)
    assert [len(chunk.ids) for chunk in said(told)] == [16]
    assert told[-1] == Hold(worker.job.id)
    worker.now += 1
    told = worker.pays(9)
    assert sum(len(chunk.ids) for chunk in said(told)) == 24
    assert told[-1] == GoOn(worker.job.id)
    text = "".join(m.text for m in said(worker.effects) if isinstance(m, Chunk))
    assert text == "x" * 40


def test_an_asker_that_stops_paying_gets_no_more_and_is_told(worker):
    worker.running()
    worker.pays(7)
    worker.writes(40)
    assert worker.wait(UNPAID_WAIT - 0.1) == []
    told = worker.wait(0.1)
    assert said(told) == [Refusal(Refuse.UNPAID, 16)]
    assert told[-1] == worker.settles(7)
    assert worker.nothing_left


def test_a_last_tick_is_waited_for_but_not_long(worker):
    worker.running()
    worker.pays(7)
    worker.writes(16)
    (billed,) = said(worker.ends(16))
    assert isinstance(billed, Billed)
    assert worker.wait(LAST_TICK_WAIT - 0.1) == []
    assert worker.wait(0.1) == [End(1, 1), worker.settles(7)]
    assert worker.nothing_left


def test_prompt_and_answer_are_rounded_up_together(worker):
    """100 tokens are 6.25 ticks and 12 are 0.75: seven in all, and nothing is waited for."""
    worker.running()
    worker.pays(7)
    worker.writes(12)
    told = worker.ends(12)
    (billed,) = said(told)
    assert tariff.verify(billed.receipt, WORKER.public).ticks == 7
    assert told[-2:] == [End(1, 1), worker.settles(7)]
    assert worker.core.statistics().earned == Nano(7 * 320)


def test_ticks_that_were_paid_ahead_are_left_to_the_asker(worker):
    worker.running()
    assert [type(effect) for effect in worker.pays(10)] == [Keep]
    worker.writes(12)
    assert worker.ends(12)[-1] == worker.settles(7)
    assert worker.core.statistics().earned == Nano(7 * 320)


@pytest.mark.parametrize(("done", "ticks"), [(0, 0), (16, 1), (50, 4), (100, 7)])
def test_a_prompt_that_is_partly_read_is_settled_as_far(worker, done, ticks):
    worker.running()
    worker.engine(worker.job.id, Prefilled(done=done))
    worker.pays(9)
    assert worker.do(lambda core, now: core.lost(now, 1))[-1] == worker.settles(ticks)


@pytest.mark.parametrize("reach", ["locking", "locked", "running", "closing"])
@pytest.mark.parametrize("how", ["reset", "lost"])
def test_an_asker_that_leaves_is_settled_in_every_state(worker, reach, how):
    worker.locking()
    if reach != "locking":
        worker = Paid().running() if reach != "locked" else worker
        if reach == "locked":
            worker.locked()
        else:
            worker.pays(7)
            worker.writes(16)
        if reach == "closing":
            worker.ends(16)
    told = worker.do(
        lambda core, now: core.reset(now, 1, 1) if how == "reset" else core.lost(now, 1)
    )
    settled = [effect for effect in told if isinstance(effect, Settle)]
    expected = {"locking": [], "locked": [worker.settles(0)]}
    assert settled == expected.get(reach, [worker.settles(7)])
    assert worker.nothing_left


def test_a_worker_that_stops_settles_all_that_it_was_paid(worker):
    worker.running()
    worker.pays(3)
    worker.writes(1)
    told = worker.do(lambda core, now: core.stop(now))
    assert told == [Cancel(worker.job.id), worker.settles(3)]
    assert worker.core.sizes()["circuits"] == 0
