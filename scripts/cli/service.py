"""`tussah service`: the node as a service of the person's own systemd, started with the machine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from scripts.cli.common import PLAIN, Common, give, out, say
from scripts.failure import Document, Failed
from scripts.home import Home

UNIT: Final = """\
# Written by `tussah service install`.
[Unit]
Description=Tussah: private AI inference ({home})

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
Restart=on-failure
RestartSec=5
# a wrong setting is not mended by starting again
RestartPreventExitStatus=2
# running answers have a minute to finish
TimeoutStopSec=90
WatchdogSec=90
NoNewPrivileges=yes
PrivateTmp=yes
Nice=10

[Install]
WantedBy=default.target
"""


def install(
    *,
    worker: bool = False,
    relay: bool = False,
    mint: bool = False,
    name: str = "tussah",
    no_start: bool = False,
    common: Common = PLAIN,
) -> int:
    """Have systemd start this home's node now and whenever you log in. Needs no root.

    Roles and everything else can as well be settings (tussah config set node.roles worker). To have
    it run while nobody is logged in: loginctl enable-linger. Its log: journalctl --user -u tussah.

    Parameters
    ----------
    worker
        Serve a model.
    relay
        Forward others' circuits.
    mint
        Sell credits and redeem them; the network's profile must name this node.
    name
        Of the unit; a second node needs another one.
    no_start
        Only write the unit's file.
    """
    roles = [role for role, on in {"worker": worker, "relay": relay, "mint": mint}.items() if on]
    file, unit = _file(name), _unit(common.home, roles)
    _write(file, unit)
    if not no_start:
        _systemctl("daemon-reload")
        _systemctl("enable", "--now", f"{name}.service")
    done = f"wrote {file}" if no_start else f"wrote {file}; {name}.service is started"
    return _give(name, unit, f"{done}\n", common)


def show(*, name: str = "tussah", common: Common = PLAIN) -> int:
    """Print the unit that is installed, or the one that would be.

    Parameters
    ----------
    name
        Of the unit.
    """
    file = _file(name)
    unit = file.read_text("utf-8") if file.exists() else _unit(common.home, [])
    if not (file.exists() or common.as_json):
        say(f"Not installed; `tussah service install` would write this to {file}.")
    return _give(name, unit, unit, common)


def remove(*, name: str = "tussah", common: Common = PLAIN) -> int:
    """Stop the service and take its unit away; the home stays as it is.

    Parameters
    ----------
    name
        Of the unit.
    """
    file = _file(name)
    if not file.exists():
        raise Failed("not_found", f"There is no unit {file}.", "See `tussah service show`.")
    _systemctl("disable", "--now", f"{name}.service")
    file.unlink()
    _systemctl("daemon-reload")
    return _give(name, None, f"removed {file}\n", common)


def _file(name: str) -> Path:
    if not name.replace("-", "").isalnum():
        message = f"{name} cannot be the name of a unit: letters, digits and hyphens make one."
        raise Failed("usage", message, param="--name")
    config = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(config) / "systemd" / "user" / f"{name}.service"


def _unit(home: Home, roles: list[str]) -> str:
    words = [sys.executable, "-P", "-m", "scripts.cli.main", "up"]
    words += [f"--{role}" for role in roles]
    words += ["--home", str(home.path)]
    command = " ".join(map(_quoted, words))
    return UNIT.format(home=str(home.path).replace("%", "%%"), command=command)


def _quoted(word: str) -> str:
    """As systemd reads it: no word splits, and % and $ mean nothing."""
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{word}"' if " " in word or "'" in word else word


def _write(file: Path, unit: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(unit, "utf-8")
    except OSError as error:
        raise Failed("failed", f"{file} cannot be written: {error.strerror}.") from error


def _systemctl(*words: str) -> None:
    """One command of the person's systemd. Raises `Failed` with what it says."""
    told = f"systemctl --user {' '.join(words)}"
    program = shutil.which("systemctl")
    if program is None:
        advice = "Have your system's own supervisor run what ExecStart in the unit says."
        raise Failed("failed", "This machine has no systemd, so no service runs.", advice)
    done = subprocess.run([program, "--user", *words], capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        why = done.stderr.strip() or f"it ended with {done.returncode}"
        raise Failed("failed", f"systemd did not do it: {why}.", f"Try yourself: {told}")


def _give(name: str, unit: str | None, text: str, common: Common) -> int:
    if not common.as_json:
        out(text)
        return 0
    file = _file(name)
    document: Document = {
        "schema": "tussah/service/1",
        "name": name,
        "file": str(file),
        "installed": file.exists(),
        "unit": unit,
    }
    give(document)
    return 0
