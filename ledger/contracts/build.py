"""Compiles `lane.fc` to `lane.boc`: `python -m ledger.contracts.build`.

FunC and Fift come in the wheel of tonpy. Nodes read the compiled code and need no compiler; a test
compiles it again and compares.
"""

from base64 import b64decode
from collections.abc import Sequence
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
SOURCES: Final = (HERE / "prelude.fc", HERE / "lane.fc")
OUTPUT: Final = HERE / "lane.boc"

_DICTIONARY: Final = "}END>c"
"""How FunC ends a program: its procedures in a dictionary, and instructions that look them up."""
_MAIN: Final = '}END 0 swap 19 idict@ not abort"no main" s>c'
"""How we do: `main` is all that is left once the others are inlined, and is the program."""


def compiled(sources: Sequence[Path] = SOURCES) -> bytes:
    """The code of FunC sources, read in this order, as a bag of cells.

    Raises `RuntimeError` with the compiler's words if they are no program.
    """
    from tonpy.fift.fift import convert_assembler
    from tonpy.libs.python_ton import func_to_asm

    assembly = func_to_asm([str(source.resolve()) for source in sources])
    return b64decode(convert_assembler(assembly.replace(_DICTIONARY, _MAIN)).to_boc())


def main() -> None:
    """Write the compiled lane."""
    OUTPUT.write_bytes(compiled())


if __name__ == "__main__":
    main()
