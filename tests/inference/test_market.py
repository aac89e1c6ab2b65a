"""Who may be asked, and that nothing raises anyone's share."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import market
from inference.market import (
    BAN,
    COOL_LOST,
    COOL_REFUSED,
    FEW,
    Choice,
    Known,
    Memory,
    Reason,
    Terms,
    acceptable,
    draw,
    identities,
    pick_model,
)
from inference.protocol import Need
from ledger import tariff
from ledger.money import Nano
from p2p.entropy import seeded
from p2p.overlay.advert import Prices, Role
from p2p.overlay.fields import ASSURED_AUDITED

NOW = 1_795_000_000.0
MODEL = b"m" * 32
TERMS = Terms(size_class=6, max_tokens=256)


def shares(choice, draws, seed=1):
    entropy = seeded(seed)
    return Counter(draw(choice, entropy).id for _ in range(draws))


def chi_square(counts, expected):
    return sum((count - expected) ** 2 / expected for count in counts)


# --- the draw ---


def test_a_tenth_of_the_price_and_ten_times_the_speed_is_still_one_share(entry):
    terms = replace(TERMS, max_price=Nano(10**9))
    workers = [entry(1, prices=Prices(10**6, 10**6), answer_rate=1_280)]
    workers += [entry(n, prices=Prices(10**7, 10**7)) for n in range(2, 11)]
    choice = acceptable(workers, MODEL, terms, Memory(), NOW)
    assert len(choice) == 10
    counts = shares(choice, 10_000)
    # 9 degrees of freedom: 27.9 is passed by chance once in a thousand seeds.
    assert chi_square(counts.values(), 1_000) < 27.9
    assert len(counts) == 10


def test_an_operator_of_many_nodes_has_one_slot(entry):
    crowd = [entry(n, group=b"sybil") for n in range(1, 20)]
    others = [entry(n) for n in range(20, 23)]
    choice = acceptable([*crowd, *others], MODEL, TERMS, Memory(), NOW)
    assert len(choice) == 4
    counts = shares(choice, 8_000)
    of_sybil = sum(counts[worker.id] for worker in crowd)
    assert chi_square([of_sybil, *(counts[other.id] for other in others)], 2_000) < 16.3
    assert chi_square([counts[worker.id] for worker in crowd], of_sybil / 19) < 42.3


def test_nobody_is_drawn_twice_for_one_request(entry):
    workers = [entry(n) for n in range(1, 4)]
    tried, entropy = [], seeded(3)
    for left in (3, 2, 1):
        choice = acceptable(workers, MODEL, TERMS, Memory(), NOW, tried=tried)
        assert len(choice) == left
        tried.append(draw(choice, entropy).id)
    assert len(set(tried)) == 3
    nobody = acceptable(workers, MODEL, TERMS, Memory(), NOW, tried=tried)
    with pytest.raises(ValueError, match="1"):
        draw(nobody, entropy)


# --- who is acceptable ---


@pytest.mark.parametrize(
    ("changes", "terms", "reason"),
    [
        ({"live": False}, {}, Reason.NOT_LIVE),
        ({"fields": {"roles": Role.MINT | Role.DIALABLE, "models": ()}}, {}, Reason.NOT_LIVE),
        ({"identity": b"x" * 32}, {}, Reason.MODEL),
        ({}, {"only": b"x" * 32}, Reason.MODEL),
        ({}, {"needs": Need.LOGPROBS}, Reason.NEEDS),
        ({"context": 256}, {}, Reason.CONTEXT),
        ({}, {"context_above": 4_096}, Reason.CONTEXT),
        ({}, {"upload": 5 * 2**20}, Reason.CONTEXT),
        ({"prices": Prices(0, 1)}, {}, Reason.PRICE),
        ({"prices": Prices(0, 10**9)}, {"max_price": Nano(255_999)}, Reason.PRICE),
        ({"answer_rate": 2}, {}, Reason.SLOW),
        ({}, {"assurance": ASSURED_AUDITED}, Reason.ASSURANCE),
        ({"lacks": {"addresses": ()}}, {}, Reason.UNREACHABLE),
        ({"lacks": {"onion": None}}, {}, Reason.UNREACHABLE),
    ],
)
def test_each_reason_is_counted(entry, changes, terms, reason):
    choice = acceptable([entry(1, **changes)], MODEL, replace(TERMS, **terms), Memory(), NOW)
    assert choice.rejected == {reason: 1}
    assert len(choice) == 0


@pytest.mark.parametrize(
    ("changes", "terms"),
    [
        ({"prices": Prices(0, 10**9)}, {"max_price": Nano(256_000)}),
        ({"flags": int(Need.LOGPROBS)}, {"needs": Need.LOGPROBS | Need.EVIDENCE}),
        ({"context": 272}, {}),
        ({"answer_rate": 3}, {}),
        ({}, {"max_tokens": None}),
    ],
)
def test_the_border_is_inside(entry, changes, terms):
    worker = entry(1, **changes)
    choice = acceptable([worker], MODEL, replace(TERMS, **terms), Memory(), NOW)
    assert choice.rejected == {}


@given(
    st.builds(tariff.Prices, *(st.integers(0, 10**9) for _ in range(4))),
    st.integers(1, 4_000),
    st.integers(1, 8_192),
    st.integers(0, 20_000),
)
def test_no_prompt_of_a_class_with_its_answer_costs_more_than_is_quoted(
    prices, size, context, prompt
):
    terms = Terms(size_class=size.bit_length(), max_tokens=size)
    prompt = min(prompt, terms.most_prompt, context)
    written = min(size, context - prompt)
    assert tariff.quote(prompt, written, prices) <= terms.quoted(prices, context)


def test_nobody_asks_itself(entry):
    me = entry(1)
    choice = acceptable([me], MODEL, replace(TERMS, asker=me.id), Memory(), NOW)
    assert choice.rejected == {Reason.SELF: 1}


@given(st.permutations(range(1, 7)), st.integers(0, 2**32))
def test_the_choice_depends_on_who_is_listed_and_not_on_their_order(numbers, seed):
    entries = [ENTRIES[number] for number in numbers]
    one = acceptable(entries, MODEL, TERMS, Memory(), NOW)
    assert sorted(one.slots) == sorted(ENTRIES[n].group for n in range(1, 7))


@pytest.fixture(autouse=True)
def _entries(entry):
    if not ENTRIES:
        ENTRIES.update({number: entry(number) for number in range(1, 7)})


ENTRIES = {}


# --- memory ---


def test_results_only_exclude_and_only_for_a_while(entry):
    refused, lost, lied, fine = (entry(n) for n in range(1, 5))
    memory = Memory()
    memory.refused(NOW, refused.id)
    memory.lost(NOW, lost.id)
    memory.lied(NOW, lied.group)
    everyone = [refused, lost, lied, fine]

    def left(later):
        return acceptable(everyone, MODEL, TERMS, memory, NOW + later)

    assert left(1).rejected == {Reason.COOLING: 2, Reason.BANNED: 1}
    assert len(left(1)) == 1
    assert len(left(COOL_REFUSED)) == 2
    assert len(left(COOL_LOST)) == 3
    assert len(left(BAN)) == 4


def test_who_cools_off_is_asked_again_when_nobody_else_is_left(entry):
    busy, liar = entry(1), entry(2)
    memory = Memory()
    memory.refused(NOW, busy.id)
    memory.lied(NOW, liar.group)
    choice = acceptable([busy, liar], MODEL, TERMS, memory, NOW)
    assert list(choice.slots) == [busy.group]
    assert choice.rejected == {Reason.COOLING: 1, Reason.BANNED: 1}


def test_who_says_it_is_busy_is_asked_only_if_nobody_else_is_left(entry):
    busy, fine = replace(entry(1), open=False), entry(2)
    choice = acceptable([busy, fine], MODEL, TERMS, Memory(), NOW)
    assert (list(choice.slots), choice.rejected) == ([fine.group], {Reason.BUSY: 1})
    alone = acceptable([busy], MODEL, TERMS, Memory(), NOW)
    assert list(alone.slots) == [busy.group]
    memory = Memory()
    memory.lied(NOW, busy.group)
    assert acceptable([busy], MODEL, TERMS, memory, NOW).rejected == {Reason.BANNED: 1}


def test_a_lie_bans_the_operator_with_all_its_nodes(entry):
    memory = Memory()
    memory.lied(NOW, b"operator")
    nodes = [entry(n, group=b"operator") for n in range(1, 4)]
    assert acceptable(nodes, MODEL, TERMS, memory, NOW).rejected == {Reason.BANNED: 3}


def test_a_longer_exclusion_is_not_shortened(entry):
    worker = entry(1)
    memory = Memory()
    memory.lost(NOW, worker.id)
    memory.refused(NOW, worker.id)
    assert memory.excludes(NOW + COOL_REFUSED + 1, worker.id, worker.group) is Reason.COOLING


def test_memory_is_bounded():
    memory = Memory()
    for number in range(market.MAX_REMEMBERED + 100):
        memory.lost(NOW, number.to_bytes(32, "big"))
        memory.lied(NOW, number.to_bytes(32, "big"))
    assert memory.sizes() == {"cooling": market.MAX_REMEMBERED, "banned": market.MAX_REMEMBERED}
    assert memory.excludes(NOW, (4_195).to_bytes(32, "big"), b"") is Reason.COOLING


# --- names ---

SMALL = Known(base="smollm2", quant="q4_1", file=b"\xab" * 32, identity=b"m" * 32, rank=1)
SMALL_Q8 = Known(base="smollm2", quant="q8_0", file=b"\xcd" * 32, identity=b"q" * 32, rank=2)
BIG = Known(base="big", quant="q4_k", file=b"\xef" * 32, identity=b"b" * 32, rank=10)
KNOWN = (SMALL, SMALL_Q8, BIG)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("smollm2", [SMALL, SMALL_Q8]),
        ("smollm2-q4_1", [SMALL]),
        ("smollm2@q8_0", [SMALL_Q8]),
        ("smollm2:" + "ab" * 6, [SMALL]),
        ("smollm2:" + "AB" * 6, [SMALL]),
        ("smollm2@q4_1:" + "ab" * 32, [SMALL]),
        ("smollm2@sha256:" + "cd" * 32, [SMALL_Q8]),
        (SMALL.name, [SMALL]),
        ("auto", [BIG, SMALL_Q8, SMALL]),
        ("auto:" + "ab" * 6, [SMALL]),
        ("smollm2:" + "ab" * 5, []),
        ("smollm2:" + "cd" * 5 + "zz", []),
        ("smollm2@q8_0:" + "ab" * 32, []),
        ("smollm2@q5", []),
        ("SMOLLM2", []),
        ("", []),
        (":", []),
        ("gpt-17", []),
    ],
)
def test_names_of_models(name, meant):
    assert identities(name, KNOWN, []) == tuple(known.identity for known in meant)


def test_a_model_outside_the_catalogue_is_asked_for_by_its_full_hash():
    assert identities("x:" + "12" * 32, KNOWN, []) == (b"\x12" * 32,)


def test_auto_without_a_catalogue_is_what_is_listed(entry):
    listed = [entry(1), entry(2), entry(3, identity=b"x" * 32)]
    assert identities("auto", (), listed) == (b"m" * 32, b"x" * 32)
    assert identities("auto", (SMALL,), listed) == (b"m" * 32,)


def test_auto_takes_the_best_that_enough_serve_else_what_most_serve():
    def slots(count):
        return Choice(slots={bytes([n]): () for n in range(count)}, rejected={})

    assert pick_model({b"big": slots(FEW - 1), b"small": slots(FEW)}) == b"small"
    assert pick_model({b"big": slots(FEW), b"small": slots(3 * FEW)}) == b"big"
    assert pick_model({b"big": slots(2), b"small": slots(3)}) == b"small"
    assert pick_model({b"big": slots(2), b"small": slots(2)}) == b"big"
    assert pick_model({b"big": slots(0)}) is None
    assert pick_model({}) is None
