"""Whole circuits between cores in memory, in virtual time."""

import pytest

from p2p.onion.core import Data, Ended, Failed, Incoming, Lost, Opened

FRAME = 1200


@pytest.mark.parametrize("relays", [0, 1, 2, 3])
def test_circuit_opens_over_any_number_of_relays(town, relays):
    net, client, stops, worker = town
    circuit = net.open(client, net.path(*stops[:relays], worker), b"want")
    net.until(lambda: client.said(Opened, circuit))

    assert client.said(Opened)[0].offer == b"offer for want"
    assert [event.request for event in worker.said(Incoming)] == [b"want"]


@pytest.mark.parametrize("relays", [0, 1, 3])
@pytest.mark.parametrize("size", [1, 1116, 1117, 200_000])
def test_bytes_arrive_both_ways(town, relays, size):
    net, client, stops, worker = town
    circuit = net.open(client, net.path(*stops[:relays], worker))
    net.until(lambda: client.said(Opened, circuit))
    far = worker.said(Incoming)[0].circuit

    upload, answer = net.entropy.token(size), net.entropy.token(size)
    net.send(client, circuit, upload)
    net.end(client, circuit)
    net.until(lambda: worker.said(Ended, far))
    assert worker.heard(far) == upload

    net.send(worker, far, answer)
    net.end(worker, far)
    net.until(lambda: client.said(Ended, circuit))
    assert client.heard(circuit) == answer
    assert all(len(data) % FRAME == 0 for _, _, _, data in net.frames)
