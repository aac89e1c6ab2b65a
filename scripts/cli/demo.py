"""`tussah demo`: a whole network on this machine, for one question."""

from scripts.cli.common import PLAIN, Common


def demo(
    question: str | None = None,
    /,
    *,
    processes: bool = False,
    keep: bool = False,
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
    """
    from scripts import demo as demonstration

    return demonstration.main(question, as_json=common.as_json, keep=keep)
