"""`tussah page`: the key reaches the browser, and nobody else."""

import json
import stat

import pytest

from scripts.cli import page
from scripts.cli.main import main
from scripts.home import Home

URL = "http://127.0.0.1:8420/v1"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Of a node that runs with a key."""
    home = Home(tmp_path / "home")
    home.prepare()
    api = {"url": URL, "key_file": str(home.api_key)}
    monkeypatch.setattr(page, "reach", lambda home: home.socket)
    monkeypatch.setattr(page.client, "call", lambda *_: {"api": api})
    home.api = api
    return home


@pytest.fixture
def browser(monkeypatch):
    """What it was told to open."""
    told = []
    monkeypatch.setattr(page.webbrowser, "open", lambda url: told.append(url) or True)
    return told


def run(home, *words):
    return main(["page", "--home", str(home.path), *words])


def test_the_key_stands_in_a_private_file_and_on_no_command_line(home, browser, capsys):
    assert run(home) == 0
    leap = home.path / "page.html"
    assert browser == [leap.as_uri()]
    assert stat.S_IMODE(leap.stat().st_mode) == 0o600
    key = home.api_secret()
    assert f"http://127.0.0.1:8420/#k={key}" in leap.read_text()
    out, err = capsys.readouterr()
    assert key not in out + err


def test_where_there_is_no_browser_the_address_is_printed(home, monkeypatch, capsys):
    monkeypatch.setattr(page.webbrowser, "open", lambda url: False)
    assert run(home) == 0
    out, err = capsys.readouterr()
    assert out == f"http://127.0.0.1:8420/#k={home.api_secret()}\n"
    assert "keep it to yourself" in err


def test_programs_get_the_address_and_no_browser(home, browser, capsys, validate):
    assert run(home, "--json") == 0
    validate(json.loads(capsys.readouterr().out), "page")
    assert browser == []


def test_a_node_without_a_local_api_says_how_to_get_one(home, capsys):
    home.api["url"] = None
    assert run(home) == 1
    assert "api.port=auto" in capsys.readouterr().err


def test_a_node_that_needs_no_key_gives_none(home, browser, capsys):
    home.api["key_file"] = None
    assert run(home, "--json") == 0
    assert json.loads(capsys.readouterr().out)["url"] == "http://127.0.0.1:8420/"
