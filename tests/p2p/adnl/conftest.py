"""Nodes on a network in memory."""

import pytest

from tests.p2p.adnl.net import Net


@pytest.fixture
def net():
    return Net()


@pytest.fixture
def pair(net):
    """Two nodes, the first of which knows the second."""
    first, second = net.node(1), net.node(2)
    first.knows(second)
    return first, second


@pytest.fixture
def ready(net, pair):
    """Two nodes with a channel that both have used."""
    first, second = pair
    first.query(second, b"first")
    net.run()
    first.send(second, b"second")
    net.run()
    for node in pair:
        node.told.clear()
    net.carried.clear()
    return pair
