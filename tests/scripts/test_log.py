"""What may never stand in a log, whoever tries to write it."""

import json
import logging

import pytest
import structlog

from scripts.log import configured, redact
from scripts.redaction import scrub
from scripts.settings import Log

SECRETS = {
    "prompt": "Name three moths.",
    "answer": "Luna, atlas, emperor.",
    "key": b"\x01" * 32,
    "seed": "ab" * 32,
    "passphrase": "open sesame",
}


@pytest.fixture
def lines(tmp_path):
    """Configure a log into a file; returns what has been written."""
    file = tmp_path / "log"
    with configured(Log(format="json", level="debug", file=str(file))):
        yield lambda: file.read_text()
    logging.disable(logging.NOTSET)


def test_event_is_a_line_of_json_with_its_keys(lines):
    structlog.get_logger().info("circuit.built", hops=3, ms=212)
    line = json.loads(lines())
    assert (line["event"], line["hops"], line["ms"], line["level"]) == (
        "circuit.built",
        3,
        212,
        "info",
    )
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize("name", SECRETS)
def test_planted_secret_does_not_reach_the_log(lines, name):
    structlog.get_logger().info("planted", **{name: SECRETS[name]})
    secret = SECRETS[name]
    assert (secret if isinstance(secret, str) else secret.hex()) not in lines()


def test_secret_under_another_name_is_cut(lines):
    key, peer = "ab" * 32, "12D3KooWNvSZnPi3RrhrTwEY4LuuBeB6K6facKUCJcyWG1aoDd2p"
    structlog.get_logger().info("planted", node=key, raw=b"\xab" * 32, peer=peer)
    text = lines()
    assert key[:9] not in text
    assert "[32 bytes]" in text
    assert peer not in text


def test_address_is_cut_to_its_network(lines):
    structlog.get_logger().info("dialled", to="203.0.113.7:4001", also=("2001:db8:1:2::3", 4001))
    text = lines()
    assert "203.0.*.*:4001" in text
    assert "113.7" not in text
    assert "2001:0db8:*" in text


def test_traceback_is_cleaned_too(lines):
    try:
        raise OSError("cannot reach 203.0.113.7")
    except OSError:
        structlog.get_logger().exception("failed")
    text = lines()
    assert "OSError" in text
    assert "113.7" not in text


def test_library_logs_are_silent(lines, capfd):
    logging.getLogger("libp2p").critical("dialling 203.0.113.7")
    assert lines() == ""
    assert capfd.readouterr() == ("", "")


def test_level_hides_what_is_below(tmp_path):
    file = tmp_path / "log"
    with configured(Log(format="json", level="warning", file=str(file))):
        structlog.get_logger().info("hidden")
        structlog.get_logger().warning("shown")
    logging.disable(logging.NOTSET)
    assert [json.loads(line)["event"] for line in file.read_text().splitlines()] == ["shown"]


def test_console_is_for_people(tmp_path):
    file = tmp_path / "log"
    with configured(Log(format="console", file=str(file))):
        structlog.get_logger().info("circuit.built", hops=3)
    logging.disable(logging.NOTSET)
    assert "circuit.built" in file.read_text()
    assert "hops=3" in file.read_text()


@pytest.mark.parametrize(
    "text",
    [
        "at 12:34:56 today",
        "version 1.2.3",
        "/usr/lib/python3.11/site-packages/trio/_core/_run_a_very_long_file_name_indeed.py",
        "a1b2c3d4",
    ],
)
def test_harmless_text_stays(text):
    assert scrub(text) == text


def test_nothing_is_redacted_twice_into_nonsense():
    event = {"event": "x", "hops": 3, "done": None, "ok": True}
    assert redact(None, "info", dict(event)) == event
