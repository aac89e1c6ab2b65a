"""When requests come and how long they are: renewal processes, and traces of real services.

The lengths are those of Azure's conversation and coding services in November 2023, as percentiles;
prompts and answers are drawn apart from each other, since they hardly depend on each other there.
The arrivals of the coding service fit no renewal process: use its trace.
"""

import csv
import gzip
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from p2p.entropy import Entropy, exponential
from p2p.errors import LocalError
from simulations.experiment import Workload
from simulations.reading import WrongExperiment
from simulations.samplers import Percentiles, gamma

MAX_TRACE: Final = 64_000_000
"""bytes of a trace, unpacked: 3,000,000 requests."""

_RANKS: Final = (*(i / 20 for i in range(20)), 0.99, 1.0)


class Lengths(NamedTuple):
    """Tokens of requests."""

    prompt: Percentiles
    answer: Percentiles

    def draw(self, entropy: Entropy) -> "tuple[int, int]":
        """Of a prompt and its answer; two draws."""
        return round(self.prompt.draw(entropy)), round(self.answer.draw(entropy))


def _table(text: str) -> Percentiles:
    return Percentiles(_RANKS, [float(value) for value in text.split()])


Service: TypeAlias = Literal["conv", "code"]

LENGTHS: Final[dict[Service, Lengths]] = {
    "conv": Lengths(
        prompt=_table(
            "2 181 207 372 387 396 403 414 703 984 1020 1045 1071 1097 1130 1189 1315 1876 2734"
            " 4083 4142 14050"
        ),
        answer=_table(
            "7 41 54 67 77 85 91 96 103 113 129 151 177 217 384 395 400 411 424 451 601 1000"
        ),
    ),
    "code": Lengths(
        prompt=_table(
            "3 75 147 232 386 578 770 939 1075 1261 1469 1690 1909 2164 2433 2744 3192 3920 5188"
            " 7303 7436 7437"
        ),
        answer=_table("6 6 7 7 8 9 9 10 11 12 13 14 16 18 20 24 29 39 55 90 251 1899"),
    ),
}
"""Values at 0, 5, ... 95, 99 and 100 %; CC BY 4.0: Azure Public Dataset, and Patel et al.,
"Splitwise", ISCA 2024."""


@dataclass(frozen=True, slots=True)
class Request:
    """Something that is asked of the network."""

    at: float
    """seconds since the first"""
    prompt: int
    answer: int
    """tokens"""


class BadTrace(LocalError):  # noqa: N818 - named like its siblings in p2p/errors.py
    """A file that is no trace; the message says where and why."""


def poisson(entropy: Entropy, rate: float) -> Iterator[float]:
    """Gaps of arrivals that know nothing of each other, `rate` a second."""
    while True:
        yield exponential(entropy, 1.0 / rate)


def gamma_gaps(entropy: Entropy, rate: float, shape: float) -> Iterator[float]:
    """Gaps of this shape: below 1 they come in bunches, above 1 they keep a distance."""
    while True:
        yield gamma(entropy, shape) / (shape * rate)


def drawn(gaps: Iterator[float], lengths: Lengths, entropy: Entropy) -> Iterator[Request]:
    """Requests at these gaps, with lengths drawn; never ends."""
    at = 0.0
    for gap in gaps:
        at += gap
        yield Request(at, *lengths.draw(entropy))


def asked(workload: Workload, entropy: Entropy) -> Iterator[Request]:
    """What an experiment's workload asks; nothing if it has no arrivals.

    Raises `BadTrace`, and `WrongExperiment` if a trace is asked for and none is named.
    """
    arrivals, gaps = workload.arrivals, entropy.fork("gaps")
    lengths = LENGTHS[workload.lengths]
    match arrivals.kind:
        case "none":
            return iter(())
        case "poisson":
            return drawn(poisson(gaps, arrivals.rate), lengths, entropy.fork("lengths"))
        case "gamma":
            process = gamma_gaps(gaps, arrivals.rate, arrivals.shape)
            return drawn(process, lengths, entropy.fork("lengths"))
        case "trace":
            if not arrivals.file:
                raise WrongExperiment("workload.arrivals.file must name the trace.")
            return trace(Path(arrivals.file), arrivals.rate)


def trace(path: Path, rate: float | None = None) -> Iterator[Request]:
    """The requests of a file, in order; all gaps stretched alike if a `rate` is given.

    CSV with the columns `t_us,context,generated`, plain or gzipped. Raises `BadTrace`.
    """
    rows = list(_rows(path))
    if len(rows) < 2 or rows[-1].at <= 0.0:
        raise BadTrace(f"{path} holds too little to tell a rate")
    own = (len(rows) - 1) / rows[-1].at
    stretch = 1.0 if rate is None else own / rate
    for row in rows:
        yield Request(row.at * stretch, row.prompt, row.answer)


def _rows(path: Path) -> Iterator[Request]:
    latest = 0.0
    for number, row in enumerate(csv.DictReader(io.StringIO(_text(path))), 2):
        try:
            at = int(row["t_us"]) / 1e6
            request = Request(at, int(row["context"]), int(row["generated"]))
        except (KeyError, TypeError, ValueError):
            raise BadTrace(f"{path}, line {number}: t_us,context,generated expected") from None
        if not latest <= at < math.inf or request.prompt < 0 or request.answer < 0:
            raise BadTrace(f"{path}, line {number}: before the line above it, or below 0")
        latest = at
        yield request


def _text(path: Path) -> str:
    """The file unpacked, but no more of it than a trace may have."""
    try:
        packed = path.suffix == ".gz"
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            data = file.read(MAX_TRACE + 1)
        if len(data) > MAX_TRACE:
            raise BadTrace(f"{path} is longer than {MAX_TRACE} bytes")
        return data.decode("ascii")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise BadTrace(f"{path} cannot be read: {error}") from error
