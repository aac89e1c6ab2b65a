"""A relay that writes to its log what it cannot help seeing: whom its links lead to."""

import sys

from scripts.networks import format_endpoint
from scripts.party import main
from scripts.recorder import Recorder


class Gossip(Recorder):
    """A recorder that also talks."""

    def meet(self, link, ours, theirs):
        super().meet(link, ours, theirs)
        sys.stderr.write(f"link with {link.peer.hex()} at {format_endpoint(theirs)}\n")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(recorder=Gossip()))
