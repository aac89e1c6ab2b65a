"""`tussah models`, `prices`: which models there are, what fits this machine, what answers cost."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, final

from cyclopts import Parameter

from scripts.api import client
from scripts.cli.client import reach, reach_or_start
from scripts.cli.common import PLAIN, Common, give, interrupting, say
from scripts.failure import Document, Failed

OPEN: Final = frozenset(
    [
        "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0",
        "cc-by-sa-4.0", "mpl-2.0", "isc", "unlicense", "gpl-3.0", "agpl-3.0", "lgpl-3.0",
    ]
)  # fmt: skip
"""Licences that let anybody serve answers for money."""

SAY_EVERY: Final = 10.0
"""seconds between lines of progress where no terminal shows them in place"""


def list_(*, common: Common = PLAIN) -> int:
    """Show every model that is on offer, on this machine or in a catalogue, and what fits.

    FITS is gpu, partly (the processor does the rest), cpu, or no; `tussah models show NAME` says
    why.
    """
    from scripts.cli import render

    return _show(_call(common, "GET", "/models"), render.models, common)


def show(name: str, /, *, common: Common = PLAIN) -> int:
    """Show all that is known of a model of a catalogue: its bytes, what it needs, its licence.

    Parameters
    ----------
    name
        BASE, BASE@QUANT, or either with :HASH. `auto` is the best ranked.
    """
    from scripts.cli import render

    return _show(_call(common, "POST", "/models/show", {"name": name}), render.model, common)


def pull(
    name: str,
    /,
    *,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"])] = False,
    common: Common = PLAIN,
) -> int:
    """Fetch a model; each chunk is checked as it comes. Interrupted, it goes on from there.

    Parameters
    ----------
    name
        BASE, BASE@QUANT, or either with :HASH.
    yes
        Agree to a licence that is not an open one.
    """
    from scripts.cli import render

    path = reach_or_start(common.home)
    model = client.call(path, "POST", "/models/show", {"name": name})
    _agree(model, agreed=yes)
    # The name in full: what was agreed to is what is fetched.
    stream = client.Stream(path, "POST", "/models/pull", {"name": model["name"]})
    talk = _Talk()
    try:
        with interrupting(stream.stop):
            for event, document in stream:
                if event == "done":
                    talk.rest()
                    return _show(document, render.model, common)
                talk.hear(document)
    finally:
        talk.rest()
    raise Failed(client.LOST, "The node ended the download without a word.", "See its log.")


def rm(name: str, /, *, common: Common = PLAIN) -> int:
    """Delete a model that was fetched, or what has come of it.

    Parameters
    ----------
    name
        BASE, BASE@QUANT, or either with :HASH.
    """
    document = _call(common, "POST", "/models/remove", {"name": name})
    if common.as_json:
        give(document)
    else:
        freed = document["freed_bytes"]
        assert isinstance(freed, int)
        say(f"removed {document['name']}: {freed / 1e6:.0f} MB are free again")
    return 0


def add(
    catalogue: str,
    /,
    *,
    signature: str | None = None,
    key: str | None = None,
    common: Common = PLAIN,
) -> int:
    """Take in a signed catalogue: more models that have a name here.

    One key's newer catalogue replaces its older one, never the other way round.

    Parameters
    ----------
    catalogue
        Its file, TOML.
    signature
        The file of its signature; else the catalogue's name with .sig for .toml.
    key
        Its publisher's Ed25519 key, 64 hex digits, if that is not one of yours yet: from now on
        what this key signs counts here.
    """
    from scripts.cli import render

    file = Path(catalogue)
    beside = file.with_suffix(".sig") if signature is None else Path(signature)
    try:
        body = {"catalogue": file.read_text("utf-8"), "signature": beside.read_bytes().hex()}
    except (OSError, UnicodeDecodeError) as error:
        message = f"The catalogue cannot be read: {error}."
        raise Failed("usage", message, "Give the file, and --signature FILE.") from error
    more = {} if key is None else {"key": key}
    return _show(_call(common, "POST", "/models/add", {**body, **more}), render.added, common)


def prices(*, common: Common = PLAIN) -> int:
    """Show what answers cost now, by model: the least, middle and most that workers ask.

    For 1,000 tokens. An ask draws any worker below your cap (ask.max_price), as likely the dearest
    as the cheapest: whoever is always cheapest must not see all questions.
    """
    from scripts.cli import render

    return _show(_call(common, "GET", "/prices"), render.prices, common)


def _call(common: Common, method: str, target: str, body: Document | None = None) -> Document:
    return client.call(reach(common.home), method, target, body)


def _show(document: Document, draw: Callable[[Document], None], common: Common) -> int:
    if common.as_json:
        give(document)
    else:
        draw(document)
    return 0


def _agree(model: Document, *, agreed: bool) -> None:
    """Say the licence; one that is not open is asked about. Raises `Failed` for a no."""
    licence = str(model["licence"])
    say(f"{model['title']} is under the licence {licence}.")
    if licence.lower() in OPEN or agreed:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        message = f"The licence {licence} is none that lets everybody serve answers."
        raise Failed("usage", message, "Read it, and agree with --yes.", "--yes")
    sys.stderr.write("It may not let you serve answers to others. Fetch it? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failed("cancelled", "Nothing was fetched.")


@final
class _Talk:
    """Says how far a download is: in place on a terminal, now and then elsewhere."""

    def __init__(self) -> None:
        self._said_at = time.monotonic()
        self._in_place = False

    def hear(self, document: Document) -> None:
        """Say it."""
        if sys.stderr.isatty():
            self._in_place = True
            sys.stderr.write(f"\r\033[K{_line(document)}")
            sys.stderr.flush()
        elif time.monotonic() - self._said_at >= SAY_EVERY:
            self._said_at = time.monotonic()
            say(_line(document))

    def rest(self) -> None:
        """End a line that is shown in place."""
        if self._in_place:
            say("")
        self._in_place = False


def _line(document: Document) -> str:
    done, total, rate, eta = (
        document[name] for name in ("done_bytes", "total_bytes", "bytes_per_s", "eta_s")
    )
    assert isinstance(done, int)
    assert isinstance(total, int)
    assert isinstance(rate, int)
    left = "" if not isinstance(eta, int | float) else f", {_time(eta)} to go"
    return f"{done / 1e6:.0f} of {total / 1e6:.0f} MB, {rate / 1e6:.1f} MB/s{left}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
