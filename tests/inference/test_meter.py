"""Who is ahead: both sides' counts against the definitions, and against each other."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.meter import MAX_STEP, Earning, Pace, Spending
from inference.protocol import Tick
from ledger import tariff
from ledger.money import Nano
from ledger.payment import Locked, Payment, PayTerms
from ledger.receipt import LockReceipt
from ledger.tariff import Count, Prices, cost
from ledger.tick import Chain
from p2p.errors import BadPreimage, BadSignature, CodecError, RemoteError
from p2p.identity import Identity

MINT, WORKER = Identity(b"M" * 32), Identity(b"w" * 32)
PACE = Pace(Prices(20_000_000, 5_000_000, 20_000_000, 40_000_000), 16, Nano(640), 17)
FREE = Pace(Prices(), 0, Nano(0), 0)

prices = st.builds(
    lambda prompt, share, completion, reasoning: Prices(
        prompt, prompt // share, completion, reasoning
    ),
    st.integers(0, 10**10),
    st.integers(1, 10),
    st.integers(0, 10**10),
    st.integers(0, 10**10),
).filter(lambda prices: not prices.free)


@st.composite
def paces(draw):
    """What honest workers offer."""
    chosen = draw(prices)
    plan = tariff.plan(
        chosen, 8_192, 1, answer_rate=draw(st.integers(1, 200)), prompt_rate=400.0, wait=0.5
    )
    pace = Pace(chosen, plan.k, plan.tick, plan.g)
    return pace._replace(g=max(plan.g, 1 + pace.prompt(1_024, 0)))


def session(pace=PACE, ticks=100):
    """Both ends of one."""
    terms = PayTerms(
        mints=(MINT.id,),
        payee=WORKER.id,
        session=b"s" * 32,
        tick=pace.tick,
        ticks=ticks,
        expiry=2_000_000_000,
    )
    chain = Chain(b"c" * 32, terms.session, ticks)
    payment = Payment(
        terms=terms,
        mint=MINT.id,
        mint_public=MINT.public,
        lock_id=b"l" * 32,
        spend=b"spend",
        chain=chain,
    )
    locked = Locked(
        lock_id=b"l" * 32,
        receipt=receipt(payment).sign(MINT),
        tick=pace.tick,
        ticks=ticks,
        root=chain.root,
        expiry=terms.expiry,
    )
    return Spending(pace, payment, 1), Earning(pace, locked)


def receipt(payment):
    terms = payment.terms
    return LockReceipt(
        lock=payment.lock_id,
        worker=terms.payee,
        session=terms.session,
        amount=terms.tick * terms.ticks,
        tick=terms.tick,
        ticks=terms.ticks,
        root=payment.chain.root,
        expiry=terms.expiry,
        issued=1_795_000_000,
        nullifiers=(b"n" * 32,),
    )


# --- what an offer may say ---


@given(paces())
def test_what_honest_workers_offer_is_sound(pace):
    assert pace.sound


@pytest.mark.parametrize(
    "change",
    [
        {"k": 15},
        {"k": 257},
        {"tick": Nano(0)},
        {"tick": Nano(10**9)},
        {"g": 0},
        {"g": 10_000},
        {"prices": Prices(1, 2, 3, 4)},
        {"prices": Prices()},
    ],
)
def test_a_tick_or_a_step_that_risks_too_much_is_not(change):
    assert PACE.sound
    assert not PACE._replace(**change).sound


def test_free_is_sound_as_long_as_nothing_is_to_be_paid():
    assert FREE.sound
    assert not FREE._replace(g=1).sound
    assert not FREE._replace(tick=Nano(1)).sound


@given(paces(), st.integers(1, 4_000), st.integers(0, 4_000), st.integers(0, 1_000))
def test_all_ticks_of_an_answer_pay_its_cost_and_less_than_one_more(pace, prompt, cached, written):
    count = Count(prompt, cached, written, 0)
    price, paid = cost(count, pace.prices), pace.tick * pace.total(count)
    assert price <= paid < price + pace.tick
    assert pace.total(count) <= pace.most(prompt + cached, written)


@given(paces(), st.integers(0, 300), st.integers(0, 4_000))
def test_a_lock_has_room_for_as_many_tokens_as_it_pays(pace, ticks, prompt):
    room = pace.room(ticks, prompt)
    if room is None:
        assert pace.most(prompt, 10**6) <= ticks
    elif room < 0:
        assert pace.most(prompt, 0) > ticks
    else:
        assert pace.most(prompt, room) <= ticks < pace.most(prompt, room + 1)


# --- the mint's receipt ---


def test_a_receipt_opens_the_session():
    spending, earning = session()
    spending.lock(earning.locked.receipt)
    assert spending.locked


@pytest.mark.parametrize(
    "change",
    [
        {"lock": b"x" * 32},
        {"worker": MINT.id},
        {"session": b"x" * 32},
        {"root": b"x" * 32},
        {"tick": Nano(641)},
        {"ticks": 99},
    ],
)
def test_a_receipt_for_anything_else_is_a_lie(change):
    spending, _ = session()
    with pytest.raises(BadSignature):
        spending.lock(replace(receipt(spending.payment), **change).sign(MINT))
    assert not spending.locked


def test_a_receipt_of_another_mint_or_of_nobody_is_a_lie():
    spending, _ = session()
    with pytest.raises(BadSignature):
        spending.lock(receipt(spending.payment).sign(WORKER))
    with pytest.raises((BadSignature, CodecError)):
        spending.lock(b"")


# --- the prompt ---


def test_each_report_earns_one_step_and_no_more_than_it_says():
    spending, _ = session(PACE._replace(g=4))
    assert spending.told(300, 0, 0) == 4
    assert spending.told(300, 0, 0) == 4
    assert spending.told(300, 0, 128) == 8
    assert spending.told(300, 0, 300) == min(10, 12)
    spending, _ = session(PACE._replace(g=2))
    assert [spending.told(300, 0, 300) for _ in range(6)] == [2, 4, 6, 8, 10, 10]


def test_a_prompt_above_what_is_locked_is_too_dear():
    spending, _ = session(ticks=11)
    assert not spending.too_dear(350, 0)
    assert spending.too_dear(351, 0)
    assert not spending.too_dear(0, 1_400)
    assert spending.too_dear(0, 1_401)


def test_reading_stops_at_one_unpaid_step():
    spending, earning = session(PACE._replace(g=4))
    assert not earning.owes_reading(128, 0)
    assert earning.owes_reading(129, 0)
    earning.take(spending.reveal(4))
    assert not earning.owes_reading(256, 0)
    assert earning.owes_reading(257, 0)


def test_a_short_prompt_lets_the_first_tokens_go_at_once():
    _, earning = session(PACE._replace(g=4))
    assert earning.affordable(Count(prompt=64), reasoning=False) == 2 * 32
    assert earning.affordable(Count(prompt=64), reasoning=True) == 2 * 16
    assert earning.affordable(Count(prompt=128), reasoning=False) == 0


# --- the answer ---


def test_a_tick_lets_its_tokens_go():
    spending, earning = session()
    earning.take(spending.reveal(2))
    prompt = Count(prompt=64)
    assert earning.affordable(prompt, reasoning=True) == 16
    assert earning.affordable(prompt._replace(reasoning=16), reasoning=True) == 0
    earning.take(spending.reveal(3))
    assert earning.affordable(prompt._replace(reasoning=16), reasoning=True) == 16


def test_what_costs_nothing_goes_unpaid():
    _, earning = session(PACE._replace(prices=Prices(20_000_000, 0, 0, 40_000_000)))
    assert earning.affordable(Count(), reasoning=False) is None


def test_a_tick_is_revealed_once_and_only_forward():
    spending, earning = session()
    tick = spending.reveal(3)
    assert spending.reveal(3) is None
    assert spending.reveal(2) is None
    assert earning.take(tick)
    assert not earning.take(tick)
    assert spending.paid == Nano(640) * 3
    assert spending.bill(2) == 2
    assert (spending.revealed, spending.owed, spending.paid) == (3, 2, Nano(640) * 2)
    with pytest.raises(RemoteError):
        spending.bill(101)
    with pytest.raises(BadPreimage):
        earning.take(Tick(5, b"x" * 32))
    assert earning.index == 3


@given(paces(), st.integers(1, 6_000), st.data())
def test_with_both_honest_nothing_stalls_and_nobody_is_out_by_more(pace, tokens, data):
    """Every state of a session: the asker always pays enough for the next piece."""
    cached = data.draw(st.integers(0, tokens))
    prompt = tokens - cached
    written = data.draw(st.integers(1, 500))
    spending, earning = session(pace, min(16_384, pace.most(tokens, written)))
    done = cached
    while done < tokens:
        upto = min(tokens, done + 1_024)
        due = spending.told(prompt, cached, done)
        if tick := spending.reveal(due):
            earning.take(tick)
        if not earning.owes_reading(max(0, upto - cached), min(cached, upto)):
            done = min(tokens, done + 512)
        assert earning.index <= pace.read(max(0, done - cached), cached) + pace.g
    count = Count(prompt=prompt, cached=cached)
    for _ in range(pace.prompt(prompt, cached) // pace.g + 2):
        if tick := spending.reveal(spending.told(prompt, cached, tokens)):
            earning.take(tick)
    while count.written < written:
        room = earning.affordable(count, reasoning=False)
        assert room is None or room > 0
        more = min(written - count.written, written if room is None else room)
        count = count._replace(completion=count.completion + more)
        if tick := spending.reveal(spending.due(count)):
            earning.take(tick)
        p0 = pace.prompt(prompt, cached)
        assert pace.spent(count) <= pace.tick * (earning.index - p0 + 1)
        # One ahead; and one more where three parts of a nano were each rounded up to one.
        assert earning.earned(count) <= earning.index <= pace.total(count) + 2
    assert not earning.owed(count)
    assert earning.earned(count) == spending.bill(pace.total(count))
    assert spending.paid == pace.tick * pace.total(count)
    assert spending.paid <= spending.locks


def test_a_step_is_bounded_whatever_a_worker_offers():
    assert cost(Count(prompt=MAX_STEP), PACE.prices) < PACE.tick * 300
