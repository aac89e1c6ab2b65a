"""Bans outlive a restart; nothing else of whom was asked is written down."""

import json
import time
from itertools import count

import pytest

from inference.market import BAN, Reason
from scripts.bans import Bans
from scripts.home import Home

LIAR, WORKER = b"l" * 32, b"w" * 32


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "home")
    home.prepare()
    return home


def test_a_liar_is_not_asked_after_a_restart_either(home):
    now, bans = time.time(), Bans(home)
    bans.memory.lied(now, LIAR)
    bans.keep()
    again = Bans(home)
    assert again.memory.excludes(now, WORKER, LIAR) is Reason.BANNED
    assert again.memory.excludes(now + BAN, WORKER, LIAR) is None
    assert home.bans.stat().st_mode & 0o777 == 0o600


def test_who_refused_or_was_lost_is_not_written_down(home):
    bans = Bans(home)
    bans.memory.refused(time.time(), WORKER)
    bans.memory.lost(time.time(), WORKER)
    bans.keep()
    assert not home.bans.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "7",
        '{"zz": 1}',
        json.dumps({LIAR.hex(): 1}),
        json.dumps({LIAR.hex(): None}),
        json.dumps({LIAR.hex(): 1e18}),
        f'{{"{LIAR.hex()}": NaN}}',
        f'{{"{"ab" * 33}": 4e9}}',
    ],
    ids=count(),
)
def test_what_is_no_ban_in_force_bans_nobody(home, text):
    home.bans.write_text(text)
    assert Bans(home).memory.bans() == {}


def test_a_full_disk_costs_no_answer(home, monkeypatch):
    bans = Bans(home)
    bans.memory.lied(time.time(), LIAR)
    home.bans.mkdir()  # so that nothing can take its place
    bans.keep()
    home.bans.rmdir()
    bans.keep()
    assert Bans(home).memory.bans()
