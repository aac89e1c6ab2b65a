"""Row 1: greedy lookups through real routing tables, against the closed form's slope."""

import math
from bisect import bisect_left, bisect_right

import pytest

from p2p.dht.node import Node, distance
from p2p.dht.settings import Settings
from p2p.dht.table import Table
from p2p.entropy import sample, seeded
from p2p.identity import AdnlId
from p2p.ton import AdnlAddressList, AdnlAddressUdp, DhtNode, PubEd25519
from p2p.transport.fabric import EPOCH
from simulations import theory


class Net:
    """All ids in order; a node's table is made when it is asked, of what it would need for that."""

    def __init__(self, nodes, k, entropy):
        self.entropy = entropy
        self.ids = sorted(AdnlId(entropy.token(32)) for _ in range(nodes))
        self.settings = Settings(k=k, per_subnet=None, per_subnet_and_bucket=None)

    def table(self, own, target):
        """The bucket of the target: k of all nodes that share so long a prefix.

        Whoever is in it is nearer than all in others; if nobody is, the next may have somebody.
        """
        table = Table(own, self.settings)
        shared = 256 - distance(own, target).bit_length()
        for place in range(shared, 256):
            within = range(*self.range(own, place))
            for index in sample(self.entropy, within, self.settings.k):
                table.answered(EPOCH, node(self.ids[index]))
            if within or self.alone(own, place + 1):
                break
        return table

    def range(self, own, place):
        """Of the ids that share exactly `place` bits with `own`."""
        bit = 1 << (255 - place)
        low = (int.from_bytes(own, "big") ^ bit) & ~(bit - 1)
        last = (low + bit - 1).to_bytes(32, "big")
        return bisect_left(self.ids, low.to_bytes(32, "big")), bisect_right(self.ids, last)

    def alone(self, own, place):
        """Whether nobody else shares so many bits."""
        at = bisect_left(self.ids, own)
        beside = [self.ids[i] for i in (at - 1, at + 1) if 0 <= i < len(self.ids)]
        return all(256 - distance(own, other).bit_length() < place for other in beside)

    def hops(self, start, target):
        """Nodes asked until one knows nobody nearer."""
        here, count = start, 0
        while True:
            near = self.table(here, target).nearest(target, 1)
            if not near or distance(near[0].id, target) >= distance(here, target):
                return count
            here, count = near[0].id, count + 1


def node(identity):
    addresses = AdnlAddressList((AdnlAddressUdp(1, 1),), 0, 0, 0, 0)
    record = DhtNode(PubEd25519(bytes(32)), addresses, 1, b"")
    return Node(
        id=identity, public=bytes(32), record=record, addresses=addresses, subnet=b"", packed=b""
    )


def slope(k, sizes, lookups, seed=1):
    """Of mean hops over ln n, by least squares."""
    entropy = seeded(seed)
    points = []
    for nodes in sizes:
        net = Net(nodes, k, entropy.fork(f"net/{nodes}"))
        hops = [net.hops(net.ids[entropy.below(nodes)], entropy.token(32)) for _ in range(lookups)]
        points.append((math.log(nodes), sum(hops) / lookups))
    mean_x, mean_y = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum(
        (x - mean_x) ** 2 for x, _ in points
    )


@pytest.mark.parametrize(
    ("k", "sizes", "lookups", "within"),
    [
        (3, (200, 5_000), 400, 0.15),
        *(
            pytest.param(k, (500, 4_000, 32_000), 1_500, 0.05, marks=pytest.mark.slow)
            for k in (1, 3, 8, 20)
        ),
    ],
)
def test_each_e_fold_of_nodes_adds_as_many_hops_as_the_form_says(k, sizes, lookups, within):
    assert slope(k, sizes, lookups) == pytest.approx(theory.kademlia_slope(k), rel=within)
