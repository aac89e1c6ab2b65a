"""Recorded traffic, and every key that is left later: nothing of it opens."""

from itertools import pairwise

import pytest

from p2p import defaults
from p2p.entropy import seeded
from p2p.errors import OnionError
from p2p.onion.cell import Command, Frame
from p2p.onion.core import Incoming, Opened
from p2p.onion.handshake import open_create
from p2p.onion.relay import DAY, OnionKeys
from tests.p2p.onion.conftest import NETWORK, StandInKem

FRAME = 1_200


CELLS = 1_030
"""just more than one key is good for"""


@pytest.fixture
def stood(town):
    """A circuit, its path, and all that was seen of it."""
    net, client, relays, worker = town
    path = [*relays[:3], worker]
    near = net.open(client, net.path(*path))
    net.until(lambda: client.said(Opened))
    return net, client, near, path


def seen_by(net, receiver, command):
    """Bodies of frames of a kind that came to a node, in order, by sender."""
    for _, sender, other, data in net.frames:
        for at in range(0, len(data), FRAME) if other is receiver else ():
            frame = Frame.unpack(data[at : at + FRAME])
            if frame.command is command:
                yield sender, frame.body


def hops_of(peer):
    """The layers' keys that a node has now."""
    core = peer.core
    kept = [*core._relay._passages.values(), *core._circuits._circuits.values()]
    return [each.hop for each in kept if getattr(each, "hop", None) is not None]


def test_state_of_a_hop_opens_no_cell_of_an_earlier_key(stood):
    net, client, near, path = stood
    (far,) = [event.circuit for event in path[-1].said(Incoming)]
    net.feed(client, near, bytes(CELLS * 1_116))
    net.until(lambda: len(path[-1].heard(far)) == CELLS * 1_116)
    for before, hop in pairwise([client, *path]):
        cells = [body for sender, body in seen_by(net, hop, Command.CELL) if sender is before]
        assert len(cells) >= CELLS
        (keys,) = hops_of(hop)
        for body in cells[:1_000:20]:
            with pytest.raises(OnionError):
                keys.forward(body)


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_onion_keys_of_later_days_open_no_create(stood, place):
    net, _, _, path = stood
    hop = path[place]
    halves = [body for _, body in seen_by(net, hop, Command.CREATE)]
    create = halves[0] + halves[1]
    later = net.now + 2 * DAY

    def opened(now):
        privates = hop.keys.accepted(now)
        entropy = net.entropy.fork("thief")
        return open_create(
            create, privates, me=hop.id, network=NETWORK, kem=StandInKem(), entropy=entropy
        )

    assert opened(net.now + defaults.HELLO_TIMEOUT)
    assert opened(net.now + DAY)
    with pytest.raises(OnionError):
        opened(later)
    with pytest.raises(OnionError):
        opened(net.now)  # the key is gone, whatever the clock says now


def test_key_that_nobody_uses_is_deleted_when_the_next_is_shown():
    """A relay that is asked for nothing renews its advert all the same."""
    keys = OnionKeys(seeded(4))
    for day in (100, 101, 102):
        keys.public(day)
    assert sorted(keys._privates) == [101, 102]
