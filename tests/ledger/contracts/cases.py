"""What a lane must let in and refuse, each a function of its code: run on ours and on mutants.

Wherever an amount or a time decides, both sides of the boundary are tried.
"""

import inspect

from pytoniq_core import Builder, Cell

from ledger.chain.config import FORWARD, GAS, mainnet_config, scale_config
from ledger.chain.engine import Refused
from ledger.contracts import cells
from ledger.lane import CLOSED_AT, Op
from ledger.money import Nano
from ledger.voucher import Voucher
from tests.ledger.contracts.world import (
    DAY,
    PAYEE,
    PAYEE_KEY,
    PAYER,
    PAYER_KEY,
    RESERVE,
    STRANGER,
    TON,
    World,
    signed_order,
    signed_voucher,
    terms,
)

CLAIM_COST = 6_600 * 400 + 400_000 + 1_720 * 400 + 3 * 40_000 + 400_000
"""nano, at mainnet's prices"""
CLOSE_COST = CLAIM_COST + 1_800 * 400 + 400_000
UNKNOWN = 0xFFFF
STRANGE_KEY = type(PAYER_KEY)(b"\x09" * 32)
DEAR = scale_config(mainnet_config(), (*GAS, *FORWARD), 100)


def lane(code, deposit=TON, **changes):
    return World(config=terms(**changes), code=code).open(deposit)


def refused(world, outcome, exit_code):
    """Nothing happened at all."""
    assert isinstance(outcome, Refused), f"accepted: {outcome}"
    assert outcome.exit_code == exit_code, f"{outcome.exit_code}, not {exit_code}"


def bounced(world, txs, exit_code):
    """The contract failed and sent the coins back."""
    assert txs[0].exit_code == exit_code, f"{txs[0].exit_code}, not {exit_code}"
    assert not txs[0].success
    assert txs[0].outgoing[0].bounced


def accepted(world, txs):
    """All went well, the actions too."""
    assert isinstance(txs, list), f"refused: {txs.exit_code}"
    assert all(tx.success for tx in txs if tx.account == world.lane)
    return txs


# --- externals: signatures, addresses, times ---


def external_needs_the_payees_signature(code):
    w = lane(code)
    refused(w, w.claim(TON // 2, payee=STRANGE_KEY), 101)
    refused(w, w.close(TON // 2, payee=PAYER_KEY), 101)
    accepted(w, w.claim(TON // 2))


def external_is_for_one_lane(code):
    w = lane(code)
    other = World(config=terms(lane_id=8), code=code).lane
    voucher = cells.voucher_cell(w.voucher(TON // 2))
    for op in (Op.CLAIM, Op.CLOSE):
        body = signed_order(op, op, other, w.now + 60, voucher)
        refused(w, w.post_body(body), 105)


def external_does_what_was_signed(code):
    w = lane(code)
    voucher = cells.voucher_cell(w.voucher(TON // 2))
    for outer, inner in ((Op.CLAIM, Op.CLOSE), (Op.CLOSE, Op.CLAIM)):
        body = signed_order(outer, inner, w.lane, w.now + 60, voucher)
        refused(w, w.post_body(body), 104)


def external_expires(code):
    w = lane(code)
    refused(w, w.claim(TON // 2, until=w.now - 1), 108)
    refused(w, w.close(TON // 2, until=w.now - 1), 108)
    accepted(w, w.claim(TON // 2, until=w.now))


def external_is_claim_or_close(code):
    w = lane(code)
    voucher = cells.voucher_cell(w.voucher(TON // 2))
    for op in (Op.TOP_UP, Op.START_CLOSE, Op.FINISH, 0, 0x4C4F0003, 2**32 - 1):
        refused(w, w.post_body(signed_order(op, op, w.lane, w.now + 60, voucher)), 100)


def external_has_no_trailing_bits(code):
    w = lane(code)
    voucher = cells.voucher_cell(w.voucher(TON // 2))
    body = signed_order(Op.CLAIM, Op.CLAIM, w.lane, w.now + 60, voucher, more="0" * 8)
    refused(w, w.post_body(body), 101)


def external_comes_alone(code):
    w = lane(code)
    order = w.order(cells.claim_order, TON // 2)
    refused(w, w.deliver(with_init(order, w.init), w.lane), 111)
    accepted(w, w.post(order))


def with_init(boc, init):
    """The same external with a StateInit."""
    message = Cell.one_from_boc(boc)
    head = message.begin_parse()
    fat = Builder().store_bits(head.load_bits(2 + 2 + 267 + 4)).store_bits("11").store_ref(init)
    return fat.store_bit_int(1).store_ref(message.refs[0]).end_cell()


# --- vouchers, by either way ---


def voucher_needs_the_payers_signature(code):
    w = lane(code)
    refused(w, w.claim(TON // 2, payer=PAYEE_KEY), 102)
    forged = Voucher(lane=w.lane, cumulative=Nano(TON), sig=w.voucher(TON // 2).sig)
    bounced(w, w.send(STRANGER, TON // 20, cells.claim_body(forged)), 102)
    refused(w, w.post(cells.claim_order(w.lane, forged, w.now + 60, PAYEE_KEY)), 102)


def voucher_has_a_tag(code):
    w = lane(code)
    both_ways(w, signed_voucher(w.lane, TON // 2, tag=0x4C414E46), 104)


def voucher_is_for_one_lane(code):
    w = lane(code)
    other = World(config=terms(lane_id=8), code=code).lane
    both_ways(w, signed_voucher(other, TON // 2), 105)


def voucher_has_nothing_behind_it(code):
    w = lane(code)
    both_ways(w, signed_voucher(w.lane, TON // 2, more="0" * 8), 9)


def voucher_has_no_references(code):
    w = lane(code)
    cell = signed_voucher(w.lane, TON // 2, refs=[Cell.empty()])
    body = signed_order(Op.CLAIM, Op.CLAIM, w.lane, w.now + 60, cell)
    refused(w, w.post_body(body), 101)
    bounced(w, w.send(STRANGER, TON // 20, claim_of(cell)), 102)


def both_ways(w, cell, exit_code):
    for op in (Op.CLAIM, Op.CLOSE):
        refused(w, w.post_body(signed_order(op, op, w.lane, w.now + 60, cell)), exit_code)
    bounced(w, w.send(STRANGER, TON // 20, claim_of(cell)), exit_code)


def claim_of(cell):
    return Builder().store_uint(Op.CLAIM, 32).store_ref(cell).end_cell()


# --- claim, external ---


def claim_pays_what_is_new_less_its_cost(code):
    w = lane(code)
    before = w.balance()
    accepted(w, w.claim(TON // 4))
    assert w.claimed == TON // 4
    assert w.balance(PAYEE) == TON // 4 - CLAIM_COST
    assert before - w.balance() <= TON // 4
    accepted(w, w.claim(TON // 2))
    assert w.claimed == TON // 2


def claim_needs_something_new(code):
    w = lane(code)
    refused(w, w.claim(0), 103)
    accepted(w, w.claim(TON // 2))
    refused(w, w.claim(TON // 2), 103)
    refused(w, w.claim(TON // 4), 103)


def claim_needs_more_than_it_costs(code):
    w = lane(code)
    refused(w, w.claim(CLAIM_COST), 109)
    accepted(w, w.claim(CLAIM_COST + 1))
    assert w.claimed == CLAIM_COST + 1


def claim_pays_what_is_there(code):
    w = lane(code)
    accepted(w, w.claim(5 * TON))
    assert 0 <= w.balance() - RESERVE < CLAIM_COST
    assert w.claimed < TON - RESERVE
    refused(w, w.claim(5 * TON), 109)
    w.send(PAYER, TON, cells.top_up_body())
    accepted(w, w.claim(5 * TON))
    assert TON < w.claimed < 2 * TON


def claim_waits_for_the_least_amount(code):
    w = lane(code, min_claim=Nano(TON // 10))
    refused(w, w.claim(TON // 10 - 1), 110)
    accepted(w, w.claim(TON // 10))
    refused(w, w.claim(TON // 5 - 1), 110)
    w.start_close()
    accepted(w, w.claim(TON // 5 - 1))


# --- close ---


def close_shares_out_and_deletes(code):
    w = lane(code)
    before, funds = w.balance(PAYER), w.balance()
    accepted(w, w.close(TON // 4))
    assert w.account(w.lane) is None or w.state is None
    assert w.balance(PAYEE) == TON // 4
    assert w.balance(PAYER) - before >= funds - TON // 4 - CLOSE_COST
    assert w.balance() == 0


def close_after_claims_needs_nothing_new(code):
    w = lane(code)
    accepted(w, w.claim(TON // 4))
    paid = w.balance(PAYEE)
    txs = accepted(w, w.close(TON // 4))
    assert len(txs[0].outgoing) == 1
    assert w.balance(PAYEE) == paid
    assert w.state is None


def close_needs_all_that_was_claimed(code):
    w = lane(code)
    accepted(w, w.claim(TON // 4))
    refused(w, w.close(TON // 4 - 1), 103)
    accepted(w, w.close(TON // 4))


def close_pays_what_is_there(code):
    w = lane(code)
    spare = w.balance() - RESERVE
    txs = accepted(w, w.close(5 * TON))
    import_fee = w.balance(PAYEE) - spare
    assert -1_400_000 < import_fee < 0, txs


def close_needs_its_reserve(code):
    w = World(config=terms(), code=code).plant(RESERVE + 1_000_000)
    refused(w, w.close(0), 109)
    w = World(config=terms(), code=code).plant(RESERVE + 2_000_000)
    accepted(w, w.close(0))


def close_needs_its_cost(code):
    w = World(config=terms(), code=code, prices=DEAR)
    import_fee = 100 * (400_000 + 2 * 40_000 + 1_690 * 400)
    w.plant(CLOSE_COST * 100 + import_fee - 1)
    refused(w, w.close(0), 109)
    w.plant(CLOSE_COST * 100 + import_fee)
    accepted(w, w.close(0))
    assert w.state is None


def close_happens_once(code):
    w = World(config=terms(), code=code).plant(TON, claimed=TON // 4, close_at=CLOSED_AT)
    refused(w, w.close(TON // 2), 107)


def close_overtakes_the_payer(code):
    w = lane(code)
    w.start_close()
    accepted(w, w.close(TON // 4))
    assert w.balance(PAYEE) == TON // 4


# --- claim by anybody ---


def anybody_claims_for_the_payee(code):
    w = lane(code)
    before = w.balance()
    accepted(w, w.claim_for(TON // 4))
    assert w.claimed == TON // 4
    assert w.balance(PAYEE) > TON // 4
    assert w.balance() == before - TON // 4


def anybodys_claim_needs_something_new(code):
    w = lane(code)
    bounced(w, w.claim_for(0), 103)
    accepted(w, w.claim_for(TON // 4))
    bounced(w, w.claim_for(TON // 4), 103)
    bounced(w, w.claim_for(TON // 8), 103)


def anybodys_claim_needs_spare_coins(code):
    w = World(config=terms(), code=code).plant(RESERVE)
    bounced(w, w.claim_for(TON // 4), 109)
    w.plant(RESERVE + 1)
    accepted(w, w.claim_for(TON // 4))
    assert w.claimed == 1
    assert w.balance() == RESERVE


def anybodys_claim_has_nothing_behind_it(code):
    w = lane(code)
    voucher = cells.voucher_cell(w.voucher(TON // 4))
    body = Builder().store_uint(Op.CLAIM, 32).store_ref(voucher)
    bounced(w, w.send(STRANGER, TON // 20, body.store_bit_int(1).end_cell()), 9)


def anybodys_claim_ignores_the_least_amount(code):
    w = lane(code, min_claim=Nano(TON // 10))
    accepted(w, w.claim_for(1_000))


# --- the payer closes ---


def payer_alone_starts_to_close(code):
    w = lane(code)
    for source in (PAYEE, STRANGER):
        bounced(w, w.start_close(source), 106)
    accepted(w, w.start_close())
    assert w.state.close_at == w.now + DAY


def start_close_happens_once(code):
    w = lane(code)
    accepted(w, w.start_close())
    first = w.state.close_at
    w.now += 60
    bounced(w, w.start_close(), 107)
    assert w.state.close_at == first


def start_close_costs_the_payer_alone(code):
    w = lane(code)
    before = w.balance()
    accepted(w, w.start_close(value=TON // 20))
    assert w.balance() == before
    assert w.balance(PAYER) > TON // 20 - 4_000_000


def finish_waits_for_its_time(code):
    w = lane(code)
    bounced(w, w.finish(), 107)
    w.start_close()
    w.now += DAY - 1
    bounced(w, w.finish(), 107)
    w.now += 1
    before, funds = w.balance(PAYER), w.balance()
    accepted(w, w.finish(STRANGER))
    assert w.state is None
    assert w.balance(PAYER) - before > funds + TON // 20 - 4_000_000


def finish_never_comes_before_a_start(code):
    w = lane(code)
    w.now += 1_000 * DAY
    bounced(w, w.finish(), 107)


def claims_count_until_finish(code):
    w = lane(code)
    w.start_close()
    w.now += 2 * DAY
    accepted(w, w.claim(TON // 4))
    accepted(w, w.claim_for(TON // 2))
    assert w.claimed == TON // 2


# --- coins that come ---


def coins_are_let_in(code):
    w = lane(code)
    before = w.balance()
    plain = accepted(w, w.send(STRANGER, TON))
    marked = accepted(w, w.send(PAYER, TON, cells.top_up_body()))
    back = Builder().store_uint(2**32 - 1, 32).store_uint(Op.CLAIM, 32).end_cell()
    returned = accepted(w, w.send(PAYEE, TON, back, bounce=False, bounced=True))
    empty = accepted(w, w.send(PAYEE, TON, bounce=False, bounced=True))
    lost = sum(tx.fees.value for tx in plain + marked + returned + empty)
    assert w.balance() == before + 4 * TON - lost
    assert all(not tx.outgoing for tx in plain + marked + returned + empty)
    assert all(tx.gas < 800 for tx in plain + marked + returned + empty)


def anything_else_goes_back(code):
    w = lane(code)
    for op in (0, Op.CLOSE, 0x4C4E0007, 0x4C4F0003, 2**32 - 1):
        body = Builder().store_uint(op, 32).store_ref(Cell.empty()).end_cell()
        bounced(w, w.send(PAYER, TON // 20, body), UNKNOWN)
    bounced(w, w.send(PAYER, TON // 20, Builder().store_uint(1, 31).end_cell()), 9)


def _is_case(function):
    return list(inspect.signature(function).parameters) == ["code"]


CASES = [case for case in list(globals().values()) if inspect.isfunction(case) and _is_case(case)]
