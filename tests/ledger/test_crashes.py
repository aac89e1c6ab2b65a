"""Whoever dies before or after any of its writes: the books balance, and nobody is paid twice.

By exception one party dies and the others go on; by `os._exit` all die at once, and everything is
done again on the files that they left.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from tests.ledger import life
from tests.ledger.life import SESSIONS, TICKS

ROOT = Path(__file__).parents[2]
WHENS = ("before", "after")
POINTS = {"mint": 24, "worker": 40}
"""writes of a life, at least as many as there are"""


def nobody_lost(loss):
    assert loss.difference == 0
    assert loss.wallet == loss.outstanding
    assert loss.given == loss.held
    assert not loss.is_short
    assert loss.unfinished == 0
    assert len(loss.ticks) <= SESSIONS
    for number, revealed in loss.revealed.items():
        assert revealed - 1 <= loss.ticks[number] <= revealed, "more than a tick was lost"


async def test_a_life_without_accidents_counts_fewer_writes_than_are_tried(autojump_clock):
    async with life.stores(None) as made:
        with capture_logs():
            nobody_lost(await life.lived(made))
        for name, store in made.items():
            assert TICKS * SESSIONS < store.writes <= POINTS[name], (name, store.writes)


def one_dies(victim, when, points):
    async def one(at):
        async with life.stores(None, victim, at, when) as made:
            with capture_logs() as logs:
                loss = await life.lived(made)
        assert not [entry for entry in logs if entry["log_level"] == "error"]
        return loss

    for at in points:
        loss = trio.run(one, at, clock=MockClock(autojump_threshold=0))
        nobody_lost(loss)


@pytest.mark.parametrize("when", WHENS)
@pytest.mark.parametrize("victim", POINTS)
def test_one_party_dies_at_a_few_of_its_writes(victim, when):
    one_dies(victim, when, range(1 + len(when) % 2, POINTS[victim] + 1, 7))


@pytest.mark.slow
@pytest.mark.parametrize("when", WHENS)
@pytest.mark.parametrize("victim", POINTS)
def test_one_party_dies_at_any_of_its_writes(victim, when):
    one_dies(victim, when, range(1, POINTS[victim] + 1))


def killed(directory, victim, at, when):
    arguments = [sys.executable, "-m", "tests.ledger.life", str(directory), victim, str(at), when]
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, timeout=120, check=False)


def all_die(directory, victim, at, when):
    ended = killed(directory, victim, at, when)
    assert ended.returncode in (0, 9), ended.stderr.decode()

    async def again():
        async with life.stores(directory) as made:
            return await life.lived(made)

    with capture_logs():
        loss = trio.run(again, clock=MockClock(rate=30))
    loss.revealed.update(
        (int(number), int(i)) for number, i in map(str.split, ended.stdout.decode().splitlines())
    )
    nobody_lost(loss)
    return ended.returncode


def test_all_processes_die_at_a_write_and_begin_again(tmp_path):
    assert all_die(tmp_path, "mint", 8, "after") == 9


@pytest.mark.slow
@pytest.mark.parametrize("when", WHENS)
@pytest.mark.parametrize("victim", POINTS)
def test_all_processes_die_at_every_other_write(tmp_path, victim, when):
    for at in range(1 + len(when) % 2, POINTS[victim] + 1, 2):
        directory = tmp_path / str(at)
        directory.mkdir()
        all_die(directory, victim, at, when)
