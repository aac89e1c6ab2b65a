"""The asker's core, paid: coins first, the spend with the prompt, ticks only behind the lock."""

from dataclasses import replace

import pytest

from inference.asking import LAST_TICK_WAIT, OFFER_MARGIN, State
from inference.asking_effects import Collect, Open, Release, Reserve, Say, Upload
from inference.protocol import (
    OFFER_VALID,
    Chunk,
    Pay,
    Progress,
    Prompt,
    Refusal,
    Refuse,
    read_asker,
    read_request,
)
from inference.request import AskFailed, Done, Offered
from ledger import tariff
from ledger.money import ZERO, Nano
from ledger.payment import Decline, Unpaid
from ledger.tariff import Count, Prices, Stop
from p2p.entropy import seeded
from p2p.identity import Identity
from simulations.purse import FakeMint, FakePurse
from tests.inference.test_client import ANSWER, NOW, QUESTION, Asker, unframed

PRICES = Prices(20_000_000, 5_000_000, 20_000_000, 20_000_000)
CAP = Nano(100_000)
TICK = 16 * 20


class Payer(Asker):
    """An asker with a purse that a test opens or keeps shut."""

    def __init__(self, entries, request=QUESTION, **policy):
        self.mint = FakeMint(Identity(b"M" * 32))
        self.purse = FakePurse(self.mint, Nano(10**9), seeded(3))
        self.reserves, self.uploads, self.ticks, self.over = [], [], [], []
        self.room = True
        super().__init__(entries, request, **{"max_price": CAP, **policy})

    def do(self, run):
        super().do(run)

    def _handle(self, event):
        match event:
            case Reserve():
                self.reserves.append(event)
            case Upload():
                self.uploads.append(event)
                super()._handle(event)
            case Say(data=data, attempt=attempt):
                self.ticks += [read_asker(message) for message in unframed(data)]
                if self.room:
                    self.said(attempt)
            case Collect() | Release():
                self.over.append(event)
            case _:
                super()._handle(event)

    def said(self, attempt=None):
        """The newest tick has left."""
        self.do(lambda core, now: core.said(now, attempt or self.attempt))
        return self

    def offer(self, **changes):
        terms = {
            "prices": PRICES,
            "tick": TICK,
            "tick_tokens": 16,
            "step_ticks": 66,
            "mints": (self.mint.identity.id,),
        }
        return super().offer(**{**terms, **changes})

    def paid(self):
        """Coins are there for the newest reserve."""
        wanted = self.reserves[-1]
        self.payment = self.purse.take(wanted.terms)
        self.do(lambda core, now: core.reserved(now, wanted.attempt, self.payment))
        return self

    def unpaid(self, reason):
        wanted = self.reserves[-1]
        self.do(lambda core, now: core.unreserved(now, wanted.attempt, reason, "why"))

    def locks(self):
        """The worker shows the mint's receipt."""
        locked = self.mint.lock(self.now, self.worker.id, self.payment.spend)
        return self.says(Pay(locked.receipt))

    @property
    def prompt(self):
        return read_asker(unframed(self.uploads[-1].data)[-1])

    @property
    def coins(self):
        """What became of the coins of each try."""
        return [
            "released" if isinstance(event, Release) else (event.locked, event.revealed, event.owed)
            for event in self.over
        ]


@pytest.fixture
def workers(entry):
    return [entry(number, prices=(20_000_000, 20_000_000)) for number in (1, 2, 3, 4)]


@pytest.fixture
def payer(workers):
    def made(request=QUESTION, **policy):
        ask = Payer(workers, request, **policy)
        mints = ask.purse.mints()
        ask.core._drawing.mints = mints
        return ask.listed()

    return made


def test_the_order_of_a_paid_answer(payer):
    ask = payer()
    assert read_request(ask.opens[0].request).mints == ask.purse.mints()
    ask.opened()
    assert ask.core.state is State.PAYING
    assert ask.uploads == []
    ask.paid()
    (upload,) = ask.uploads
    spend, prompt = map(read_asker, unframed(upload.data))
    assert spend == Pay(ask.payment.spend)
    assert isinstance(prompt, Prompt)
    assert isinstance(ask.last, Offered)
    ask.uploaded().locks()
    assert ask.ticks == []
    ask.says(Progress(prompt=32, cached=0, done=0))
    assert [tick.index for tick in ask.ticks] == [2]
    ask.says(replace(ANSWER, ids=(1,)))
    assert [tick.index for tick in ask.ticks] == [2, 3]
    count = Count(prompt=32, completion=1)
    ask.bills("wild silk", 1, tokens=count, cost=tariff.cost(count, PRICES), ticks=3)
    done = ask.last
    assert isinstance(done, Done)
    assert (done.cost, done.paid) == (Nano(660), Nano(3 * TICK))
    assert ask.coins == [(True, 3, 3)]


def test_what_was_paid_ahead_is_change_by_the_receipt(payer):
    """Three ticks are revealed; 30 tokens of prompt and one of answer cost 1.94 of them."""
    ask = payer().opened().paid().uploaded().locks()
    ask.says(Progress(prompt=30, cached=0, done=0), replace(ANSWER, ids=(1,)))
    assert ask.ticks[-1].index == 3
    count = Count(prompt=30, completion=1)
    ask.bills("wild silk", 1, tokens=count, cost=tariff.cost(count, PRICES), ticks=2)
    done = ask.last
    assert isinstance(done, Done)
    assert (done.cost, done.paid) == (Nano(620), Nano(2 * TICK))
    assert ask.coins == [(True, 3, 2)]


# --- no room for a tick ---


def full(payer, **policy):
    """All of the answer and its receipt are there, and not even the first tick has left."""
    ask = payer(**policy).opened().paid().uploaded().locks()
    ask.room = False
    ask.says(Progress(prompt=32, cached=0, done=0), replace(ANSWER, ids=(1,)))
    count = Count(prompt=32, completion=1)
    ask.bills("wild silk", 1, tokens=count, cost=tariff.cost(count, PRICES), ticks=3)
    assert ask.core.state is State.PARTING
    assert not isinstance(ask.last, Done)
    assert (ask.left, ask.coins) == ([], [])
    return ask


@pytest.mark.parametrize(
    "end",
    [
        lambda ask: ask.said(),
        lambda ask: ask.wait(LAST_TICK_WAIT),
        lambda ask: ask.do(lambda core, now: core.ended(now, ask.attempt)),
        lambda ask: ask.do(lambda core, now: core.reset(now, ask.attempt, 1)),
        lambda ask: ask.loses(None),
    ],
    ids=["said", "time", "ended", "reset", "lost"],
)
def test_a_whole_answer_waits_until_its_last_tick_has_left_or_cannot(payer, end):
    ask = full(payer)
    end(ask)
    assert isinstance(ask.last, Done)
    assert ask.last.paid == Nano(3 * TICK)
    assert (ask.left, ask.coins) == ([1], [(True, 3, 3)])
    assert ask.core.state is State.DONE
    assert ask.core.next_deadline() is None


def test_a_whole_answer_is_not_late_for_want_of_room(payer):
    ask = full(payer, deadline_s=4.0)
    ask.wait(0.95 * 4.0)
    assert isinstance(ask.last, Done)


def test_words_behind_a_receipt_are_not_heard_while_the_last_tick_waits(payer):
    ask = full(payer)
    ask.says(replace(ANSWER, ids=(1,)))
    ask.said()
    assert isinstance(ask.last, Done)


def test_nobody_is_told_of_an_answer_that_is_cancelled_while_its_last_tick_waits(payer):
    ask = full(payer)
    ask.do(cancel)
    assert not isinstance(ask.last, Done)
    assert ask.coins == [(True, 3, 3)]


def test_an_answer_whose_ticks_have_left_waits_for_nothing(payer):
    """Though the worker bills less than that."""
    ask = payer().opened().paid().uploaded().locks()
    ask.says(Progress(prompt=30, cached=0, done=0), replace(ANSWER, ids=(1,)))
    ask.room = False
    count = Count(prompt=30, completion=1)
    ask.bills("wild silk", 1, tokens=count, cost=tariff.cost(count, PRICES), ticks=2)
    assert isinstance(ask.last, Done)


@pytest.mark.parametrize("max_tokens", [None, 1, 60])
def test_what_is_quoted_is_set_aside_and_what_the_cap_is_held_against(payer, max_tokens):
    request = replace(QUESTION, max_tokens=max_tokens)
    ask = payer(request, max_price=Nano(10**6)).opened().paid()
    terms = ask.payment.terms
    quoted = terms.tick * terms.ticks
    assert ask.last.quoted == quoted
    ask = payer(request, max_price=quoted).opened().paid().uploaded().locks()
    ask.says(Progress(prompt=32, cached=0, done=0), replace(ANSWER, ids=(1,)))
    count = Count(prompt=32, completion=1)
    ask.bills("wild silk", 1, tokens=count, cost=tariff.cost(count, PRICES), ticks=3)
    assert ask.last.quoted == quoted
    ask = payer(request, max_price=quoted - Nano(1))
    for _ in ask.opens:
        ask.opened()
    assert (ask.last.code, ask.reserves) == ("price_above_cap", [])


def test_a_full_answer_is_not_paid_a_tick_ahead(payer):
    ask = payer(replace(QUESTION, max_tokens=32)).opened().paid().uploaded().locks()
    ask.says(Progress(prompt=32, cached=0, done=32))
    ask.says(Chunk(first=0, ids=tuple(range(32)), text="x"))
    assert ask.ticks[-1].index == 4
    count = Count(prompt=32, completion=32)
    ask.bills("x", tokens=count, cost=tariff.cost(count, PRICES), ticks=4, stop=Stop.LENGTH)
    assert ask.coins == [(True, 4, 4)]


def test_what_is_set_aside_is_within_the_cap_and_outlives_the_ask(payer):
    ask = payer(deadline_s=100.0, lock_margin=7, max_price=Nano(5_000)).opened()
    terms = ask.reserves[-1].terms
    assert terms.tick * terms.ticks <= Nano(5_000)
    assert terms.expiry == int(NOW) + 95 + 7
    assert (terms.payee, terms.mints) == (ask.worker.id, ask.purse.mints())
    short = payer(deadline_s=2.0).opened().reserves[-1].terms
    assert short.expiry >= NOW + 30


# --- no coins ---


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Unpaid.NO_CREDITS, "no_credits"),
        (Unpaid.LANE, "no_credits"),
        (Unpaid.MINT_DOWN, "mint_unreachable"),
        (Unpaid.CHAIN_DOWN, "chain_unreachable"),
        (Unpaid.NO_PATH, "no_path"),
        (Unpaid.DEAR, "price_above_cap"),
        (Unpaid.STORE, "internal"),
    ],
)
def test_what_cannot_be_set_aside_ends_the_ask(payer, reason, code):
    ask = payer().opened()
    ask.unpaid(reason)
    assert ask.last.code == code
    assert "why" in ask.last.message
    assert (ask.uploads, ask.coins, ask.last.paid) == ([], [], ZERO)
    assert ask.core.next_deadline() is None


def test_a_worker_without_a_mint_of_ours_gives_way(payer):
    ask = payer().opened(mints=(b"x" * 32,))
    assert len(ask.opens) == 2
    ask.opened()
    ask.unpaid(Unpaid.NO_MINT)
    ask.opened(mints=())
    assert ask.last.code == "mint_unreachable"
    assert [refused.reason for refused in ask.last.refusals] == ["mint"] * 3


def test_worker_above_the_cap_is_named_with_what_it_asks(payer):
    ask = payer(max_price=Nano(2_000))
    assert (ask.last.code, ask.opens) == ("price_above_cap", [])
    assert ask.last.message == (
        "No worker is acceptable: above the price cap (4). The cheapest asks 0.00002 TON for "
        "1,000 tokens of an answer and 0.00002 TON of a prompt, up to 0.00000336 TON for this "
        "request; the cap is 0.000002 TON."
    )
    assert "--max-price" in ask.last.advice


@pytest.mark.parametrize(
    ("purse", "code", "advice"),
    [(object(), "mint_unreachable", "neither lost"), (None, "no_credits", "no open wallet")],
)
def test_credits_of_a_mint_that_is_away_need_not_be_bought(workers, purse, code, advice):
    """No mint is listed, so that nothing can be paid or bought now."""
    ask = Payer(workers, purse=purse).listed()
    assert (ask.last.code, ask.opens) == (code, [])
    assert "a mint that is not there (4)" in ask.last.message
    assert advice in ask.last.advice
    assert "buy" not in ask.last.advice


def gone(ask):
    ask.do(lambda core, now: core.reset(now, ask.attempt, 2))


@pytest.mark.parametrize(
    "end",
    [
        lambda ask: ask.wait(OFFER_VALID - OFFER_MARGIN),
        gone,
        lambda ask: ask.loses(None),
        lambda ask: ask.do(lambda core, now: core.ended(now, ask.attempt)),
    ],
)
def test_coins_that_come_after_the_offer_buy_another_from_the_same_worker(payer, end):
    ask = payer().opened()
    first = ask.opens[-1].worker
    end(ask)
    assert ask.left == [1]
    ask.wait(60)
    assert ask.core.state is State.PAYING
    ask.paid()
    assert ask.coins == ["released"]
    assert ask.opens[-1].worker == first
    ask.opened().paid()
    assert len(ask.uploads) == 1


@pytest.mark.parametrize("end", [lambda ask: ask.wait(300), lambda ask: ask.do(cancel)])
def test_coins_that_come_after_the_ask_are_released(payer, end):
    ask = payer().opened()
    end(ask)
    assert ask.core.state is State.DONE
    ask.paid()
    assert ask.coins == ["released"]


def cancel(core, now):
    core.cancel(now)


# --- what a cut answer has cost ---


def stop(core, now):
    core.stop(now)


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda ask: ask.do(stop), "cancelled"),
        (gone, "worker_lost"),
        (lambda ask: ask.loses(1), "circuit_lost"),
        (lambda ask: ask.wait(300), "worker_lost"),
    ],
)
def test_answer_that_is_cut_says_what_was_paid_and_set_aside(payer, end, code):
    ask = payer().opened().paid().uploaded().locks()
    ask.says(Progress(prompt=32, cached=0, done=0), replace(ANSWER, ids=(1,)))
    end(ask)
    terms = ask.payment.terms
    assert isinstance(ask.last, AskFailed)
    assert (ask.last.code, ask.last.paid) == (code, Nano(3 * TICK))
    assert ask.last.quoted == terms.tick * terms.ticks


def test_what_an_earlier_worker_was_paid_is_not_forgotten(payer):
    ask = payer().opened().paid().uploaded().locks()
    ask.says(Progress(prompt=32, cached=0, done=0))
    once = ask.payment.terms.tick * ask.payment.terms.ticks
    gone(ask)
    ask.opened().paid()
    ask.do(stop)
    assert (ask.last.paid, ask.last.quoted) == (Nano(2 * TICK), once + once)


def test_stopped_before_any_coin_was_set_aside_it_has_cost_nothing(payer):
    ask = payer().opened()
    ask.do(stop)
    assert (ask.last.code, ask.last.paid, ask.last.quoted) == ("cancelled", ZERO, ZERO)
    ask.paid()
    assert ask.coins == ["released"]


# --- no lock ---


@pytest.mark.parametrize("detail", [Decline.SPENT, Decline.BAD_AUTH, Decline.EXPIRED])
def test_coins_that_the_mint_refuses_are_replaced_once(payer, detail):
    ask = payer().opened().paid().uploaded().says(Refusal(Refuse.PAYMENT, detail))
    first = ask.opens[0].worker
    assert [opened.worker for opened in ask.opens] == [first, first]
    ask.opened().paid().uploaded().says(Refusal(Refuse.PAYMENT, detail))
    assert ask.opens[-1].worker != first
    assert ask.core._telling.whys[0].value == ("spent" if detail is Decline.SPENT else "payment")
    assert ask.coins == [(False, 0, 0), (False, 0, 0)]
    assert len({reserve.terms.session for reserve in ask.reserves}) == 2


@pytest.mark.parametrize(
    ("detail", "reason"),
    [
        (Decline.NO_CAPACITY, "payment"),
        (Decline.BUSY, "mint_silent"),
        (Decline.TERMS, "payment"),
    ],
)
def test_a_worker_that_cannot_lock_gives_way(payer, detail, reason):
    ask = payer().opened().paid().uploaded().says(Refusal(Refuse.PAYMENT, detail))
    assert len(ask.opens) == 2
    assert ask.opens[1].worker != ask.opens[0].worker
    ask.do(cancel)
    assert ask.coins == [(False, 0, 0)]
    assert ask.core._telling.whys[0].value == reason


@pytest.mark.parametrize(
    "lie",
    [
        lambda ask: ask.says(Progress(prompt=10, cached=0, done=0)),
        lambda ask: ask.says(ANSWER),
        lambda ask: ask.says(Pay(b"no receipt")),
        lambda ask: ask.locks().says(ANSWER),
        lambda ask: ask.locks().locks(),
        lambda ask: ask.bills("", 0),
    ],
)
def test_an_answer_before_its_lock_or_count_is_a_lie_and_unpaid(payer, lie):
    ask = payer().opened().paid().uploaded()
    lie(ask)
    assert len(ask.opens) == 2
    assert ask.ticks == []
    assert [revealed for _, revealed, _ in ask.coins] == [0]


# --- prices ---


@pytest.mark.parametrize(
    "change",
    [{"tick": 10**9}, {"tick": 0}, {"tick_tokens": 1_000}, {"step_ticks": 9_999}],
)
def test_an_offer_that_would_be_paid_too_far_ahead_is_a_lie(payer, change):
    ask = payer().opened(**change)
    assert (ask.reserves, len(ask.opens)) == ([], 2)


def test_a_prompt_that_costs_more_than_was_locked_is_left_unpaid(payer):
    ask = payer().opened().paid().uploaded().locks()
    assert ask.payment.terms.ticks < 30  # less than the longest template would take
    ask.says(Progress(prompt=500, cached=0, done=0))
    assert ask.ticks == []
    assert len(ask.opens) == 2
    assert ask.coins == [(True, 0, 0)]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"ticks": 2}, "ticks"),
        ({"ticks": 4}, "ticks"),
        ({"cost": Nano(1)}, "cost"),
        ({"tokens": Count(prompt=32, reasoning=1)}, None),
    ],
)
def test_a_receipt_must_cost_what_was_offered(payer, change, why):
    ask = payer().opened().paid().uploaded().locks()
    ask.says(Progress(prompt=32, cached=0, done=0), replace(ANSWER, ids=(1,)))
    count = Count(prompt=32, completion=1)
    said = {"tokens": count, "cost": tariff.cost(count, PRICES), "ticks": 3, **change}
    ask.bills("wild silk", **said)
    if why is None:
        assert isinstance(ask.last, Done)
    else:
        assert isinstance(ask.last, AskFailed)
        assert why in ask.last.message


def test_reasoning_that_was_not_sent_is_not_charged(payer):
    dearer = PRICES._replace(reasoning=400_000_000)
    ask = payer(replace(QUESTION, max_tokens=64)).opened(prices=dearer, tick=16 * 400, step_ticks=5)
    ask.paid().uploaded().locks()
    ask.says(Progress(prompt=32, cached=0, done=0), Chunk(first=0, ids=tuple(range(40)), text="x"))
    count = Count(prompt=32, reasoning=40)
    ask.bills("x", tokens=count, cost=tariff.cost(count, dearer), ticks=3)
    assert "dearer" in ask.last.message


def test_opens_name_the_mints_and_nothing_else_of_the_purse(payer):
    ask = payer().opened().paid()
    assert isinstance(ask.opens[0], Open)
    assert b"a" * 32 not in ask.uploads[0].data + ask.opens[0].request
