"""Plots as SVG: the door to matplotlib, which the extra `sim` brings. Same input, same bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE: Final = (6.4, 3.2)
"""inches"""

MARGINS: Final = {"left": 0.14, "right": 0.97, "bottom": 0.17, "top": 0.9}
"""shares of the figure; matplotlib's own layout takes three times as long"""

SALT: Final = "tussah"
"""of the ids in an SVG, which are random otherwise"""

MAX_CURVES: Final = 8
"""in one plot: more cannot be told apart"""


class Curve(NamedTuple):
    """A line, with a band around it where it has one."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


class Plot(NamedTuple):
    """What is drawn."""

    title: str
    x: str
    y: str
    curves: Sequence[Curve]
    marked: bool = False
    """Each point is a measurement, not a moment."""


def available() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def svg(plot: Plot) -> str:
    """The plot as an `<svg>` element, without anything that names a time or a machine."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": SALT + plot.title, "svg.fonttype": "none"}):
        figure = Figure(figsize=SIZE)
        figure.subplots_adjust(**MARGINS)
        axes = figure.subplots()
        _draw(axes, plot)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return _element(buffer.getvalue())


def _draw(axes: Axes, plot: Plot) -> None:
    for curve in plot.curves[:MAX_CURVES]:
        (line,) = axes.plot(curve.x, curve.y, label=curve.label, marker="o" if plot.marked else "")
        if len(curve.low):
            axes.fill_between(curve.x, curve.low, curve.high, color=line.get_color(), alpha=0.2)
    axes.set_title(plot.title)
    axes.set_xlabel(plot.x)
    axes.set_ylabel(plot.y)
    axes.grid(visible=True, alpha=0.3)
    if len(plot.curves) > 1:
        axes.legend(fontsize="small")


def _element(document: str) -> str:
    """The element alone, with a name for who cannot see it."""
    start = document.index("<svg")
    element = document[start:].strip()
    return re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
