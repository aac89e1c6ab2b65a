"""Makes a worse file of a model: `python -m inference.engine.requantise SOURCE TARGET TYPE`.

For benchmarks of audits, which need cheats whose weights are known.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    from inference.engine.llama import requantise

    source, target, file_type = sys.argv[1:]
    sys.exit(0 if requantise(Path(source), Path(target), file_type) else 1)
