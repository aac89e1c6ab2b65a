"""The chain in the process."""

import pytest

from ledger.chain.embedded import EmbeddedChain
from tests.ledger.chain.conformance import CHECKS, World


def world(chain):
    async def fund(account, nano):
        await chain.fund(account, nano)
        await chain.mine()

    return World(chain, fund, chain.mine)


@pytest.fixture
def chain():
    chain = EmbeddedChain.open(None)
    yield chain
    chain.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_conforms(check, chain):
    await check(world(chain))
    assert (await chain.supply()).exact
