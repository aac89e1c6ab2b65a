"""The wallet, against the builder of pytoniq."""

import pytest
from pytoniq.contract.wallets.wallet_v5 import WALLET_V5_R1_CODE, WalletV5R1, WalletV5WalletID
from pytoniq_core import Address, Builder, Cell
from pytoniq_core.tlb.account import StateInit
from pytoniq_core.tlb.transaction import ExternalMsgInfo, MessageAny

from ledger.chain import wallet
from ledger.lane import Account
from ledger.money import Nano
from p2p.identity import Identity

KEY = Identity(bytes(range(32)))
NETWORKS = pytest.mark.parametrize("network", [-239, -3, -4242])


def bodies():
    small = Builder().store_uint(0x4C4E0002, 32).end_cell()
    full = Builder().store_bytes(bytes(127)).end_cell()
    wide = Builder().store_ref(small).store_ref(full).store_ref(small).store_ref(full).end_cell()
    return [None, small, full, wide]


def orders():
    code = Cell.one_from_boc(wallet.CODE.to_boc())
    init = Builder().store_uint(0b00110, 5).store_ref(code).store_ref(Cell.empty()).end_cell()
    for number, body in enumerate(bodies()):
        for with_init in (None, init):
            yield wallet.Transfer(
                dest=Account(bytes([number]) * 32),
                value=Nano(10**9 * number),
                body=body,
                state_init=with_init,
                bounce=number % 2 == 0,
            )


def theirs(order):
    init = order.state_init and StateInit.deserialize(order.state_init.begin_parse())
    return WalletV5R1.create_wallet_internal_message(
        destination=Address((0, order.dest)),
        value=order.value.value,
        body=order.body,
        state_init=init,
        bounce=order.bounce,
    )


@NETWORKS
def test_address_is_that_of_pytoniq(network):
    data = WalletV5R1.create_data_cell(KEY.public, network_global_id=network)
    init = StateInit(code=WALLET_V5_R1_CODE, data=data).serialize()
    assert wallet.state_init(KEY.public, network).hash == init.hash
    assert wallet.address(KEY.public, network) == init.hash


def test_networks_give_different_addresses():
    assert len({wallet.address(KEY.public, network) for network in (-239, -3, -4242)}) == 3


@NETWORKS
@pytest.mark.parametrize(("seqno", "until"), [(0, 2**32 - 1), (1, 1_700_000_000), (2**31, 5)])
def test_transfers_are_bit_for_bit_those_of_pytoniq(network, seqno, until):
    builder = object.__new__(WalletV5R1)
    wallet_id = WalletV5WalletID(workchain=0, network_global_id=network).pack()
    messages = [theirs(order) for order in orders()]
    body = builder.raw_create_transfer_msg(KEY.seed + KEY.public, seqno, wallet_id, messages, until)
    first = wallet.state_init(KEY.public, network)
    expected = MessageAny(
        info=ExternalMsgInfo(None, Address((0, wallet.address(KEY.public, network))), 0),
        init=StateInit.deserialize(first.begin_parse()) if seqno == 0 else None,
        body=body,
    )
    ours = wallet.transfer(KEY, [*orders()], network=network, seqno=seqno, valid_until=until)
    assert Cell.one_from_boc(ours).hash == expected.serialize().hash


def test_255_messages_are_one_transfer_and_256_are_none():
    order = wallet.Transfer(dest=Account(bytes(32)), value=Nano(1))
    boc = wallet.transfer(KEY, [order] * 255, network=-3, seqno=1, valid_until=1)
    assert len(boc) < 65_536
    with pytest.raises(ValueError, match="256"):
        wallet.transfer(KEY, [order] * 256, network=-3, seqno=1, valid_until=1)


def test_seqno_is_read_from_the_data():
    data = WalletV5R1.create_data_cell(KEY.public, network_global_id=-3)
    assert wallet.seqno(data) == 0 == wallet.seqno(None)
    reader = data.begin_parse()
    reader.skip_bits(33)
    later = Builder().store_bit_int(1).store_uint(77, 32).store_slice(reader).end_cell()
    assert wallet.seqno(later) == 77
