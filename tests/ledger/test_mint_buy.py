"""Buying credits: what a mint sells for a voucher, and what it refuses and leaves as it was."""

from dataclasses import replace

import pytest

from ledger import wire
from ledger.credit import BUNDLES, Keyset, worth
from ledger.lane import Phase
from ledger.messages import Code, Err, Sigs
from ledger.money import ZERO, Nano
from tests.ledger.parties import EPOCH, MINT, NOW, Customer, Desk

S = worth(BUNDLES["S"])
PRICE = S + (S * 50).ceil_div(10_000)


def refused(desk, request, code):
    before = desk.sheet()
    reply = desk.call("buy", request)
    assert isinstance(reply, Err)
    assert reply.code is code
    assert desk.sheet() == before


@pytest.mark.parametrize("bundle", ["S", "M", "L"])
def test_a_bundle_is_two_of_each_credit_and_all_of_them_good(desk, customer, bundle):
    keyset = desk.stock(customer, bundle)
    assert sorted(coin.j for coin in customer.coins) == sorted(BUNDLES[bundle])
    sheet = desk.sheet()
    assert sheet.received == keyset.price(BUNDLES[bundle])
    assert sheet.outstanding == worth(BUNDLES[bundle])
    assert sheet.received == sheet.outstanding + sheet.fees
    assert sheet.advance == ZERO


def test_the_fee_is_half_a_percent_rounded_up(desk, customer):
    desk.stock(customer)
    assert desk.sheet().fees == Nano(-(-S.value * 50 // 10_000))


def test_buying_again_gets_the_same_bytes_and_costs_nothing(desk, customer):
    request = customer.buy(desk.keyset())
    first = desk.call("buy", request)
    sheet = desk.sheet()
    assert wire.encode(desk.call("buy", request)) == wire.encode(first)
    assert desk.sheet() == sheet


def test_a_purchase_can_be_had_again_after_its_epoch_was_sold_out(desk, customer):
    request = customer.buy(desk.keyset())
    first = desk.call("buy", request)
    desk.now += 20 * 86_400
    desk.call("expire")
    assert desk.call("buy", request) == first


def test_one_id_is_one_purchase(desk, customer):
    keyset = desk.keyset()
    first = customer.buy(keyset)
    desk.call("buy", first)
    refused(desk, replace(customer.buy(keyset), rid=first.rid), Code.BAD_REQUEST)


def test_too_little_is_refused_and_the_voucher_good_for_the_next_try(desk, customer):
    keyset = desk.keyset()
    refused(desk, customer.buy(keyset, promised=PRICE - Nano(1)), Code.PRICE)
    assert isinstance(desk.call("buy", customer.buy(keyset, promised=PRICE)), Sigs)


def test_what_was_promised_beyond_the_price_pays_the_next_bundle(desk, customer):
    keyset = desk.keyset()
    desk.call("buy", customer.buy(keyset, promised=PRICE * 2))
    assert desk.sheet().advance == PRICE
    assert isinstance(desk.call("buy", customer.buy(keyset, promised=PRICE * 2)), Sigs)
    assert desk.sheet().advance == ZERO
    refused(desk, customer.buy(keyset, promised=PRICE * 2), Code.PRICE)


def test_an_old_voucher_buys_nothing_and_takes_nothing_back(desk, customer):
    desk.stock(customer)
    desk.stock(customer)
    keyset = desk.keyset()
    refused(desk, customer.buy(keyset, promised=PRICE), Code.PRICE)
    assert desk.sheet().received == PRICE * 2


def test_a_voucher_of_a_stranger_is_none(desk, customer):
    thief = Customer(name=2)
    request = replace(customer.buy(desk.keyset()), voucher=thief.voucher(PRICE))
    refused(desk, request, Code.UNKNOWN_LANE)
    forged = replace(thief.voucher(PRICE), lane=customer.lane)
    refused(desk, replace(request, voucher=forged), Code.VOUCHER)


def test_a_lane_that_is_empty_closing_or_unseen_pays_nothing(desk):
    poor, closing, unseen = Customer(name=3), Customer(name=4), Customer(name=5)
    keyset = desk.keyset()
    desk.open_in(poor, PRICE - Nano(1))
    refused(desk, poor.buy(keyset), Code.VOUCHER)
    for customer, change in ((closing, {"phase": Phase.CLOSING}), (unseen, {"seen_at": NOW - 601})):
        desk.open_in(customer)
        lane = desk.read("lane_in", customer.lane)
        changed = replace(lane, row=replace(lane.row, **change))
        desk.book.write(lambda book, changed=changed: book.save_lane_in(changed))
        refused(desk, customer.buy(keyset), Code.VOUCHER)


def test_only_the_epoch_on_sale_is_sold(desk, customer):
    keyset = desk.keyset()
    for epoch in (EPOCH - 1, EPOCH + 1):
        refused(desk, replace(customer.buy(keyset), epoch=epoch), Code.STALE_KEYSET)
    desk.now += 7 * 86_400
    refused(desk, customer.buy(keyset), Code.STALE_KEYSET)


@pytest.mark.parametrize("bundle", ["X", "", "s"])
def test_there_are_three_bundles(desk, customer, bundle):
    refused(desk, replace(customer.buy(desk.keyset()), bundle=bundle), Code.BAD_REQUEST)


def test_a_bundle_has_its_number_of_outputs(desk, customer):
    request = customer.buy(desk.keyset())
    for outputs in (request.outputs[1:], request.outputs * 2, ()):
        refused(desk, replace(request, outputs=outputs), Code.BAD_REQUEST)


def test_no_point_is_signed_twice(desk, customer):
    keyset = desk.keyset()
    first = customer.buy(keyset)
    twice = replace(first, outputs=(first.outputs[1], *first.outputs[1:]))
    refused(desk, twice, Code.BAD_REQUEST)
    desk.call("buy", first)
    again = customer.buy(keyset)
    refused(desk, replace(again, outputs=first.outputs), Code.BAD_REQUEST)


@pytest.mark.parametrize("hostile", [bytes(32), b"\x01" + bytes(31), b"\xff" * 32])
def test_what_is_no_point_is_not_signed(desk, customer, hostile):
    request = customer.buy(desk.keyset())
    refused(desk, replace(request, outputs=(*request.outputs[:-1], hostile)), Code.BAD_REQUEST)


def test_a_purchase_happens_whole_or_not_at_all(desk, customer):
    request = customer.buy(desk.keyset())
    failed, reply = desk.failing("buy", request)
    assert failed == 4
    assert isinstance(reply, Sigs)
    assert desk.sheet().received == PRICE


def test_an_epoch_has_one_keyset_whatever_the_settings_say_later(book):
    cheap = Desk(book, fee_bp=0).keyset()
    dear = Desk(book, fee_bp=500).keyset()
    assert dear == cheap
    assert dear.fee_bp == 0


def test_keysets_come_the_newest_last_and_signed(desk):
    desk.keyset()
    desk.now += 7 * 86_400
    keysets = [Keyset.parse(signed, MINT.public) for signed in desk.call("keysets").keysets]
    assert [keyset.epoch for keyset in keysets] == [EPOCH, EPOCH + 1]
    assert keysets[-1].on_sale(desk.now)
    assert not keysets[0].on_sale(desk.now)


def test_no_two_lanes_share_what_was_paid(desk, customer):
    other = Customer(name=2)
    desk.open_in(other)
    desk.call("buy", customer.buy(desk.keyset(), promised=PRICE * 2))
    refused(desk, other.buy(desk.keyset(), promised=Nano(1)), Code.PRICE)
