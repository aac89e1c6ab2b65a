"""A node's directory: private, owned by one daemon, never losing a key."""

import os
import stat
import subprocess
import sys

import pytest

from scripts.failure import Failed
from scripts.home import Home, locate, locked, pid, wait_unlocked, write_private


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_flag_beats_environment_beats_platform(tmp_path):
    environ = {"TUSSAH_HOME": str(tmp_path / "b")}
    assert locate(str(tmp_path / "a"), environ).path == tmp_path / "a"
    assert locate(None, environ).path == tmp_path / "b"
    assert locate(None, {}).path.name == "tussah"


def test_prepared_home_is_private(home):
    home.prepare()
    home.keep_seed(bytes(32))
    assert mode(home.path) == mode(home.networks) == 0o700
    assert mode(home.identity) == 0o600
    home.prepare()


def test_home_open_to_others_is_refused(home):
    home.prepare()
    home.path.chmod(0o755)
    with pytest.raises(Failed, match=r"mode 0755.*chmod"):
        home.prepare()


@pytest.mark.parametrize("name", ["identity", "wallet", "ledger", "config"])
def test_file_open_to_others_is_refused(home, name):
    home.prepare()
    write_private(getattr(home, name), "")
    getattr(home, name).chmod(0o644)
    with pytest.raises(Failed, match="open to other users"):
        home.prepare()


def test_home_that_cannot_be_made_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Failed, match="cannot be made"):
        Home(tmp_path / "file" / "home").prepare()


def test_seed_comes_back(home):
    home.prepare()
    assert home.seed() is None
    home.keep_seed(b"s" * 32)
    assert home.seed() == b"s" * 32


def test_key_is_never_replaced(home):
    home.prepare()
    home.keep_seed(b"s" * 32)
    with pytest.raises(FileExistsError):
        home.keep_seed(b"t" * 32)
    assert home.seed() == b"s" * 32
    assert {path.name for path in home.path.iterdir()} == {"identity.key", "networks"}


def test_key_is_not_replaced_by_who_did_not_see_it_come(home, monkeypatch):
    """Between a look and the write another process may have been there: the system decides."""
    home.prepare()
    write_private(home.wallet, "first")
    monkeypatch.setattr(type(home.wallet), "exists", lambda path: False)
    with pytest.raises(FileExistsError):
        write_private(home.wallet, "second", replace=False)
    assert home.wallet.read_text() == "first"


@pytest.mark.parametrize("text", ["", "abcd", "z" * 64])
def test_damaged_key_is_refused_not_replaced(home, text):
    home.prepare()
    write_private(home.identity, text)
    with pytest.raises(Failed, match="holds no key"):
        home.seed()
    assert home.identity.read_text() == text


def test_second_daemon_is_told_the_first_ones_pid(home):
    home.prepare()
    with (
        locked(home),
        pytest.raises(Failed, match=f"process {os.getpid()}") as failed,
        locked(home),
    ):
        pass
    assert failed.value.failure.meaning.exit == 1


def test_lock_says_who_holds_it_and_ends_with_its_holder(home):
    home.prepare()
    assert pid(home) is None
    with locked(home):
        assert pid(home) == os.getpid()
        assert not wait_unlocked(home, 0)
    assert pid(home) is None
    assert wait_unlocked(home, 0)


def test_lock_of_a_killed_daemon_is_free(home):
    home.prepare()
    script = (
        "import sys, time; from pathlib import Path; from scripts.home import Home, locked\n"
        "with locked(Home(Path(sys.argv[1]))): print('up', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(home.path)], stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout.readline() == b"up\n"
        assert pid(home) == process.pid
        process.kill()
    with locked(home):
        assert pid(home) == os.getpid()


def test_long_path_puts_the_socket_elsewhere(tmp_path):
    short, long = Home(tmp_path / "a"), Home(tmp_path / ("x" * 100))
    assert len(os.fsencode(long.socket)) <= 100
    assert long.socket != Home(tmp_path / ("y" * 100)).socket
    if len(os.fsencode(tmp_path)) < 80:
        assert short.socket.parent == short.path


def test_file_is_written_whole_or_not_at_all(home):
    home.prepare()
    target = home.path / "file"
    write_private(target, "one")
    write_private(target, "two")
    assert target.read_text() == "two"
    assert [path.name for path in home.path.iterdir() if path.is_file()] == ["file"]


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.rename"])
def test_who_is_killed_while_a_file_is_written_has_the_old_one(home, monkeypatch, step):
    """Settings, networks and keys are written so; what was begun lies beside them, no harm."""
    home.prepare()
    write_private(home.config, "[ask]\nrelays = 2\n")

    def die(*_):
        raise SystemExit(9)

    monkeypatch.setattr(step, die)
    with pytest.raises(SystemExit):
        write_private(home.config, "[ask]\nrel")
    assert home.config.read_text() == "[ask]\nrelays = 2\n"
    monkeypatch.undo()
    write_private(home.config, "[ask]\nrelays = 1\n")
    assert home.config.read_text() == "[ask]\nrelays = 1\n"
