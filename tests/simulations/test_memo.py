"""Adverts that many nodes read are read once, and refused as late as by who reads anew."""

import pytest

from p2p.adnl import box
from p2p.errors import AdnlError, TussahError
from p2p.identity import Identity
from p2p.overlay import advert as adverts
from p2p.overlay.advert import Fields, OnionKey, Role, Rules
from p2p.transport.fabric import EPOCH
from p2p.wire import Endpoint
from simulations import memo
from simulations.memo import AdvertMemo, Seals

RULES = Rules(network=7, dev=True)


def advert(number=1):
    fields = Fields(
        roles=Role.RELAY | Role.DIALABLE,
        addresses=(Endpoint("10.0.0.1", 4001),),
        onion=OnionKey(int(EPOCH // 86_400), bytes(32)),
        seq=number,
        life=20,
    )
    return adverts.build(Identity(bytes(32)), fields, EPOCH, RULES)


def test_one_object_for_all_who_read():
    memo, buffer = AdvertMemo(), advert()
    first = memo(buffer, EPOCH + 1.0, RULES)
    assert memo(buffer, EPOCH + 2.0, RULES) is first
    assert first == adverts.read(buffer, EPOCH + 1.0, RULES)
    assert memo(advert(2), EPOCH + 1.0, RULES) is not first
    assert len(memo) == 2


@pytest.mark.parametrize("late", [19.0, 21.0, -61.0])
def test_what_is_out_of_date_is_refused_though_it_was_read(late):
    memo, buffer = AdvertMemo(), advert()
    memo(buffer, EPOCH + 1.0, RULES)
    outcomes = []
    for read in (memo, adverts.read):
        try:
            outcomes.append(read(buffer, EPOCH + late, RULES))
        except TussahError as error:
            outcomes.append(type(error))
    assert outcomes[0] == outcomes[1]


SECRET = bytes(range(32))


def test_what_was_sealed_is_known_again_and_by_nobody_else():
    seals = Seals()
    with seals.kept():
        sealed = box.seal(SECRET, b"plain")
        assert box.unseal(SECRET, b"head" + sealed, 4) == b"plain"
        assert len(seals) == 0
        assert box.unseal(SECRET, sealed, 0) == b"plain"  # once more, by the real one
        box.seal(SECRET, b"plain")
        with pytest.raises(AdnlError):
            box.unseal(bytes(32), sealed, 0)
        with pytest.raises(AdnlError):
            box.unseal(SECRET, sealed[:-1] + b"?", 0)
    assert box.seal(SECRET, b"plain") == sealed
    assert len(seals) == 0


def test_what_is_lost_is_forgotten(monkeypatch):
    monkeypatch.setattr(memo, "UNDER_WAY", 3)
    seals = Seals()
    for number in range(9):
        seals.seal(SECRET, bytes([number]))
    assert len(seals) == 3
