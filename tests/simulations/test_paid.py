"""A paid request on full nodes: one digest in both drivers, and books that agree.

The asker pays through three relays with credits that the mint has signed; the worker has them
locked and settled by calls to the mint. All of it is real but the engine, the KEM and the change.
"""

from dataclasses import replace

import pytest

from inference.market import AUTO
from inference.request import AskRequest, Done, Policy
from ledger import tariff
from ledger.credit import EPOCH_SECONDS
from ledger.keys import Master
from ledger.mint import MintCore
from ledger.mintkeys import MintKeys
from ledger.money import Nano
from ledger.policy import DEV
from p2p.entropy import seeded
from p2p.onion.shaping import Shaping
from p2p.transport.fabric import EPOCH
from simulations.bazaar import FEE_BP, KNOWN, SERVICE
from simulations.experiment import Network as Spec
from simulations.log import EventLog
from simulations.network.build import ground
from simulations.nodes import Census, Town
from simulations.trading import AskingPart, MintingPart, Purse, ServingPart, Trader, signed_credits
from simulations.trioworld import TrioWorld
from simulations.world import World, guard

CENSUS = Census(relays=4, workers=1, clients=1)
MINT, WORKER, CLIENT = 1, 4, 5

ASKED = 13.0
"""seconds until everybody is listed"""

SECONDS = 18.0

TOKENS = 60

POLICY = replace(DEV, iou_limit=Nano(10**7))
"""Chains are not here, so the mint owes its worker without a lane."""


class Market:
    """Six nodes: four relays, of which one is a mint, a worker who is paid, and who pays him."""

    def __init__(self, kind):
        entropy = seeded(1)
        self.town = town = Town(
            CENSUS, entropy, ground(Spec(loss=0.01), entropy), model=SERVICE.listing()
        )
        keys = MintKeys(Master(bytes(32)), town.identity(MINT))
        self.minting = MintingPart(town.cores[MINT], MintCore(keys, POLICY, FEE_BP), EPOCH)
        self.serving = ServingPart(
            town.cores[WORKER],
            town.identity(WORKER),
            SERVICE,
            town.identity(MINT).id,
            entropy.fork("worker"),
        )
        self.asking = self._asker(keys, entropy)
        cores = [*town.cores]
        for node, part in ((MINT, self.minting), (WORKER, self.serving), (CLIENT, self.asking)):
            cores[node] = Trader(cores[node], part)
        self.log = EventLog(town.names.index)
        self.world = kind(
            cores, town.links, self.log, town, naming=town.names, datagrams=town.datagrams
        )
        for node in range(CENSUS.nodes):
            self.world.start(node)
        self.world.at(EPOCH + ASKED, CLIENT, "ask", self._ask)

    def _asker(self, keys, entropy):
        mint = self.town.identity(MINT)
        keyset = keys.keyset(int(EPOCH) // EPOCH_SECONDS, FEE_BP)
        coins = signed_credits(keys, keyset, [17] * 8, entropy.token(32))
        purse = Purse(mint.id, mint.public, coins, entropy.fork("purse"))
        policy = Policy(
            known=(KNOWN,),
            shaping=Shaping.OFF,
            deadline_s=60.0,
            max_price=Nano(10**9),
            purse=purse,
            least_lock=DEV.least_lock,
            lock_margin=DEV.lock_margin,
            entropy=entropy.fork("asker"),
        )
        return AskingPart(self.town.cores[CLIENT], self.town.identity(CLIENT).id, policy, purse)

    def _ask(self, core, now):
        request = AskRequest(text="?" * 40, model=AUTO, max_tokens=TOKENS)
        core.command(now, lambda stack, when: self.asking.ask(when, request))

    def run(self):
        self.world.run(EPOCH + SECONDS)
        sizes = [core.sizes() for core in self.world.nodes]
        for core in self.world.nodes:
            core.finish()
        return self.log.digest, self.log.records, [*self.log.checkpoints], sizes


@pytest.fixture(scope="module")
def paid():
    market = Market(World)
    with guard():
        market.state = market.run()
    return market


def test_a_paid_request_gives_one_digest_in_both_worlds(paid):
    assert Market(TrioWorld).run() == paid.state


def test_it_is_answered_and_paid_as_its_receipt_says(paid):
    done = paid.asking.told[-1]
    assert isinstance(done, Done), paid.asking.told
    lock, ticks = paid.serving.settled[-1]
    row = paid.minting.book.write(lambda book: book.lock(lock))
    assert row.final
    receipt = tariff.verify(done.receipt, paid.town.identity(WORKER).public)
    assert ticks == row.i == receipt.ticks > 0
    assert done.paid == row.tick * ticks
    assert receipt.tokens.completion == TOKENS
    assert len(done.path) == 4
