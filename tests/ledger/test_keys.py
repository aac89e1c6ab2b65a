"""Keys of one secret: fixed for ever, apart from each other, and never shown."""

import pytest

from ledger.keys import Master
from p2p.identity import Identity

MASTER = Master(bytes(range(32)))


def test_the_wallet_opens_with_the_master_itself():
    assert MASTER.wallet.seed == bytes(range(32))


def test_a_label_and_an_index_give_the_same_key_for_ever():
    """Money is restored from the secret alone: what follows must never change."""
    assert MASTER.sub("tussah.node").hex() == (
        "101487282e57724c01cd30d6127363d2cfbca50715098508d001036d026a8670"
    )
    assert MASTER.payer(2**64 - 1).public.hex() == (
        "e7034c1633c8aa579c26518c43b0414a484d67938ae6d61e3f397f9adcd6c747"
    )


def test_every_use_has_a_key_of_its_own():
    uses = [
        MASTER.wallet.seed,
        MASTER.payee.seed,
        MASTER.payer(0).seed,
        MASTER.payer(1).seed,
        MASTER.credit_seed,
        MASTER.mint_master,
        Master(bytes(32)).credit_seed,
    ]
    assert len(set(uses)) == len(uses)


def test_keys_sign_as_any_identity_does():
    assert isinstance(MASTER.payer(7), Identity)
    assert MASTER.payer(7).public == MASTER.payer(7).public
    assert MASTER.payee.public == Master(bytes(range(32))).payee.public


def test_a_secret_of_another_size_is_refused():
    with pytest.raises(ValueError, match="32 bytes"):
        Master(bytes(31))


def test_nothing_printed_holds_the_secret():
    text = f"{MASTER!r} {MASTER} {MASTER.wallet!r} {MASTER.payee!r}"
    for secret in (bytes(range(32)), MASTER.payee.seed, MASTER.credit_seed):
        assert secret.hex()[:8] not in text
