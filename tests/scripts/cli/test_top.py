"""`tussah top`: what it draws of a recorded minute, and how it behaves without a terminal."""

import io
import os
import pty
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from scripts.cli import top
from scripts.cli.top import Look
from scripts.failure import Failed

SNAPSHOT = Path(__file__).with_name("top.txt")


def status(tokens=0, sent=0, **changes):
    """A worker's and relay's, as far as it is drawn."""
    parts = {
        "started_at": "2026-11-29T10:00:00Z",
        "node": {"id": "ab" * 32, "network": "moths", "roles": ["worker", "relay"]},
        "reach": {"mode": "direct", "addresses": ["127.0.0.1:4001"]},
        "api": {"open_requests": 1},
        "worker": {
            "state": "serving",
            "model": "smollm2-135m-instruct-q4_1:" + "cd" * 32,
            "reasons": [],
            "slots": {"busy": 1, "total": 2},
            "queue": 3,
            "answered": 17,
            "tokens": tokens,
        },
        "relay": {"circuits": 4, "cells": 96, "bytes": sent},
        "money": {
            "wallet_nano": 792_300_000,
            "credits_nano": 0,
            "earned_today_nano": 16_000_000,
            "spent_today_nano": 0,
            "due_nano": 4_096,
            "owed_nano": None,
        },
        "network": {
            "joined": True,
            "relays": 4,
            "workers": 2,
            "mints": 1,
            "links": 3,
            "directory_age_s": 1.4,
            "directory_agreement": 0.75,
        },
        "machine": {
            "cpu_load": 0.7,
            "battery": {"percent": 41, "on_mains": False},
            "temperature_c": 63.0,
            "vram": {"used_bytes": 2**30, "total_bytes": 2**33},
            "rss_bytes": 150 * 2**20,
        },
        "alerts": [{"message": "It is lonely.", "advice": "Wait."}],
    }
    return {**parts, **changes}


def drawn(looks, said="", width=100, height=30):
    console = Console(file=io.StringIO(), width=width, height=height)
    console.print(top.frame(looks, said))
    return console.file.getvalue()


def test_a_recorded_minute_is_drawn_as_it_was():
    """`UPDATE_SNAPSHOTS=1 pytest` writes it anew."""
    minute = [
        Look(at / 2, status(tokens=at * at // 2, sent=at * 1_000)) for at in range(1, top.PAST + 1)
    ]
    picture = drawn(minute)
    if os.environ.get("UPDATE_SNAPSHOTS"):
        SNAPSHOT.write_text(picture)
    assert picture == SNAPSHOT.read_text()
    assert len(picture.splitlines()) <= 30


def test_who_only_asks_for_free_has_little_to_show():
    money = dict.fromkeys(status()["money"])
    picture = drawn([Look(0.0, status(worker=None, relay=None, money=money, alerts=[]))])
    assert "It only asks." in picture
    assert "Answers are free here." in picture
    assert "alerts" not in picture


def test_a_count_that_starts_again_is_no_negative_rate():
    looks = [Look(0.0, status(tokens=50)), Look(1.0, status(tokens=0)), Look(2.0, status(tokens=7))]
    assert top._rates(looks, "worker", "tokens") == [0.0, 7.0]
    assert top._sparkline([0.0, 7.0], 4) == "▁▁▁█"


def test_without_a_terminal_it_says_what_else_there_is(shell, node, validate):
    status, _, err = shell("top")
    assert status == 2
    assert "tussah --home" in err
    assert "top --json" in err


def test_for_programs_each_look_is_a_line(shell, monkeypatch):
    answers = iter([status(), status()])

    def call(*_):
        try:
            return next(answers)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(top, "reach", lambda home: home.socket)
    monkeypatch.setattr(top.client, "call", call)
    monkeypatch.setattr(top, "PAUSE", 0.0)
    code, out, _ = shell("top", "--json")
    assert code == 130
    assert len(out.splitlines()) == 2


@contextmanager
def terminal(monkeypatch):
    """Standard input and output on a terminal of 100 columns; the other end of it."""
    ours, theirs = pty.openpty()
    for name, value in {"COLUMNS": "100", "LINES": "30", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    drain = threading.Thread(target=_drain, args=(os.dup(ours),), daemon=True)
    drain.start()
    with (
        open(theirs) as typed,
        open(os.dup(theirs), "w") as shown,
        monkeypatch.context() as streams,
    ):
        streams.setattr(sys, "stdin", typed)
        streams.setattr(sys, "stdout", shown)
        yield ours
    os.close(ours)
    drain.join()


def _drain(end):
    """What is drawn must go somewhere."""
    with open(end, "rb", buffering=0) as drawn:
        try:
            while drawn.read(4_096):
                pass
        except OSError:  # nobody holds the other end any more
            pass


def test_keys_act_at_once_and_leave_the_terminal_as_it_was(tmp_path, monkeypatch):
    import termios

    asked = []

    def call(_path, method, target, body=None):
        if not asked:  # what was typed before it began is nothing
            os.write(typing, b"pxrq")
        asked.append((method, target))
        if method == "POST":
            raise Failed("unsupported_endpoint", "It serves nothing.")
        return status()

    monkeypatch.setattr(top, "reach", lambda home: home.socket)
    monkeypatch.setattr(top.client, "call", call)
    with terminal(monkeypatch) as typing:
        before = termios.tcgetattr(sys.stdin.fileno())
        assert top.top(common=top.Common(directory=str(tmp_path))) == 0
        assert termios.tcgetattr(sys.stdin.fileno())[:4] == before[:4]
    assert [target for method, target in asked if method == "POST"] == [
        "/worker/pause",
        "/worker/resume",
    ]
