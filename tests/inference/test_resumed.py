"""Any relay may die while an answer runs: the asker sees a pause, the same text, one bill."""

from dataclasses import replace

import pytest
import trio

from inference.client import Done, Offered, Piece, ask
from inference.service import FREE
from ledger.money import ZERO
from ledger.tariff import verify
from p2p.onion.shaping import Shaping
from tests.inference.test_ask_end_to_end import (
    FUNDS,
    PRICES,
    QUESTION,
    Village,
    balanced,
    policy,
)

REQUEST = replace(QUESTION, max_tokens=60)

PAUSE = 15.0
"""seconds that nobody waits longer for the next word"""

MOMENTS = {
    "prompt": lambda event, total: isinstance(event, Offered),
    "first": lambda event, total: isinstance(event, Piece),
    "middle": lambda event, total: isinstance(event, Piece) and event.first > total / 3,
    "last": lambda event, total: isinstance(event, Piece) and event.first >= total - 3,
}


async def asked(village, client, *, paid, shaping, dead=None, moment=None, total=0):
    """The end of an ask, and the longest pause in it; one of the path is killed at a moment."""
    changes = {"purse": village.purse, "max_price": FUNDS} if paid else {}
    longest, heard, killed = 0.0, trio.current_time(), dead is None
    async with ask(REQUEST, client, policy(shaping=shaping, **changes)) as answer:
        async for event in answer:
            now = trio.current_time()
            longest, heard = max(longest, now - heard), now
            path = getattr(event, "path", None) or path  # noqa: F821 - of the first event
            if not killed and MOMENTS[moment](event, total):
                killed = True
                village.kill(path[dead])
    assert killed
    return event, longest


def cases():
    for paid in (False, True):
        for moment in MOMENTS:
            for shaping in (Shaping.OFF, Shaping.PADDED):
                quick = paid and moment == "middle" and shaping is Shaping.PADDED
                marks = () if quick else (pytest.mark.slow,)
                name = f"{'paid' if paid else 'free'}-{moment}-{int(shaping)}"
                yield pytest.param(paid, moment, shaping, marks=marks, id=name)


@pytest.mark.parametrize(("paid", "moment", "shaping"), list(cases()))
async def test_any_relay_may_die_at_any_moment(paid, moment, shaping, autojump_clock):
    async with trio.open_nursery() as nursery:
        village = Village(nursery, PRICES if paid else FREE)
        client = await village.built(relays=7)
        whole, _ = await asked(village, client, paid=paid, shaping=shaping)
        for dead in (0, 1, 2):
            done, pause = await asked(
                village,
                client,
                paid=paid,
                shaping=shaping,
                dead=dead,
                moment=moment,
                total=len(whole.ids),
            )
            assert isinstance(done, Done), done
            assert (done.text, done.ids) == (whole.text, whole.ids)
            assert done.resumed == 1 or moment in ("prompt", "last")
            assert pause <= PAUSE
            verify(done.receipt, client.directory.find(done.worker).advert.public)
            assert done.paid == whole.paid
            assert (done.paid > ZERO) == paid
        await trio.sleep(40.0)
        assert balanced(village)
        assert village.mint.earned.get(whole.worker, ZERO) == whole.paid + whole.paid * 3
        (serving,) = village.servings.values()
        assert not serving.statistics().running
        assert client.statistics().sizes["circuits.circuits"] == 0
        nursery.cancel_scope.cancel()


async def test_a_relay_that_swallows_all_is_gone_around_in_time(autojump_clock):
    """No link drops: nobody but the asker can tell, by what does not come."""
    async with trio.open_nursery() as nursery:
        village, mute = Village(nursery), set()
        carrier = village._carrier

        def mutable(config):
            made = carrier(config)
            send = made.send
            made.send = lambda now, to, data: (
                None if config.identity.id in mute else send(now, to, data)
            )
            return made

        village._carrier = mutable
        client = await village.built(relays=7)
        longest, heard = 0.0, None
        async with ask(REQUEST, client, policy()) as answer:
            async for event in answer:
                now = trio.current_time()
                longest, heard = max(longest, now - (heard or now)), now
                path = getattr(event, "path", None) or path  # noqa: F821 - of the first event
                if isinstance(event, Piece) and 10 < event.first < 15:
                    mute.add(path[1])
        assert isinstance(event, Done), event
        assert event.resumed == 1
        assert 5.0 <= longest <= PAUSE
        nursery.cancel_scope.cancel()
