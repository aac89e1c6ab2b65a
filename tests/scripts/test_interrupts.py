"""Ctrl-C at the worst moments: what is begun is noted first, and nothing is left behind."""

import os
import signal
import tempfile

import pytest

from scripts import forked, interrupts, parties
from scripts.interrupts import held
from scripts.parties import Plan

SIGNALS = pytest.mark.parametrize("number", interrupts.SIGNALS)


def strike(number=signal.SIGINT):
    os.kill(os.getpid(), number)


def whole(number, done):
    with held():
        strike(number)
        done.append("whole")


def let_in(number, done):
    with held() as ours, ours.let_in():
        strike(number)
        done.append("too late")


def one_that_waits(number, done):
    with held() as ours:
        strike(number)
        done.append("whole")
        with ours.let_in():
            done.append("too late")


def shut_out(number, done):
    with held() as ours, ours.let_in():
        with ours.shut_out():
            strike(number)
            done.append("whole")
        done.append("too late")


@SIGNALS
@pytest.mark.parametrize("block", [whole, let_in, one_that_waits, shut_out])
def test_interrupt_comes_as_soon_as_it_may(block, number):
    done = []
    with pytest.raises(KeyboardInterrupt):
        block(number, done)
    assert done == ([] if block is let_in else ["whole"])


def test_handlers_are_as_before():
    before = [signal.getsignal(number) for number in interrupts.SIGNALS]
    with held():
        pass
    assert [signal.getsignal(number) for number in interrupts.SIGNALS] == before


def test_ignored_signal_stays_ignored():
    """As in a shell's background: Ctrl-C is meant for somebody else."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with held() as ours, ours.let_in():
            strike()
    finally:
        signal.signal(signal.SIGINT, before)


# --- a network of processes ---


@pytest.fixture
def program(tmp_path):
    return tmp_path / "program.py"


@pytest.fixture(autouse=True)
def temporary(monkeypatch, tmp_path, program):
    program.write_text("import time; time.sleep(600)")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def check_nothing_is_left(tmp_path, program):
    def check():
        plan = Plan(relays=1, workers=1, programs={"relay-1": [str(program)]})
        with pytest.raises(KeyboardInterrupt), parties.running(plan):
            pytest.fail("it was interrupted before")
        assert not [*tmp_path.glob("tussah-*")]

    return check


def test_interrupted_as_its_directory_is_made_a_network_leaves_none(
    monkeypatch, check_nothing_is_left
):
    make = tempfile.mkdtemp

    def struck(**options):
        made = make(**options)
        strike()
        return made

    monkeypatch.setattr(tempfile, "mkdtemp", struck)
    check_nothing_is_left()


def test_interrupted_as_a_process_is_made_a_network_leaves_none(monkeypatch, check_nothing_is_left):
    made, begin = [], forked.Process

    def struck(*words, **options):
        made.append(begin(*words, **options))
        strike()
        return made[-1]

    monkeypatch.setattr(forked, "Process", struck)
    check_nothing_is_left()
    (process,) = made
    assert process.returncode == -signal.SIGTERM


def test_process_that_does_not_end_is_ended_by_a_second_interrupt(
    monkeypatch, tmp_path, program, check_nothing_is_left
):
    """It would be given ten seconds."""
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=1);"
    program.write_text(f"{stubborn} time.sleep(600)")
    looks = []

    def look(seconds):
        """Instead of a pause: strike once it is deaf, and again while it is waited for."""
        (log,) = tmp_path.glob("*/relay-1/node.log")
        if log.read_text() or looks:
            looks.append(seconds)
            strike()

    monkeypatch.setattr(parties.time, "sleep", look)
    check_nothing_is_left()
    assert len(looks) == 2
