"""What an observer of the asker's link can guess of an answer: which of four kinds of text it is.

Answers of the built-in model, recorded by `shapes/make_answers.py`, are sent through circuits in
virtual time. Kinds differ in length above all, as their askers let them. The observer knows half of
the traces with their kinds, and guesses the other half by the nearest of what it knows.
"""

import sys
from collections import Counter
from itertools import accumulate, groupby, islice, pairwise
from pathlib import Path
from statistics import fmean, pstdev

import pytest
from scipy.stats import binomtest

from p2p.onion.cell import Command
from tests.p2p.onion.test_trace import HEARD, Text, trace

RECORDED = Path(__file__).with_name("shapes") / "answers.txt"

RATE = 100.0
"""tokens/s: what a busy machine recorded is told at the speed of an idle one, answer by answer"""

CHUNK = 0.04
"""seconds of tokens that a worker puts into a cell at level 0: `inference.answering.SLOT`"""

NEAREST = 5


def recorded():
    """(kind, ((seconds, bytes) of each token)) of each answer."""
    for line in RECORDED.read_text().splitlines():
        kind, *numbers = line.split()
        gaps, sizes = [list(map(int, numbers[at::2])) for at in (0, 1)]
        usual = fmean(gaps) * RATE or 1.0
        moments = accumulate((gap / usual for gap in gaps), initial=HEARD)
        yield kind, list(zip(islice(moments, 1, None), sizes, strict=True))


def text_of(told, rate):
    """An answer as its worker says it."""
    cells = groupby(told, key=lambda token: token[0] // CHUNK)
    chunks = [list(tokens) for _, tokens in cells]
    parts = tuple((tokens[-1][0], 12 + sum(size for _, size in tokens)) for tokens in chunks)
    return Text(asked=900, parts=parts, ends=told[-1][0], rate=rate)


def seen(told, rate):
    """Numbers that a trace of the asker's link gives: how many cells came, over what time, when."""
    frames = trace(text_of(told, rate), relays=1)
    times = [
        when
        for when, _, receiver, commands in frames
        if receiver == "client"
        for command in commands
        if command == Command.CELL
    ]
    gaps = [later - earlier for earlier, later in pairwise(times)] or [0.0]
    sent = sum(len(commands) for _, sender, _, commands in frames if sender == "client")
    return (len(times), times[-1] - times[0], fmean(gaps), pstdev(gaps), max(gaps), sent)


def share_guessed(rate, answers):
    """The held-out answers that are guessed, tested as so many tries."""
    traces = [(kind, seen(told, rate)) for kind, told in answers]
    columns = zip(*(trace for _, trace in traces), strict=True)
    spreads = [pstdev(column) or 1.0 for column in columns]
    known, asked = traces[::2], traces[1::2]

    def distance(one, other):
        places = zip(one, other, spreads, strict=True)
        return sum(((a - b) / spread) ** 2 for a, b, spread in places)

    def guess(trace):
        nearest = sorted(known, key=lambda entry: distance(entry[1], trace))[:NEAREST]
        return Counter(kind for kind, _ in nearest).most_common(1)[0][0]

    return binomtest(sum(guess(trace) == kind for kind, trace in asked), len(asked))


@pytest.mark.slow
def test_kinds_of_text_are_told_apart_at_level_0_and_not_at_level_1():
    answers = list(recorded())
    kinds = {kind: [a for a in answers if a[0] == kind] for kind, _ in answers}
    each = min(map(len, kinds.values())) // 2 * 2
    answers = [answer for of_kind in kinds.values() for answer in of_kind[:each]]
    assert len(kinds) == 4
    assert max(told[-1][0] for _, told in answers) < 5.0, "all in the first bucket"

    bare, shaped = share_guessed(0, answers), share_guessed(4, answers)
    interval = shaped.proportion_ci(0.99)
    sys.stdout.write(
        f"guessed of {2 * each} answers: {bare.statistic:.2f} at level 0, at level 1 "
        f"{shaped.statistic:.2f}, with 99 % certainty {interval.low:.3f} to {interval.high:.3f}\n"
    )
    assert bare.statistic >= 2 / len(kinds)
    assert interval.low <= 1 / len(kinds) <= interval.high
