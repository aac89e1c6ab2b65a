"""`tussah logs`: the node's words, redacted once more on the way out."""

import json
import threading

import pytest

from scripts.cli import client, logs

LINES = [
    {"timestamp": "2026-11-29T10:00:00Z", "level": "info", "event": "node.up", "relays": 3},
    {"timestamp": "2026-11-29T10:00:01Z", "level": "debug", "event": "circuit.built", "hops": 3},
    {
        "timestamp": "2026-11-29T10:00:02Z",
        "level": "warning",
        "event": "peer.lost",
        "id": "ab" * 32,
    },
]


@pytest.fixture
def log(shell):
    shell.home.prepare()
    shell.home.log.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return shell.home.log


def test_lines_are_shown_as_people_read_them(shell, log):
    status, out, _ = shell("logs")
    assert status == 0
    assert out.splitlines() == [
        "10:00:00  info     node.up  relays=3",
        "10:00:01  debug    circuit.built  hops=3",
        "10:00:02  warning  peer.lost  id=abababab…",
    ]


def test_the_last_lines_of_a_level_are_a_document(shell, log, validate):
    status, document = shell.document("logs", "--level", "info", "-n", "1")
    validate(document, "logs")
    assert status == 0
    assert [line["event"] for line in document["lines"]] == ["peer.lost"]
    assert document["file"] == str(log)
    assert shell("logs", "-n", "0")[1] == ""
    assert shell("logs", "--level", "loud")[0] == 2


def test_what_is_no_line_of_ours_is_shown_and_filtered_too(shell, log):
    with log.open("a") as file:
        file.write("Traceback: 203.0.113.77 said " + "cd" * 32 + "\n")
        file.write(json.dumps({"event": "odd", "prompt": "Name three moths."}) + "\n")
    _, out, _ = shell("logs", "--level", "error")
    assert out == "Traceback: 203.0.*.* said cdcdcdcd…\nodd  prompt=[hidden]\n"


def test_following_shows_what_is_written_later_until_ctrl_c(shell, log, monkeypatch):
    """The pause is where time passes: there the node writes, then the person has seen enough."""
    halves = iter(['{"event": "la', 'ter"}\n'])

    def pause(_seconds):
        assert threading.current_thread() is threading.main_thread()
        try:
            with log.open("a") as file:
                file.write(next(halves))
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(logs.time, "sleep", pause)
    status, out, err = shell("logs", "-f", "-n", "1")
    assert (status, err) == (130, "")
    assert out.splitlines()[1:] == ["later"]


def test_without_a_log_it_is_said_where_one_may_be(shell):
    status, _, err = shell("logs")
    assert status == 4
    assert "journalctl --user -u tussah" in err


def test_the_setting_says_where_the_log_is(shell, tmp_path):
    (tmp_path / "mine.log").write_text('{"event": "mine"}\n')
    shell("config", "set", "log.file", str(tmp_path / "mine.log"))
    assert shell("logs")[1] == "mine\n"


def test_a_long_log_is_turned_over_when_a_node_starts(shell, log):
    before = log.read_text()
    client._turn_over(log)
    assert log.read_text() == before
    with log.open("r+b") as file:
        file.truncate(client.MOST_LOG + 1)
    client._turn_over(log)
    assert not log.exists()
    assert log.with_name("node.log.1").stat().st_size == client.MOST_LOG + 1
