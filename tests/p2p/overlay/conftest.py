"""Nodes that advertise, by number."""

from dataclasses import replace

import pytest

from p2p.identity import Identity
from p2p.overlay import advert
from p2p.overlay.advert import Fields, Model, OnionKey, Prices, Role, Rules
from p2p.wire import Endpoint

NOW = 1_800_000_000.0

MODEL = Model(
    identity=b"m" * 32,
    quant=3,
    context=8_192,
    prompt_rate=320,
    answer_rate=40,
    slots=1,
    prices=Prices(5, 7),
)
KINDS = {
    "relay": Fields(roles=Role.RELAY | Role.DIALABLE | Role.DIRECTORY),
    "worker": Fields(roles=Role.WORKER | Role.DIALABLE, models=(MODEL,)),
    "left": Fields(roles=Role(0)),
}


class Advertisers:
    """Adverts of numbered nodes; two adverts of one number and equal arguments are equal."""

    now = NOW

    def identity(self, number):
        return Identity(number.to_bytes(32, "big"))

    def id(self, number):
        return self.identity(number).id

    def endpoint(self, number):
        return Endpoint(f"127.0.{number // 256}.{number % 256}", 4001)

    def fields(self, number, kind="relay", **changes):
        base = KINDS[kind]
        if kind != "left":
            base = replace(
                base,
                addresses=(self.endpoint(number),),
                onion=OnionKey(int(NOW // 86_400), number.to_bytes(32, "big")),
            )
        return replace(base, **changes)

    def advert(self, number, kind="relay", *, at=NOW, rules=None, **changes):
        fields = self.fields(number, kind, **changes)
        return advert.build(self.identity(number), fields, at, rules or self.rules)

    rules = Rules(network=7, dev=True)


@pytest.fixture
def nodes():
    return Advertisers()


@pytest.fixture(scope="module")
def nodes_once():
    return Advertisers()
