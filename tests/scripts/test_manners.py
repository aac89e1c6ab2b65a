"""Manners of a running node: what is decided is done, and the owner's word outlives a restart."""

import json
import time

import pytest
import trio

from inference.limits import State
from inference.machine import Machine
from scripts.failure import Failed
from scripts.home import Home
from scripts.node import manners
from scripts.node.manners import Manners, rules_of
from scripts.settings import Manners as Chosen

MAINS = Machine(cores=4, battery=90.0, on_mains=True)
UNPLUGGED = Machine(cores=4, battery=41.0, on_mains=False)


class Sensors:
    """Says what a test wants."""

    now = MAINS

    def snapshot(self):
        return self.now


@pytest.fixture
def sensors(monkeypatch):
    sensors = Sensors()
    monkeypatch.setattr(manners, "Sensors", lambda: sensors)
    return sensors


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "home")
    home.prepare()
    return home


async def test_each_change_is_applied_once(home, sensors, nursery, monkeypatch):
    monkeypatch.setattr(manners, "EVERY", 0.0)
    monkeypatch.setattr(manners, "RARELY", 0.0)
    applied, seen = [], trio.Event()

    async def apply(verdict):
        applied.append(verdict)
        seen.set()

    nursery.start_soon(Manners(Chosen(), home).run, apply)
    sensors.now = UNPLUGGED
    with trio.fail_after(20):
        await seen.wait()
    assert [verdict.state for verdict in applied] == [State.PAUSE]
    assert applied[0].reasons == ("on battery (41 %); resumes on mains",)


async def test_the_owners_word_stands_after_a_restart(home, sensors):
    before = Manners(Chosen(), home)
    await before.order("pause", 7_200.0)
    after = Manners(Chosen(), home)
    assert (await after.look()).state is State.PAUSE
    assert after.verdict.until == pytest.approx(time.time() + 7_200, abs=60)

    await after.order("stop", None)
    assert (await Manners(Chosen(), home).look()).state is State.STOP
    await after.order("start", None)
    assert (await Manners(Chosen(), home).look()).state is State.SERVE
    assert not home.worker.exists()


async def test_a_pause_that_is_over_is_forgotten(home, sensors):
    home.worker.write_text(json.dumps({"stop": False, "until": time.time() - 1}))
    again = Manners(Chosen(), home)
    assert (await again.look()).state is State.SERVE
    assert not home.worker.exists()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"until": "soon"}', '{"until": []}'])
def test_a_word_that_is_none_is_no_word(home, text):
    home.worker.write_text(text)
    assert Manners(Chosen(), home).hand is None


async def test_a_word_that_cannot_be_kept_does_not_hold(home, sensors, monkeypatch):
    def full(path, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(manners, "write_private", full)
    node = Manners(Chosen(), home)
    with pytest.raises(Failed, match="No space left"):
        await node.order("stop", None)
    assert (await node.look()).state is State.SERVE


async def test_who_waits_to_be_allowed_is_woken_by_the_owner(home, sensors, nursery):
    node = Manners(Chosen(), home)
    await node.order("stop", None)
    allowed = trio.Event()

    async def wait():
        await node.allowed()
        allowed.set()

    nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    assert not allowed.is_set()
    with trio.fail_after(20):
        await node.order("start", None)
        await allowed.wait()


def test_settings_become_rules():
    chosen = Chosen(on_battery="serve", quiet_hours="22:30-07:00", metered="serve")
    rules = rules_of(chosen)
    assert not rules.pause_on_battery
    assert not rules.pause_on_metered
    assert rules.quiet == (22 * 60 + 30, 7 * 60)
