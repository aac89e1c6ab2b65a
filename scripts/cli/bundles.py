"""What a person may give to somebody who helps: a zip file that holds no secret.

What is written passes the log's filter: ids are cut to eight digits, addresses to /16 or /32, long
secrets are hidden, and so is the name of the person's own directory.
"""

import json
import os
import platform
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from scripts import settings, version
from scripts.api import client
from scripts.cli import logs
from scripts.cli.client import reach
from scripts.failure import Document, Failed
from scripts.home import Home
from scripts.redaction import scrub

LINES: Final = 2_000
"""of the log"""

PACKAGES: Final = ("trio", "libp2p", "pytoniq", "tonpy", "llama-cpp-python", "starlette", "h11")
"""Whose versions say the most when something is odd."""


def write(file: Path, home: Home, findings: Document) -> list[str]:
    """Write the bundle; the names of what is in it. Raises `Failed` if the file cannot be made."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        message = f"{file} cannot be written: {error.strerror}."
        raise Failed("usage", message, "Name a file that is not there yet.", "--bundle") from error
    with os.fdopen(descriptor, "wb") as opened, zipfile.ZipFile(opened, "w") as bundle:
        for name, text in _contents(home, findings):
            info = zipfile.ZipInfo(name)  # without this machine's clock
            bundle.writestr(info, text, zipfile.ZIP_DEFLATED)
        return bundle.namelist()


def _contents(home: Home, findings: Document) -> Iterator[tuple[str, str]]:
    yield "doctor.json", scrub(_text(findings))
    yield "status.json", scrub(_text(_status(home)))
    yield "settings.json", scrub(_text(_settings(home)))
    lines = logs.last(logs.place(home), LINES)
    yield "log.jsonl", scrub("".join(_text(line, indent=None) for line in lines))
    yield "versions.json", _text(_versions())


def _status(home: Home) -> Document:
    try:
        return client.call(reach(home), "GET", "/status")
    except Failed as failed:
        return failed.failure.document()


def _settings(home: Home) -> Document:
    try:
        chosen, origins = settings.load(flags={}, environ=os.environ, file=home.config)
    except Failed as failed:
        return failed.failure.document()
    return {
        name: {"value": settings.value(chosen, name), "from": origin}
        for name, origin in origins.items()
    }


def _versions() -> Document:
    return {
        **version.document(),
        "system": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "executable": sys.executable,
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _text(document: Document, *, indent: int | None = 1) -> str:
    """As JSON, without the name of the person's own directory."""
    text = json.dumps(document, indent=indent, ensure_ascii=False) + "\n"
    return text.replace(str(Path.home()), "~")
