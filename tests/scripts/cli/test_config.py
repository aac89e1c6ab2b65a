"""`tussah config`: what holds, why, and how it is changed without losing anything."""

import io
import os
import sys

import pytest

from scripts import settings
from scripts.cli import config
from scripts.home import locked

COMMENTED = "# mine\n[ask]\nrelays = 2  # quick enough\n"


def row(document, name):
    return next(each for each in document["settings"] if each["name"] == name)


def test_every_setting_is_shown_with_where_it_comes_from(shell, validate, monkeypatch):
    shell.home.prepare()
    shell.home.config.write_text(COMMENTED)
    shell.home.config.chmod(0o600)
    monkeypatch.setenv("TUSSAH_ASK_SHAPING", "0")
    status, document = shell.document("config", "show")
    validate(document, "config")
    assert status == 0
    assert [each["name"] for each in document["settings"]] == settings.names()
    assert row(document, "ask.relays") == {
        "name": "ask.relays",
        "value": 2,
        "from": f"file {shell.home.config}",
        "default": 3,
        "environment": "TUSSAH_ASK_RELAYS",
    }
    assert row(document, "ask.shaping")["from"] == "environment TUSSAH_ASK_SHAPING"
    assert row(document, "ask.model")["from"] == "default"
    _, out, _ = shell("config", "show", "ask")
    assert "ask.shaping    0         environment TUSSAH_ASK_SHAPING\n" in out
    assert "worker" not in out


def test_a_change_keeps_the_comments_and_a_private_file(shell, validate):
    shell.home.prepare()
    shell.home.config.write_text(COMMENTED)
    shell.home.config.chmod(0o600)
    status, document = shell.document("config", "set", "ask.relays", "1")
    validate(document, "config")
    assert (status, row(document, "ask.relays")["value"]) == (0, 1)
    assert shell.home.config.read_text() == COMMENTED.replace("= 2", "= 1")
    assert shell("config", "set", "api.origins", "http://a, http://b")[0] == 0
    assert shell("config", "set", "network", "moths")[0] == 0
    assert shell("config", "get", "api.origins")[1] == "http://a,http://b\n"
    assert shell.home.config.stat().st_mode & 0o777 == 0o600
    assert shell("config", "unset", "ask.relays")[:2] == (0, "ask.relays = 3\n")
    assert "# mine" in shell.home.config.read_text()
    chosen, _ = settings.load(flags={}, environ={}, file=shell.home.config)
    assert (chosen.network, chosen.ask.relays) == ("moths", 3)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["set", "ask.relays", "9"], "between 0 and 3"),
        (["set", "ask.relay", "1"], "Did you mean ask.relays?"),
        (["get", "ask.relay"], "Did you mean ask.relays?"),
        (["show", "aks"], "Did you mean ask?"),
        (["edit"], "config set NAME VALUE"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(shell, validate, words, told):
    status, out, err = shell("config", *words)
    assert (status, out) == (2, "")
    assert told in err
    assert not shell.home.config.exists()
    validate(shell.document("config", *words)[1], "error")


def test_a_broken_file_is_not_written_over(shell):
    shell.home.prepare()
    shell.home.config.write_text("[ask\n")
    shell.home.config.chmod(0o600)
    assert shell("config", "set", "ask.relays", "1")[0] == 2
    assert shell.home.config.read_text() == "[ask\n"


def test_it_is_said_when_a_change_does_not_hold_yet(shell, monkeypatch):
    monkeypatch.setenv("TUSSAH_ASK_RELAYS", "0")
    shell.home.prepare()
    with locked(shell.home):
        _, out, err = shell("config", "set", "ask.relays", "1")
    assert out == "ask.relays = 0\n"
    assert "environment TUSSAH_ASK_RELAYS goes before it" in err
    assert f"next start: tussah --home {shell.home.path} down" in err


@pytest.mark.parametrize(("written", "kept"), [("relays = 1", True), ("relays = 9", False)])
def test_what_an_editor_leaves_is_kept_if_it_can_be_used(
    shell, monkeypatch, tmp_path, written, kept
):
    editor = tmp_path / "editor"
    editor.write_text(f"#!/bin/sh\nprintf '[ask]\\n{written}\\n' > \"$1\"\n")
    editor.chmod(0o700)
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", terminal)
    monkeypatch.setenv("EDITOR", str(editor))
    monkeypatch.delenv("VISUAL", raising=False)
    assert (shell("config", "edit")[0] == 0) is kept
    assert shell.home.config.exists() is kept
    assert sorted(os.listdir(shell.home.path)) == (
        ["config.toml", "networks"] if kept else ["networks"]
    )


def test_where_the_file_is(shell, validate):
    status, document = shell.document("config", "path")
    validate(document, "config-path")
    assert (status, document["exists"]) == (0, False)
    assert shell("config", "path")[1] == f"{shell.home.config}\n"


def test_every_kind_of_value_is_written_as_it_is_read():
    values = [True, 3, 0.5, "auto", ("a", "b")]
    assert [config._written(value) for value in values] == ["true", "3", "0.5", "auto", "a,b"]
