"""Both sides of the ledger's seams, for the tests that both must pass."""

import pytest

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
