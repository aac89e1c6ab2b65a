"""`tussah config`: every setting, what it is and where that comes from; changes to the file.

A change keeps the file's comments, and is there whole or not at all. The file is checked as it
would be at a start, so that what is written can be started with.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from scripts import settings
from scripts.cli.common import PLAIN, Common, give, out, say
from scripts.cli.words import at_home
from scripts.failure import Document, Failed, suggestion
from scripts.home import Home, pid, write_private
from scripts.settings import Settings

EDITORS = ("VISUAL", "EDITOR")
"""What names a person's editor, the first that is set."""


def show(section: str = "", /, *, common: Common = PLAIN) -> int:
    """Show every setting, its value and where that comes from.

    A flag goes before the environment, that before the file, that before the default. What a
    running node was told by flags at its start is not seen here.

    Parameters
    ----------
    section
        Only those of a section: ask, for one.
    """
    names = [name for name in settings.names() if name.split(".")[0] == section or not section]
    if not names:
        sections = sorted({name.split(".")[0] for name in settings.names()})
        message = f"There is no section {section}."
        raise Failed("usage", message, suggestion(section, sections) or ", ".join(sections))
    document = _document(common.home, names)
    if common.as_json:
        give(document)
        return 0
    from scripts.cli import render

    render.settings(document)
    return 0


def get(name: str, /, *, common: Common = PLAIN) -> int:
    """Print the value of a setting.

    Parameters
    ----------
    name
        As `tussah config show` lists it: ask.relays, for one.
    """
    document = _document(common.home, [settings.known(name)])
    if common.as_json:
        give(document)
        return 0
    chosen, _ = _loaded(common.home)
    out(_written(settings.value(chosen, name)) + "\n")
    return 0


def set_(name: str, value: str, /, *, common: Common = PLAIN) -> int:
    """Change a setting in the file, which keeps its comments. It holds from the next start.

    Parameters
    ----------
    name
        As `tussah config show` lists it: ask.relays, for one.
    value
        true or false, a number, text, or words with commas between them.
    """
    _change(common.home, name, settings.parse(name, value))
    return _changed(name, common)


def unset(name: str, /, *, common: Common = PLAIN) -> int:
    """Take a setting out of the file: its default holds again from the next start.

    Parameters
    ----------
    name
        As `tussah config show` lists it.
    """
    _change(common.home, settings.known(name), None)
    return _changed(name, common)


def edit(*, common: Common = PLAIN) -> int:
    """Open the file in your editor ($VISUAL or $EDITOR). What cannot be used is not kept."""
    home = common.home
    chosen = next((word for name in EDITORS if (word := os.environ.get(name))), None)
    if not sys.stdin.isatty() or chosen is None:
        message = "No editor can be opened: there is no terminal, or neither VISUAL nor EDITOR."
        advice = f"Edit {home.config} yourself, or use `tussah config set NAME VALUE`."
        raise Failed("usage", message, advice)
    home.prepare()
    draft = home.path / ".config.draft.toml"
    write_private(draft, _text(home))
    try:
        subprocess.run([*shlex.split(chosen), str(draft)], check=True)  # noqa: S603 - the person's
        text = draft.read_text("utf-8")
        settings.load(flags={}, environ={}, file=draft)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Failed("failed", f"The editor {chosen} failed: {error}.") from error
    finally:
        draft.unlink(missing_ok=True)
    write_private(home.config, text)
    return _changed(None, common)


def path(*, common: Common = PLAIN) -> int:
    """Print where the file is, whether it exists yet or not."""
    file = str(common.home.config)
    if common.as_json:
        give({"schema": "tussah/config-path/1", "file": file, "exists": Path(file).exists()})
    else:
        out(f"{file}\n")
    return 0


def _loaded(home: Home) -> tuple[Settings, settings.Provenance]:
    return settings.load(flags={}, environ=os.environ, file=home.config)


def _document(home: Home, names: list[str]) -> Document:
    chosen, origins = _loaded(home)
    rows = [
        {
            "name": name,
            "value": settings.value(chosen, name),
            "from": origins[name],
            "default": settings.value(Settings(), name),
            "environment": settings.variable(name),
        }
        for name in names
    ]
    return {"schema": "tussah/config/1", "file": str(home.config), "settings": rows}


def _written(value: object) -> str:
    """A value as `config set` takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _text(home: Home) -> str:
    return home.config.read_text("utf-8") if home.config.exists() else ""


def _change(home: Home, name: str, value: object) -> None:
    """Write a setting, or take it out (None), into a file that is sound before and after."""
    import tomlkit

    _loaded(home)
    home.prepare()
    document = tomlkit.parse(_text(home))
    section, _, field = name.rpartition(".")
    if value is not None:
        table = document if not section else document.setdefault(section, tomlkit.table())
        table[field] = list(value) if isinstance(value, tuple) else value
    elif not section:
        document.pop(field, None)
    elif section in document:
        document[section].pop(field, None)
    write_private(home.config, tomlkit.dumps(document))


def _changed(name: str | None, common: Common) -> int:
    """Say what holds now, and from when."""
    home = common.home
    names = settings.names() if name is None else [name]
    document = _document(home, names)
    if common.as_json:
        give(document)
        return 0
    chosen, origins = _loaded(home)
    if name is not None:
        out(f"{name} = {_written(settings.value(chosen, name))}\n")
        if not origins[name].startswith(("file", "default")):
            say(f"Not what the file says: {origins[name]} goes before it.")
    if pid(home) is not None:
        restart = at_home("tussah down, then tussah up", home.path)
        say(f"The running node takes it up at its next start: {restart}.")
    return 0
