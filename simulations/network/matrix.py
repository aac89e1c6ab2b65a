"""Round-trip times between real hosts: PlanetLab's 490, read from a file of half floats.

The file is the strict upper triangle of a symmetric matrix, row by row, in milliseconds: IEEE 754
half precision, little-endian, no header (Zhu et al., Network Latency Datasets, 2017).
"""

import hashlib
import math
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final, final

FILE: Final = "latency/planetlab_rtt_490.f16"
SHA256: Final = "496b393c884f981ed3f3034d8f7ed99f5d9c0b83a1bb64072afef841d9a08b1c"

HALF: Final = 2
"""bytes of a half float"""


@final
class Matrix:
    """A symmetric matrix, given as its strict upper triangle in milliseconds."""

    def __init__(self, triangle: Sequence[float]) -> None:
        self.rows = (1 + math.isqrt(1 + 8 * len(triangle))) // 2
        if self.rows * (self.rows - 1) != 2 * len(triangle) or not triangle:
            raise ValueError("not the upper triangle of a matrix")
        self._triangle = triangle

    def rtt(self, row: int, column: int) -> float:
        """Seconds there and back."""
        if row == column:
            return 0.0
        if row > column:
            row, column = column, row
        before = row * self.rows - row * (row + 1) // 2
        return self._triangle[before + column - row - 1] / 1_000.0


def read(path: Path) -> Matrix:
    """The matrix of a file. Raises `OSError`, and `ValueError` if it is none."""
    data = path.read_bytes()
    if len(data) % HALF:
        raise ValueError("half a half float is left over")
    return Matrix(struct.unpack(f"<{len(data) // HALF}e", data))


def digest(path: Path) -> str:
    """What a manifest says of a file: its SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def find() -> Path | None:
    """PlanetLab's matrix under the directory that `TUSSAH_DATA` names, if it is there."""
    folder = os.environ.get("TUSSAH_DATA")
    path = Path(folder) / FILE if folder else None
    return path if path is not None and path.is_file() else None
