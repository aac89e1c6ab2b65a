"""What systemd is told: words on a socket that it names, and nothing without one."""

import socket

import pytest
import trio

from scripts import notify


@pytest.fixture(params=["file", "abstract"])
def told(request, tmp_path, monkeypatch):
    """systemd's end; returns the next word."""
    name = str(tmp_path / "notify") if request.param == "file" else f"@tussah-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind(name.replace("@", "\0"))
        ours.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield lambda: ours.recv(64).decode()


def test_a_word_arrives(told):
    notify.tell("READY=1")
    assert told() == "READY=1"


def test_where_nobody_listens_nothing_happens(monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/at/all")
    notify.tell("READY=1")
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify.tell("READY=1")


async def test_a_node_that_breathes_is_said_to_live_three_times_in_what_is_allowed(
    told, monkeypatch, autojump_clock
):
    monkeypatch.setenv("WATCHDOG_USEC", "90000000")
    breaths = []

    async def breathe():
        breaths.append(trio.current_time())

    with trio.move_on_after(70):
        await notify.watchdog(breathe)
    assert [told() for _ in breaths] == ["WATCHDOG=1"] * 3
    assert [round(each - breaths[0]) for each in breaths] == [0, 30, 60]


async def test_a_node_that_hangs_says_nothing(told, monkeypatch, autojump_clock):
    monkeypatch.setenv("WATCHDOG_USEC", "90000000")
    with trio.move_on_after(600):
        await notify.watchdog(trio.sleep_forever)
    with pytest.raises(BlockingIOError):
        told()


async def test_without_a_watchdog_there_is_nothing_to_do(monkeypatch):
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    await notify.watchdog(trio.sleep_forever)
