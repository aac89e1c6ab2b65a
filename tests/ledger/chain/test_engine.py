"""The machine of TON in this process: equal in, equal out; what is refused says why."""

import pytest
from pytoniq_core import Builder, Cell

from ledger.chain.boc import write_boc
from ledger.chain.config import mainnet_config
from ledger.chain.engine import ABSENT, Done, Engine, Refused
from ledger.chain.records import read_account, read_transaction
from ledger.chain.wallet import external
from ledger.contracts import cells
from ledger.lane import Account
from tests.ledger.contracts.world import PAYER, START, TON, World, internal, terms

ENGINE = Engine(mainnet_config())
LANE = cells.lane_address(terms())
SEED = bytes(range(32))


def deliver(account, message, *, now=START, lt=10**6, seed=SEED, engine=ENGINE):
    return engine.transact(account, message, now=now, lt=lt, seed=seed)


def opening():
    return internal(PAYER, LANE, TON, init=cells.state_init(terms()), bounce=False)


def opened():
    done = deliver(ABSENT, opening())
    assert isinstance(done, Done)
    return done


def test_an_account_comes_to_be():
    done = opened()
    account = read_account(LANE, done.shard_account)
    tx = read_transaction(done.transaction)
    assert account.balance.value == TON - tx.fees.value
    assert account.code_hash == cells.CODE_HASH
    assert account.last_hash == tx.hash
    assert (tx.account, tx.lt, tx.time) == (LANE, 10**6, START)


def test_equal_arguments_give_equal_bytes():
    again = deliver(ABSENT, opening(), engine=Engine(mainnet_config()))
    assert again == opened()


def test_cells_and_bags_are_the_same_to_it():
    assert deliver(write_boc([ABSENT]), write_boc([opening()])) == opened()


@pytest.mark.parametrize("change", [{"now": START + 1}, {"lt": 10**6 + 1}])
def test_time_is_an_argument(change):
    assert deliver(ABSENT, opening(), **change) != opened()


def program(assembly):
    """A contract whose code is an instruction or two, with coins."""
    code = Builder().store_bits(bin(int("1" + assembly, 16))[3:]).end_cell()
    init = Builder().store_uint(0b00110, 5).store_ref(code).store_ref(Cell.empty()).end_cell()
    address = Account(bytes(init.hash))
    message = internal(PAYER, address, TON, init=init, bounce=False)
    return address, deliver(ABSENT, message).shard_account


# `IFNOTRET` first: a message from an account has selector 0, and is let in.
@pytest.mark.parametrize(
    ("assembly", "exit_code"),
    [
        ("DD30", 0),  # DROP: it ends without accepting
        ("DDF20A", 10),  # 10 THROW
        ("DDFEFF", 6),  # no instruction
        ("DDA0", 7),  # ADD of a slice and a cell
    ],
)
def test_what_is_not_accepted_says_with_which_code(assembly, exit_code):
    address, account = program(assembly)
    outcome = deliver(account, Cell.one_from_boc(external(address, Cell.empty())))
    assert isinstance(outcome, Refused)
    assert outcome.exit_code == exit_code


def test_an_endless_program_runs_out_of_gas():
    """`PUSHCONT <{ }> AGAIN`: 10,000 units are all an external has before it is accepted."""
    address, account = program("DD90EA")
    outcome = deliver(account, Cell.one_from_boc(external(address, Cell.empty())))
    assert isinstance(outcome, Refused)
    assert outcome.exit_code == -14


def test_nobody_there_takes_no_external():
    outcome = deliver(ABSENT, Cell.one_from_boc(external(LANE, Cell.empty())))
    assert isinstance(outcome, Refused)
    assert outcome.exit_code is None


def test_an_internal_message_that_is_none_is_our_mistake():
    with pytest.raises(RuntimeError):
        deliver(ABSENT, Builder().store_bit_int(0).end_cell())


def test_a_contract_that_fails_has_still_a_transaction():
    done = deliver(opened().account_boc, internal(PAYER, LANE, TON, cells.finish_body()), lt=10**7)
    assert isinstance(done, Done)
    tx = read_transaction(done.transaction)
    assert (tx.success, tx.exit_code) == (False, 107)
    assert tx.outgoing[0].bounced


def test_get_methods_see_time_balance_and_arguments():
    code = cells.CODE
    got = ENGINE.get_method(
        code=code,
        data=cells.data(terms()),
        address=LANE,
        now=START,
        balance=2**62,
        name="get_lane",
        arguments=(1, None, Cell.empty()),
    )
    assert got.exit_code == 0
    assert got.values == (1, None, *got.values[2:3], 0, 0, 2**62, 20_000_000)
    assert isinstance(got.values[2], Cell)


def test_a_get_method_that_fails_leaves_nothing():
    w = World().open(TON)
    account = w.account(w.lane)
    got = ENGINE.get_method(
        code=account.code, data=Cell.empty(), address=LANE, now=0, balance=0, name="get_lane"
    )
    assert (got.exit_code, got.values) == (9, ())
