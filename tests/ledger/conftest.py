"""Both sides of the ledger's seams, for the tests that both must pass."""

import time

import pytest
import trio

from p2p.drive import SystemClock
from simulations.book import MemoryBook
from tests.ledger.parties import Customer, Desk, SqlTwin


@pytest.fixture(params=[MemoryBook, SqlTwin], ids=["memory", "sql"])
def book(request):
    """A mint's book: in memory and in tables."""
    return request.param()


@pytest.fixture
def desk(book):
    """A mint with an empty book."""
    return Desk(book)


@pytest.fixture
def customer(desk):
    """One that has a lane to the mint, and no credits."""
    customer = Customer()
    desk.open_in(customer)
    return customer


@pytest.fixture(params=["faces", pytest.param("nodes", marks=pytest.mark.slow)])
async def village(monkeypatch, request):
    """A mint, relays, and a customer with coins, on a chain; who starts late knows the time too.

    All that uses it holds with nodes, relays and circuits beneath, and without.
    """
    from tests.ledger import village as villages  # TON's machine comes for some platforms only

    kind = {"faces": villages.Town, "nodes": villages.Village}[request.param]
    began = time.time() - trio.current_time()
    clock = {"wall": lambda: began + trio.current_time(), "monotonic": trio.current_time}
    monkeypatch.setattr(SystemClock.__init__, "__kwdefaults__", clock)
    async with trio.open_nursery() as nursery:
        village = await kind(nursery).built()
        yield village
        nursery.cancel_scope.cancel()
    village.chain.close()
