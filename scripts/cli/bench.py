"""`tussah bench`: ratios measured in one run, not figures to believe."""

from scripts.cli.common import PLAIN, Common
from scripts.cli.localchain import need_machine

CHAINED = ("all", "ledger", "path")
"""Benchmarks that run a chain."""


def bench(name: str = "all", /, *, quick: bool = False, common: Common = PLAIN) -> int:
    """Run a benchmark: adnl, api, audit, cli, ledger, onion, path or sim.

    Parameters
    ----------
    name
        Which one, or all.
    quick
        Half a minute for a look; the full run is the one to quote.
    """
    if name in CHAINED:
        need_machine()
    from scripts.bench import main

    return main.main(name, quick=quick, as_json=common.as_json)
