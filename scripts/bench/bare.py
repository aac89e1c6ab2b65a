"""A bare decode loop in a process of its own: reads `streams length` a line, says the seconds.

Run as `python -m scripts.bench.bare MODEL STREAMS CONTEXT THREADS`; what the engine's benchmark is
held against, in the same configuration.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Final

from inference.engine.base import Failed, Plan

NICENESS: Final = 5
"""`inference.engine.child`'s"""

WORDS: Final = "Write down what you know of wild silk, moths and the number {}. " * 4


def main(path: Path, plan: Plan) -> int:
    """Answer lines on standard input until it ends."""
    from inference.engine.llama import LlamaDevice

    os.nice(NICENESS)  # as the engine's child: on a busy machine it decides who computes
    device = LlamaDevice.open(path, plan, lambda: False)
    if isinstance(device, Failed):
        return 1
    for line in sys.stdin:
        count, length = map(int, line.split())
        prompts = [device.vocabulary.tokenize(WORDS.format(n, n, n, n)) for n in range(count)]
        began = time.perf_counter()
        if not device.decode_bare(prompts, length):
            return 1
        sys.stdout.write(json.dumps(time.perf_counter() - began) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    streams, context, threads = map(int, sys.argv[2:])
    wanted = Plan(slots=streams, context=context, threads=threads)
    sys.exit(main(Path(sys.argv[1]), wanted))
