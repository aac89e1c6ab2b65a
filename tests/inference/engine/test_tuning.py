"""The number of threads is the smallest of those that are as good as the best."""

import pytest

from inference.engine.tuning import Rates, Threads, candidates, choose


@pytest.mark.parametrize(
    ("cores", "usual", "tried"),
    [
        (1, 1, (1,)),
        (2, 2, (2, 1)),
        (4, 4, (4, 3, 2, 1)),
        (16, 8, (8, 16, 15, 2, 1)),
    ],
)
def test_what_is_tried(cores, usual, tried):
    assert candidates(cores, usual) == tried


@pytest.mark.parametrize(
    ("measured", "threads", "rates"),
    [
        ({4: Rates(100, 50)}, Threads(4, 4), Rates(100, 50)),
        # memory is the limit of answers, not of prompts
        ({4: Rates(100, 50), 2: Rates(60, 49), 1: Rates(30, 30)}, Threads(4, 2), Rates(100, 49)),
        # as good within three parts of a hundred, whatever was tried first
        ({2: Rates(138, 138), 1: Rates(139, 135)}, Threads(1, 1), Rates(139, 135)),
        ({8: Rates(97, 97), 16: Rates(100, 100)}, Threads(8, 8), Rates(97, 97)),
        ({8: Rates(96, 96), 16: Rates(100, 100)}, Threads(16, 16), Rates(100, 100)),
    ],
)
def test_the_least_of_the_best_is_chosen(measured, threads, rates):
    assert choose(measured) == (threads, rates)
