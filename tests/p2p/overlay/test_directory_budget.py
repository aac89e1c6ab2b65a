"""What the directory costs at 10,000 listed, in simulated bytes; at 300 in the gate."""

from collections import Counter
from dataclasses import replace

import pytest

from p2p.identity import Identity
from p2p.overlay import advert as adverts
from p2p.overlay import bodies
from p2p.overlay.advert import Anchors, Capacity, Model, Prices, Role
from tests.p2p.overlay.borough import SERVER, UNREACHED, Borough

FLOOD_KBITS = 9.0
"""kbit/s each way of adverts at 10,000: 720 B on the wire, 2.8 copies, 2,100 an hour."""

PULSE_KBITS = 12.0
"""kbit/s each way of pulses at 10,000."""

CHANGES = 2_100 / 3_600 / 10_000
"""adverts a second and node: a third of a life, onion-key days, and what changes besides."""

MODEL = Model(
    identity=bytes(32),
    quant=15,
    context=32_768,
    prompt_rate=320,
    answer_rate=40,
    slots=1,
    prices=Prices(10**6, 10**7),
)


@pytest.fixture(autouse=True)
def free_work(monkeypatch):
    monkeypatch.setattr(adverts, "is_work", lambda public, day, nonce: True)


def population(borough, number, at):
    """The advert of one of 20 % relays, 70 % workers behind a NAT and 10 % both."""
    relay, both = number % 10 < 2, number % 10 == 9
    fields = borough.fields(
        number,
        seq=int(at),
        life=86_400,
        anchors=Anchors(bytes(16), bytes(16)),
        capacity=Capacity(5),
        operator=b"o" * 32,
    )
    models = tuple(replace(MODEL, identity=bytes([n]) * 32) for n in range(1 + number % 2))
    if relay:
        fields = replace(fields, udp=fields.addresses)
    elif both:
        fields = replace(fields, roles=SERVER | Role.WORKER, models=models)
    else:
        near = tuple(identity(number // 512 * 10 + n).id for n in range(3))
        fields = replace(fields, roles=Role.WORKER, addresses=(), attachments=near, models=models)
    return adverts.build(identity(number), fields, at, borough.rules)


def identity(number):
    return Identity(number.to_bytes(32, "big"))


def populated(count):
    """Five servers that hold the adverts of all."""
    borough = Borough()
    buffers = [population(borough, number, borough.now - 2_000) for number in range(count)]
    many = [borough.settle(number).start() for number in range(5)]
    for one in many:
        borough.meet(one)
        kept = [(borough.now - 1_000, buffer) for buffer in buffers]
        one.do(lambda core, now, kept=kept: core.restore(now, kept))
    borough.run_to_epoch()
    borough.run_to_epoch(1.0)
    assert {one.listing.status().count for one in many} == {count}
    return borough, many, sum(map(len, buffers))


def change(borough, many, count, seconds):
    """Let so many say something new, as often as nodes do."""
    draw = borough.entropy.fork(f"changes/{borough.now}")

    def say():
        buffer = population(borough, 5 + draw.below(count - 5), borough.now)
        for one in many:
            if draw.uniform() >= UNREACHED:
                when = borough.now + 0.1 + 3.0 * draw.uniform()
                borough.world.at(when, lambda one=one: one.do(lambda c, now: c.offer(now, buffer)))

    for _ in range(int(CHANGES * count * seconds)):
        borough.world.at(borough.now + seconds * draw.uniform(), say)


def measure(count):
    """Bytes of a client's first list beside its adverts, and of an epoch; kbit/s of servers."""
    borough, many, size = populated(count)
    client = borough.client()
    borough.run(60.0)
    assert client.listing.status().count == count
    first = client.bytes_in

    change(borough, many, count, 1_200.0)
    borough.run_to_epoch()
    for one in [*many, client]:
        one.bytes_in = one.bytes_out = 0
        del one.asked_of[:]
    borough.run_to_epoch()
    calls = Counter(type(bodies.read_call(body)) for _, body in client.asked_of)
    assert calls[bodies.Pull] == 0
    received = sum(one.bytes_in for one in many) - client.bytes_out
    sent = sum(one.bytes_out for one in many) - client.bytes_in
    kbits = [8 * way / len(many) / 600.0 / 1_000 for way in (received, sent)]
    return first - size, client.bytes_in, kbits


def test_three_hundredths_of_the_network_cost_as_much_of_the_budget():
    lists, epoch, kbits = measure(300)
    assert lists < 3 * 7_800 + 15_000
    assert epoch < 18_000
    assert max(kbits) < 0.45


@pytest.mark.slow
def test_ten_thousand_listed_cost_a_server_less_than_25_kbits_each_way():
    lists, epoch, kbits = measure(10_000)
    assert lists < 3 * 260_000 + 30_000
    assert epoch < 320_000
    assert FLOOD_KBITS + PULSE_KBITS + max(kbits) < 25.0
