"""Members, broadcasts, pulses and directories together: what a dev network of nodes sees."""

from p2p.overlay.advert import Role
from p2p.overlay.directory_core import Joined
from tests.p2p.overlay.parish import Parish


def test_a_network_that_starts_is_listed_by_everybody_an_epoch_later():
    parish = Parish()
    relays = [parish.relay(number) for number in range(8)]
    client = parish.client(900)
    everybody = {one.id for one in relays}

    def sees(one):
        return {entry.id for entry in one.listing.usable(Role.RELAY)} | {one.id} >= everybody

    parish.wait(lambda: sees(client) and all(map(sees, relays)), within=24.0)
    parish.run(25.0)
    status = client.listing.status()
    assert (status.count, status.live) == (8, 8)
    assert {one.listing.status().root for one in [*relays, client]} == {status.root}
    assert all(len([e for e in one.events if isinstance(e, Joined)]) == 1 for one in relays)


def test_a_newcomer_is_in_use_soon_and_one_that_falls_silent_is_not_for_long():
    parish = Parish(loss=0.02)
    for number in range(6):
        parish.relay(number)
    client = parish.client(900)
    parish.run(25.0)
    worker = parish.worker(100)
    parish.wait(lambda: client.listing.find(worker.id) is not None, within=14.0)
    assert client.listing.find(worker.id).live
    parish.run(40.0)
    assert client.listing.find(worker.id).live
    worker.busy()
    parish.wait(lambda: not client.listing.find(worker.id).open, within=12.0)
    worker.seat.crash()
    parish.wait(lambda: not client.listing.find(worker.id).live, within=40.0)
    assert client.listing.find(worker.id) is not None


def test_a_client_that_starts_has_the_list_at_once():
    parish = Parish()
    for number in range(6):
        parish.relay(number)
    parish.run(25.0)
    client = parish.client(900)
    assert parish.wait(lambda: client.listing.status().count == 6, within=5.0) < 1.0
    assert client.listing.status().live == 6
    assert client.listing.status().agreement == 1.0


def test_a_network_outlives_its_first_nodes():
    parish = Parish()
    relays = [parish.relay(number) for number in range(6)]
    client = parish.client(900)
    parish.run(25.0)
    for first in relays[:2]:
        first.seat.crash()
    late = parish.relay(50)
    parish.wait(lambda: client.listing.find(late.id) is not None, within=40.0)
    newcomer = parish.client(901)
    parish.wait(lambda: newcomer.listing.find(late.id) is not None, within=20.0)
