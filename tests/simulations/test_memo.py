"""Adverts that many nodes read are read once, and refused as late as by who reads anew."""

import pytest

from p2p.errors import TussahError
from p2p.identity import Identity
from p2p.overlay import advert as adverts
from p2p.overlay.advert import Fields, OnionKey, Role, Rules
from p2p.transport.fabric import EPOCH
from p2p.wire import Endpoint
from simulations.memo import AdvertMemo

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
