"""What the traffic of an answer tells of it, and what that costs: in a line for people."""

from collections.abc import Mapping
from typing import Final

from scripts.failure import Document

ALWAYS: Final = 2
"""The level at which the line is always busy."""


def shaping(privacy: Document) -> str:
    """By the `privacy` of an `ask` document."""
    shape = privacy["shape"]
    if shape is None:
        return "shaping 0: when tokens came, and how many, shows on every link"
    assert isinstance(shape, Mapping)
    if privacy["shaping"] == ALWAYS:
        return (
            "shaping 2: your line carries 4 frames a second each way, day and night (830 MB a "
            f"day), asked or not; {_buckets(shape)} show behind the first relay"
        )
    left, size = float(shape["left_s"]), int(shape["link_bytes"])
    return (
        f"shaping {privacy['shaping']}: {_buckets(shape)} show, no more; {size / 1_000:.0f} kB on "
        f"each link, padding for {left:.0f} s yet"
    )


def _buckets(shape: Document) -> str:
    return (
        f"a prompt of up to {shape['prompt_cells']} cells and an answer of up to "
        f"{shape['answer_s']} s"
    )
