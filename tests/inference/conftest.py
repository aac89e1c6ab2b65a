"""Listed workers, as a directory gives them."""

from dataclasses import replace

import pytest

from p2p.identity import Identity
from p2p.overlay.advert import Fields, Model, OnionKey, Prices, Role, Rules, build, parse
from p2p.overlay.listing import Entry
from p2p.wire import Endpoint

NOW = 1_795_000_000.0
RULES = Rules(network=1, dev=True)
MODEL = Model(
    identity=b"m" * 32,
    quant=3,
    context=4_096,
    prompt_rate=448,
    answer_rate=128,
    slots=1,
    prices=Prices(0, 0),
    label="fake",
)


def _entry(number, *, group=None, live=True, fields=None, lacks=None, **model):
    """The entry of worker `number`; `model` changes what it serves, `fields` what it says.

    `lacks` are fields that a directory would not let be empty.
    """
    identity = Identity(number.to_bytes(32, "big"))
    said = {
        "roles": Role.WORKER | Role.DIALABLE,
        "addresses": (Endpoint("127.0.0.1", 4_001),),
        "onion": OnionKey(int(NOW // 86_400), bytes(32)),
        "models": (replace(MODEL, **model),),
        **(fields or {}),
    }
    advert = parse(build(identity, Fields(**said), NOW, RULES), NOW, RULES)
    advert = replace(advert, fields=replace(advert.fields, **(lacks or {})))
    return Entry(advert=advert, live=live, open=True, days=0, group=group or identity.id)


@pytest.fixture
def entry():
    return _entry
