"""One keyset for each mint and week, whatever comes later; a second one is proof."""

import pytest

from ledger import pins
from ledger.credit import Keyset
from ledger.store import Store
from tests.ledger.parties import EPOCH, MINT, OTHER, WEEK


def keyset(master, *, epoch=EPOCH, identity=MINT):
    return Keyset.build(identity, master * 32, epoch=epoch, start=epoch * WEEK, fee_bp=50)


@pytest.fixture
async def store():
    async with Store.open(None) as store:
        yield store


async def pin(store, keyset):
    return await store.write(lambda c: pins.pin(c, keyset))


async def pinned(store, mint=MINT, epoch=EPOCH):
    return await store.read(lambda c: pins.pinned(c, mint.id, epoch, mint.public))


async def test_the_first_keyset_of_a_week_is_held_to(autojump_clock, store):
    assert await pinned(store) is None
    assert await pin(store, keyset(b"a"))
    assert await pin(store, keyset(b"a"))
    assert await pinned(store) == keyset(b"a")
    assert await store.read(pins.accused) == frozenset()


async def test_a_second_keyset_of_a_week_is_kept_as_proof_and_not_held_to(autojump_clock, store):
    await pin(store, keyset(b"a"))
    for _ in range(2):
        assert not await pin(store, keyset(b"b"))
    assert await pinned(store) == keyset(b"a")
    assert await store.read(pins.accused) == {MINT.id}
    proof = await store.read(lambda c: list(c.execute("SELECT said FROM fraud")))
    assert proof == [(keyset(b"b").signed,)]


async def test_other_weeks_and_other_mints_have_their_own(autojump_clock, store):
    later, other = keyset(b"b", epoch=EPOCH + 1), keyset(b"c", identity=OTHER)
    for each in (keyset(b"a"), later, other):
        assert await pin(store, each)
    assert await pinned(store) == keyset(b"a")
    assert await pinned(store, epoch=EPOCH + 1) == later
    assert await pinned(store, OTHER) == other
