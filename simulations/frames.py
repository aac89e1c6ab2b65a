"""Series as polars frames and Parquet files: the door to polars, which the extra `sim` brings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from p2p.errors import LocalError
from simulations.metrics import Row

if TYPE_CHECKING:
    import polars

ADVICE: Final = "Install the extra: pip install 'tussah[sim]', or in a checkout scripts/setup.sh."


def available() -> bool:
    """Whether polars is installed."""
    return find_spec("polars") is not None


def points(rows: Sequence[Row]) -> polars.DataFrame:
    """Points of series: `t`, `metric`, `label`, `value`."""
    return table(Row._fields, rows)


def table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> polars.DataFrame:
    """Rows under names. Raises `LocalError` without polars."""
    if not available():
        raise LocalError(f"Frames need polars, which is not installed. {ADVICE}")
    import polars

    return polars.DataFrame([list(row) for row in rows], schema=list(names), orient="row")


def write(rows: Sequence[Row], path: Path) -> None:
    """Write points as Parquet."""
    points(rows).write_parquet(path)


def read(path: Path) -> list[Row]:
    """Read points from Parquet. Raises `LocalError` without polars."""
    if not available():
        raise LocalError(f"{path.name} needs polars, which is not installed. {ADVICE}")
    import polars

    return [Row(*row) for row in polars.read_parquet(path).iter_rows()]
