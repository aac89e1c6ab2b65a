"""A node's roles: what a question waits for at the start of a node that pays."""

from types import SimpleNamespace

import pytest
import trio

from scripts import settings
from scripts.home import Home
from scripts.node.roles import OPEN_SECONDS, Roles


@pytest.fixture
def roles(tmp_path, monkeypatch):
    """Of a node that pays and plays none; `opens` is what becomes of its wallet."""
    home = Home(tmp_path / "home")
    home.prepare()
    site = SimpleNamespace(pays=True, roles=(), settings=settings.Settings(), home=home)
    made = Roles(site)
    made.opens = trio.sleep_forever
    monkeypatch.setitem(Roles._PARTS, "wallet", lambda self: self.opens())
    return made


async def test_a_question_waits_for_the_wallet_of_a_node_that_has_just_started(
    roles, nursery, autojump_clock
):
    async def open_after_a_second():
        await trio.sleep(1)
        roles._decided.set()

    roles.opens = open_after_a_second
    roles.start(nursery)
    began = trio.current_time()
    await roles.wallet_tried()
    assert trio.current_time() - began == pytest.approx(1)


async def test_a_chain_that_is_away_holds_nobody_for_long_and_only_at_the_start(
    roles, nursery, autojump_clock
):
    roles.start(nursery)
    began = trio.current_time()
    await roles.wallet_tried()
    assert trio.current_time() - began == pytest.approx(OPEN_SECONDS)
    await roles.wallet_tried()
    assert trio.current_time() - began == pytest.approx(OPEN_SECONDS)


async def test_where_answers_are_free_nothing_is_waited_for(roles, nursery, autojump_clock):
    roles._site.pays = False
    roles.start(nursery)
    began = trio.current_time()
    await roles.wallet_tried()
    assert trio.current_time() == began
