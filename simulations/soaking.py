"""Seeds by the thousand for a while: what `tussah sim soak` does, and says."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from simulations import soak

SCHEMA: Final = "tussah/sim-soak/1"

KEPT: Final = Path("seeds.toml")
"""Where failures are kept outside of a checkout."""


def run(
    minutes: float, *, first: int, keep: Path | None, say: Callable[[str], object]
) -> dict[str, object]:
    """Draw seeds from `first` on, for so many minutes, and give the `sim soak` document."""
    place = keep or (soak.REGRESSIONS if soak.REGRESSIONS.is_file() else KEPT)
    said: list[str] = []

    def told(line: str) -> None:
        said.append(line)
        say(line)

    failures = soak.soak(minutes, first=first, say=told, regressions=place)
    return {
        "schema": SCHEMA,
        "minutes": minutes,
        "first": first,
        "failures": failures,
        "kept_in": str(place) if failures else None,
        "said": said,
    }
