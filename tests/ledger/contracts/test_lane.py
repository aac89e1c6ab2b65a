"""The lane on TON's own machine: its life, its refusals, its boundaries."""

import pytest

from ledger.contracts import build, cells
from tests.ledger.contracts.cases import CASES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_lane(case):
    case(cells.CODE)


def test_the_committed_code_is_the_source_compiled():
    assert build.compiled() == build.OUTPUT.read_bytes()


def test_the_code_is_small():
    """Opening a lane pays for every byte."""
    assert len(cells.CODE.to_boc()) <= 720
