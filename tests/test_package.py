"""What is installed: everything the program reads at run time, and nothing that only we need."""

import os
import socket
import subprocess
import sys
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

PACKAGES = ("p2p", "ledger", "inference", "simulations", "scripts")

OURS = ("scripts/setup.sh", "scripts/browser.sh")
"""Of the repository alone: they set it up."""


def data_files():
    """Files of the packages that are no Python, by path from the root."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            relative = path.relative_to(ROOT).as_posix()
            if path.is_file() and path.suffix not in (".py", ".pyc") and relative not in OURS:
                yield relative


def is_packaged(relative):
    """Whether a pattern of package-data has it, as setuptools reads them."""
    patterns = PROJECT["tool"]["setuptools"]["package-data"]
    for package, globs in patterns.items():
        prefix = "" if package == "*" else package.replace(".", "/") + "/"
        inside = relative.removeprefix(prefix)
        if relative.startswith(prefix) and any(
            fnmatch(Path(inside).name if package == "*" else inside, glob) for glob in globs
        ):
            return True
    return False


def test_everything_that_is_read_at_run_time_is_packaged():
    files = set(data_files())
    assert {"scripts/api/page/page.js", "ledger/contracts/lane.boc", "p2p/schema.tl"} <= files
    assert [each for each in files if not is_packaged(each)] == []


def test_every_package_is_found():
    """A directory without `__init__.py` would be left out, and miss only once it is installed."""
    for package in PACKAGES:
        directories = {path.parent for path in (ROOT / package).rglob("*.py")}
        assert [each for each in directories if not (each / "__init__.py").exists()] == []


@pytest.mark.slow
def test_the_wheel_gives_a_working_command_in_an_empty_place(tmp_path):
    """With its base dependencies alone: no compiler, no model, no numpy."""
    uv = Path(sys.executable).with_name("uv")
    environ = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "UV_TOOL_DIR": str(tmp_path / "tools"),
        "UV_TOOL_BIN_DIR": str(tmp_path / "bin"),
    }

    def run(*words):
        done = subprocess.run(
            list(map(str, words)), cwd=tmp_path, env=environ, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(uv, "build", "--quiet", "--out-dir", tmp_path / "dist", ROOT)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert not any(name.startswith("tests") for name in zipfile.ZipFile(wheel).namelist())
    run(uv, "tool", "install", "--quiet", "--python", sys.executable, wheel)

    tussah, home = tmp_path / "bin" / "tussah", tmp_path / "home"
    assert "tussah" in run(tussah, "version")
    assert "churn-1000" in run(tussah, "sim", "list")
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    run(tussah, "network", "new", "moths", "--port", port, "--home", home)
    run(tussah, "up", "--relay", "--detach", "--home", home)
    try:
        assert "moths: joined" in run(tussah, "status", "--home", home)
        assert "#k=" in run(tussah, "page", "--json", "--home", home)
    finally:
        run(tussah, "down", "--home", home)
