"""Both sides of the ledger's seams, for the tests that both must pass."""

import pytest
import trio

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


@pytest.fixture
async def village():
    """A mint, relays, and a customer with coins, on a chain."""
    from tests.ledger.village import Village  # TON's machine comes for some platforms only

    async with trio.open_nursery() as nursery:
        village = await Village(nursery).built()
        yield village
        nursery.cancel_scope.cancel()
    village.chain.close()
