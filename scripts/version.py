"""Which program this is. Standard library only."""

import sys
from typing import Final

from scripts.failure import Document

CONTROL: Final = 1
"""Of the control API; a command line of another number asks for a restart of the node."""


def program() -> str:
    """The version of the installed distribution."""
    from importlib import metadata  # ten milliseconds that most commands do without

    try:
        return metadata.version("tussah")
    except metadata.PackageNotFoundError:
        return "unknown"


def document() -> Document:
    """The `version` document, of the node and of the command line alike."""
    return {
        "schema": "tussah/version/1",
        "version": program(),
        "control": CONTROL,
        "python": ".".join(map(str, sys.version_info[:3])),
    }
