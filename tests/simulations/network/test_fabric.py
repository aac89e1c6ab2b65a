"""What becomes of a datagram: loss, lines, and draws that are the sender's own."""

import math
from itertools import pairwise
from statistics import fmean

import pytest

from p2p.entropy import exponential, seeded
from p2p.transport.fabric import EPOCH
from simulations import theory
from simulations.experiment import GilbertElliott, Latency
from simulations.experiment import Network as Spec
from simulations.network.bandwidth import Lines, megabits
from simulations.network.build import ground, plain
from simulations.network.fabric import IP_UDP, LARGEST, Network
from simulations.network.latency import Everywhere
from simulations.network.loss import Bursts, Independent
from simulations.network.nat import Nat


def network(**more):
    return Network(seeded(1), latency=Everywhere(0.1), **more)


def sent(net, count, *, src=0, dst=1, size=100, every=0.01):
    return [net.route(EPOCH + every * n, src, dst, size) for n in range(count)]


def test_way_takes_its_delay_and_up_to_the_jitter_more():
    delays = [way[0] - EPOCH for way in sent(network(jitter=0.5), 400, every=0.0)]
    assert 0.05 <= min(delays) < 0.0505
    assert 0.0745 < max(delays) <= 0.075
    assert [way[0] - EPOCH for way in sent(network(jitter=0.0), 3, every=0.0)] == [
        pytest.approx(0.05, abs=1e-6)
    ] * 3


def test_loss_is_as_frequent_as_asked():
    lost = sum(not way for way in sent(network(loss=0.05), 20_000))
    assert lost / 20_000 == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / 20_000))


def test_what_one_sends_never_shifts_what_another_meets():
    alone, beside = network(loss=0.3), network(loss=0.3)
    for n in range(7):
        beside.route(EPOCH + n, 2, 1, 9)
        beside.route(EPOCH + n, 1, 0, 9)
    assert sent(alone, 50) == sent(beside, 50)


@pytest.mark.parametrize("size", [100, LARGEST, LARGEST + 1])
def test_what_is_dropped_draws_as_much_as_what_arrives(size):
    """Sixteen bytes for every datagram: the next one meets the same."""
    nets = [network(loss=0.3, largest=largest) for largest in (None, LARGEST)]
    for net in nets:
        net.route(EPOCH, 0, 1, size)
    assert sent(nets[0], 20) == sent(nets[1], 20)
    assert nets[1].statistics().too_big == (size > LARGEST)


def test_bursts_lose_as_long_and_as_much_as_the_chain_says():
    bursts = Bursts(good_bad=0.02, bad_good=0.25, loss_bad=0.8)
    fates = [not way for way in sent(network(loss=bursts), 60_000)]
    assert fmean(fates) == pytest.approx(bursts.mean, rel=0.08)
    assert bursts.mean == pytest.approx(0.8 * 0.02 / 0.27)
    again = fmean(after for before, after in pairwise(fates) if before)
    assert again == pytest.approx(0.75 * 0.8, abs=0.03)  # still bad, and lost again


def test_bursts_are_of_one_way_each():
    bursts = Bursts(good_bad=1.0, bad_good=0.0, loss_bad=1.0)
    assert bursts.loses(0, 1, 0)
    assert Bursts(good_bad=0.0, bad_good=0.0, loss_bad=1.0).mean == 0.0
    other = Bursts(good_bad=0.5, bad_good=0.5, loss_bad=1.0)
    assert other.loses(0, 1, 0)
    assert not other.loses(1, 0, (1 << 32) - 1)


@pytest.mark.parametrize("chance", [-0.1, 1.1])
def test_what_is_no_chance_is_refused(chance):
    with pytest.raises(ValueError, match="between 0 and 1"):
        Independent(chance)
    with pytest.raises(ValueError, match="between 0 and 1"):
        Bursts(good_bad=0.1, bad_good=chance, loss_bad=0.5)


# --- lines ---


def test_line_carries_one_after_the_other_and_drops_when_too_much_waits():
    line = Lines(lambda node: 8_000.0, queue=1.0)  # 1,000 bytes a second
    assert line.carry(EPOCH, 0, 500) == EPOCH + 0.5
    assert line.carry(EPOCH, 0, 500) == EPOCH + 1.0
    assert line.carry(EPOCH, 0, 100) == pytest.approx(EPOCH + 1.1)
    assert line.carry(EPOCH, 0, 100) is None
    assert line.carry(EPOCH, 1, 100) == pytest.approx(EPOCH + 0.1)
    assert line.carry(EPOCH + 0.2, 0, 100) == pytest.approx(EPOCH + 1.2)
    assert line.carry(EPOCH + 9.0, 0, 100) == pytest.approx(EPOCH + 9.1)


def test_uplink_and_downlink_delay_by_what_they_carry():
    slow = Lines(megabits(lambda node: 0.008))
    net = network(jitter=0.0, uplink=slow)
    (arrival,) = net.route(EPOCH, 0, 1, 100 - IP_UDP)
    assert arrival == pytest.approx(EPOCH + 0.1 + 0.05, abs=1e-6)

    net = network(downlink=Lines(megabits(lambda node: 0.008), queue=0.3))
    assert net.admit(EPOCH, 0, 1, 200 - IP_UDP) == pytest.approx(EPOCH + 0.2, abs=1e-6)
    assert net.admit(EPOCH, 2, 1, 200 - IP_UDP) == pytest.approx(EPOCH + 0.4, abs=1e-6)
    assert net.admit(EPOCH, 2, 1, 200) is None
    assert net.statistics().downlink == 1


def test_uplink_of_poisson_arrivals_waits_as_long_as_the_closed_form_says():
    """Section 14, row 7: M/D/1 at load .8."""
    size, load, count = 1_250, 0.8, 60_000
    service = 8.0 * size / 1e6
    line, draws, now, waits = Lines(lambda node: 1e6, queue=1e9), seeded(8), 0.0, 0.0
    for _ in range(count):
        now += exponential(draws, service / load)
        waits += line.carry(now, 0, size) - now - service
    assert waits / count / service == pytest.approx(theory.fixed_wait(load), rel=0.03)


def test_call_without_retry_fails_as_often_as_either_way_loses():
    """Section 14, row 16."""
    loss, count = 0.05, 20_000
    net = network(loss=loss)
    failed = sum(
        not (net.route(EPOCH, 0, 1, 9) and net.route(EPOCH, 1, 0, 9)) for _ in range(count)
    )
    chance = theory.call_fails(loss)
    assert failed / count == pytest.approx(chance, abs=3 * math.sqrt(chance / count))


# --- from an experiment ---


def test_ground_is_what_the_experiment_says():
    spec = Spec(
        latency=Latency(kind="constant", rtt_ms=80.0),
        jitter=0.0,
        loss=0.0,
        uplink_mbps="none",
        downlink_mbps=0.008,
        nat={"symmetric": 1.0},
        nat_lifetime=5.0,
    )
    land = ground(spec, seeded(1))
    (arrival,) = land.datagrams.route(EPOCH, 0, 1, 100)
    assert arrival == pytest.approx(EPOCH + 0.04, abs=1e-6)
    assert land.datagrams.route(EPOCH, 0, 1, LARGEST + 1) == ()
    assert land.datagrams.admit(EPOCH, 0, 1, 100 - IP_UDP) == pytest.approx(EPOCH + 0.1, abs=1e-6)
    assert land.links.leg(0, 1) == 0.04
    assert land.nat(3) is Nat.SYMMETRIC


@pytest.mark.parametrize("kind", ["coordinates", "regions", "matrix"])
def test_every_kind_of_latency_can_be_asked_for(kind, monkeypatch):
    monkeypatch.delenv("TUSSAH_DATA", raising=False)
    burst = GilbertElliott(p_good_bad=0.1, p_bad_good=0.4, loss_bad=1.0)
    land = ground(Spec(latency=Latency(kind=kind), loss=burst), seeded(1), whole=True)
    ways = [land.datagrams.route(EPOCH + n, n, n + 1, 3_000) for n in range(50)]
    assert 25 < sum(map(len, ways)) < 50
    assert all(0.0 < way[0] - EPOCH - n < 2.0 for n, way in enumerate(ways) if way)
    assert land.nat(0) is Nat.OPEN


def test_matrix_of_a_file_is_used(tmp_path):
    import struct

    path = tmp_path / "two"
    path.write_bytes(struct.pack("<e", 64.0))
    spec = Spec(latency=Latency(kind="matrix", file=str(path)))
    assert ground(spec, seeded(1)).links.leg(0, 1) == 0.032


def test_plain_ground_has_no_boxes():
    net = network()
    land = plain(seeded(1), net)
    assert land.datagrams is net
    assert land.links.leg(0, 1) == 0.05
    assert land.nat(7) is Nat.OPEN
