"""`tussah demo`: a whole network on this machine, for one question."""

from scripts.cli.common import PLAIN, Common
from scripts.cli.localchain import need_machine


def demo(
    question: str | None = None,
    /,
    *,
    processes: bool = False,
    keep: bool = False,
    free: bool = False,
    common: Common = PLAIN,
) -> int:
    """Start relays, workers and a client on this machine, ask, and show what each party saw.

    Parameters
    ----------
    question
        What to ask.
    processes
        Each party a process of its own. So it is always, for now.
    keep
        Let the network run until Ctrl-C.
    free
        Without chain and mint: the answer costs nothing.
    """
    if not free:
        need_machine("Or ask without paying: tussah demo --free")
    from scripts import demo as demonstration

    plan = demonstration.FREE if free else demonstration.PLAN
    return demonstration.main(question, as_json=common.as_json, keep=keep, plan=plan)
