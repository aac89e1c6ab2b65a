"""`tussah service`: a unit that systemd takes, and what is said when it does not."""

import os
import shlex
import shutil
import subprocess
import sys

import pytest

from scripts.cli import service

ANALYZE = shutil.which("systemd-analyze")


@pytest.fixture
def units(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "systemd" / "user"


@pytest.fixture
def systemctl(tmp_path, monkeypatch):
    """A systemd that takes note of what it is told; `exit` decides how that ends."""
    directory = tmp_path / "bin"
    directory.mkdir()
    log, fail = tmp_path / "told", tmp_path / "fail"
    program = directory / "systemctl"
    program.write_text(
        f"#!/bin/sh\necho $* >> {log}\n[ ! -e {fail} ] || {{ echo No medium found >&2; exit 1; }}\n"
    )
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    log.touch()
    return log, fail


@pytest.mark.outside
@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not here")
def test_the_unit_is_what_systemd_takes(tmp_path):
    home = service.Home(tmp_path / "a moth's 5% $HOME")
    unit = tmp_path / "tussah-moth.service"
    unit.write_text(service._unit(home, ["worker", "relay"]))
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    run = subprocess.run(
        [ANALYZE, "--user", "verify", str(unit)], env=environ, capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_the_command_of_the_unit_is_the_node_of_this_home(tmp_path):
    home = service.Home(tmp_path / "a moth")
    (line,) = [x for x in service._unit(home, ["relay"]).splitlines() if x.startswith("ExecStart=")]
    words = shlex.split(line.removeprefix("ExecStart="))
    assert words[:5] == [sys.executable, "-P", "-m", "scripts.cli.main", "up"]
    assert words[5:] == ["--relay", "--home", str(home.path)]


def test_from_install_to_remove(shell, units, systemctl, validate):
    told, _ = systemctl
    status, document = shell.document("service", "install", "--worker", "--name", "moths")
    validate(document, "service")
    assert (status, document["installed"]) == (0, True)
    assert (units / "moths.service").read_text() == document["unit"]
    assert shell("service", "show", "--name", "moths")[1] == document["unit"]
    assert shell("service", "remove", "--name", "moths")[0] == 0
    assert not (units / "moths.service").exists()
    assert told.read_text().splitlines() == [
        "--user daemon-reload",
        "--user enable --now moths.service",
        "--user disable --now moths.service",
        "--user daemon-reload",
    ]
    status, document = shell.document("service", "remove", "--name", "moths")
    validate(document, "error")
    assert status == 4


def test_what_systemd_says_is_said_with_the_command_to_try(shell, units, systemctl):
    systemctl[1].touch()
    status, _, err = shell("service", "install")
    assert status == 1
    assert "No medium found" in err
    assert "Try yourself: systemctl --user daemon-reload" in err
    assert (units / "tussah.service").exists()


def test_without_systemd_it_is_said_what_else_to_do(shell, units, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert "own supervisor" in shell("service", "install")[2]
    assert shell("service", "install", "--no-start")[0] == 0


def test_a_name_is_no_path(shell, units):
    assert shell("service", "install", "--name", "../evil")[0] == 2


def test_what_would_be_installed_can_be_seen_before(shell, units, validate):
    status, out, err = shell("service", "show")
    assert status == 0
    assert "Type=notify" in out
    assert "Not installed" in err
    document = shell.document("service", "show")[1]
    validate(document, "service")
    assert document["installed"] is False
