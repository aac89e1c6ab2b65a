"""Every check of the lane is needed: without any one of them, a case of `cases.py` fails.

A mutant reads what the check read and believes it, or moves a boundary by one. Each names the case
that must notice; a check in the source that no mutant removes fails the last test.
"""

import re
from collections import Counter

import pytest
from pytoniq_core import Cell

from ledger.contracts import build
from tests.ledger.contracts import cases

SOURCE = build.SOURCES[1].read_text()

REMOVED = {
    "throw_if(111, message.begin_parse().slice_refs() - 1);": ("", "external_comes_alone"),
    "throw_unless(101, check_signature(order_hash(body, voucher), signature, payee_key));": (
        "",
        "external_needs_the_payees_signature",
    ),
    "throw_unless(105, body~skip_prefix(my_address()));\n    throw_if(108": (
        "body~load_bits(267);\n    throw_if(108",
        "external_is_for_one_lane",
    ),
    "throw_if(108, now() > body~load_uint(32));": ("body~load_uint(32);", "external_expires"),
    "throw_if(104, op - body.preload_uint(32));": ("", "external_does_what_was_signed"),
    "throw_if(100, closing >> 1);": ("", "external_is_claim_or_close"),
    "throw_unless(103, owed + closing > 0);": ("", "claim_needs_something_new"),
    "throw_unless(109, amount > 0);\n        config": ("config", "claim_needs_more_than_it_costs"),
    "throw_unless(110, (due >= config~load_coins()) | close_at);": (
        "",
        "claim_waits_for_the_least_amount",
    ),
    "throw_if(107, close_at == CLOSED);": ("", "close_happens_once"),
    "throw_if(109, due < 0);": ("", "close_needs_its_reserve"),
    "throw_if(109, balance - due < cost + out + gas_fee(GAS_CLOSE, 0));": (
        "",
        "close_needs_its_cost",
    ),
    "throw_unless(102, check_signature(voucher_hash(body), signature, payer_key));": (
        "",
        "voucher_needs_the_payers_signature",
    ),
    "throw_unless(104, body~skip_voucher_tag());": ("body~load_uint(32);", "voucher_has_a_tag"),
    "throw_unless(105, body~skip_prefix(my_address()));\n    int cumulative": (
        "body~load_bits(267);\n    int cumulative",
        "voucher_is_for_one_lane",
    ),
    "body.end_parse();\n    return cumulative": (
        "return cumulative",
        "voucher_has_nothing_behind_it",
    ),
    "body.end_parse();\n        throw_unless(103": (
        "throw_unless(103",
        "anybodys_claim_has_nothing_behind_it",
    ),
    "throw_unless(103, cumulative > claimed);": ("", "anybodys_claim_needs_something_new"),
    "throw_unless(109, amount > 0);\n        claimed": (
        "claimed",
        "anybodys_claim_needs_spare_coins",
    ),
    "throw_unless(106, header~load_msg_addr().equal?(to));": ("", "payer_alone_starts_to_close"),
    "throw_if(107, close_at);": ("", "start_close_happens_once"),
    "throw_unless(0xffff, op == START_CLOSE);": ("", "anything_else_goes_back"),
    "throw_unless(107, (close_at > 0) & (now() >= close_at));": ("", "finish_waits_for_its_time"),
}

MOVED = {
    "now() > body~load_uint(32)": ("now() >= body~load_uint(32)", "external_expires"),
    "owed + closing > 0": ("owed >= 0", "claim_needs_something_new"),
    "owed + closing > 0)": ("(owed > 0) | closing)", "close_needs_all_that_was_claimed"),
    "min(owed, balance - RESERVE)": ("owed", "claim_pays_what_is_there"),
    "balance - RESERVE)": ("balance)", "claim_pays_what_is_there"),
    "amount = due - cost - gas_fee(GAS_CLAIM, 0);": (
        "amount = due;",
        "claim_pays_what_is_new_less_its_cost",
    ),
    "throw_unless(109, amount > 0);\n        config~": (
        "throw_unless(109, amount >= 0);\n        config~",
        "claim_needs_more_than_it_costs",
    ),
    "(due >= config~load_coins()) | close_at": (
        "due >= config~load_coins()",
        "claim_waits_for_the_least_amount",
    ),
    "due >= config~load_coins()": ("due > config~load_coins()", "claim_waits_for_the_least_amount"),
    "balance - due < cost": ("balance - due <= cost", "close_needs_its_cost"),
    "cost + out + gas_fee(GAS_CLOSE, 0)": ("cost + gas_fee(GAS_CLOSE, 0)", "close_needs_its_cost"),
    "if (due) {": ("if (due + 1) {", "close_after_claims_needs_nothing_new"),
    "cumulative > claimed": ("cumulative >= claimed", "anybodys_claim_needs_something_new"),
    "balance - value - RESERVE": ("balance - RESERVE", "anybodys_claim_needs_spare_coins"),
    "(close_at > 0) & (now() >= close_at)": (
        "now() >= close_at",
        "finish_never_comes_before_a_start",
    ),
    "now() >= close_at": ("now() > close_at", "finish_waits_for_its_time"),
    "body.slice_empty?() | bounced": ("body.slice_empty?()", "coins_are_let_in"),
    "(body.slice_empty?() | bounced)": ("(bounced)", "coins_are_let_in"),
    "op == TOP_UP": ("op == 0", "coins_are_let_in"),
}

MUTANTS = REMOVED | MOVED


@pytest.mark.parametrize("check", MUTANTS)
def test_without_it_a_case_fails(check, tmp_path):
    instead, name = MUTANTS[check]
    assert SOURCE.count(check) == 1, "the check is not, or not once, in the source"
    source = tmp_path / "lane.fc"
    source.write_text(SOURCE.replace(check, instead))
    code = Cell.one_from_boc(build.compiled([build.SOURCES[0], source]))
    case = getattr(cases, name)
    with pytest.raises(AssertionError):
        case(code)


def test_every_check_of_the_source_is_removed():
    checks = Counter(re.findall(r"(?:throw_\w+\(.*\)|\w+\.end_parse\(\));", SOURCE))
    removed = {
        check: sum(check in before and check not in after for before, (after, _) in REMOVED.items())
        for check in checks
    }
    assert removed == checks
