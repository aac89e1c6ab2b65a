"""The oracle of a DHT, beside plain searches through everybody."""

from itertools import pairwise

import pytest

from p2p.entropy import seeded
from p2p.identity import AdnlId
from simulations.ids import Ids

DRAWS = seeded(1)
ALL = {node: AdnlId(DRAWS.token(32)) for node in range(300)}
IDS = Ids(ALL)


def distance(one, other):
    return int.from_bytes(one, "big") ^ int.from_bytes(other, "big")


@pytest.mark.parametrize("share", [1, 2, 50])
def test_nearest_is_that_of_a_search_through_all_who_count(share):
    for number in range(100):
        target = seeded(number).token(32)
        counting = [node for node in ALL if node % share == 0]
        best = min(counting, key=lambda node: distance(ALL[node], target))
        assert IDS.nearest(target, lambda node: node % share == 0) == best


def test_nobody_is_nearest_if_none_counts():
    assert IDS.nearest(bytes(32), lambda node: False) is None
    assert Ids({}).nearest(bytes(32), lambda node: True) is None


@pytest.mark.parametrize("k", [1, 6, 1_000])
@pytest.mark.parametrize("own", [0, 17, None])
def test_acquaintances_are_k_of_each_bucket_or_all(k, own):
    name = AdnlId(bytes(range(32))) if own is None else ALL[own]
    buckets = {}
    for node, other in ALL.items():
        if node != own:
            buckets.setdefault(distance(name, other).bit_length(), []).append(node)
    known = list(IDS.acquaintances(name, k, seeded(2)))
    assert len(dict.fromkeys(known)) == len(known)
    assert own not in known
    for size, bucket in buckets.items():
        mine = [node for node in known if distance(name, ALL[node]).bit_length() == size]
        assert len(mine) == min(k, len(bucket))
        assert set(mine) <= set(bucket)


def test_acquaintances_are_drawn_evenly():
    counts = dict.fromkeys(ALL, 0)
    for number in range(2_000):
        for node in IDS.acquaintances(ALL[0], 2, seeded(number)):
            counts[node] += 1
    first = [node for node in ALL if distance(ALL[0], ALL[node]).bit_length() == 256]
    drawn = sorted(counts[node] for node in first)
    assert all(b >= a for a, b in pairwise(drawn))
    assert drawn[0] > 0.2 * 2 * 2_000 / len(first)
    assert drawn[-1] < 2.5 * 2 * 2_000 / len(first)
