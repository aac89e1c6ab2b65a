"""A relay that writes to its log what it cannot help seeing: who speaks to it, and from where."""

import sys

from scripts.networks import format_endpoint
from scripts.party import main
from scripts.recorder import Recorder


class Gossip(Recorder):
    """A recorder that also talks."""

    def meet(self, link, ours, theirs):
        super().meet(link, ours, theirs)
        _tell(link.peer, theirs)

    def meet_udp(self, peer, ours, theirs):
        super().meet_udp(peer, ours, theirs)
        _tell(peer, theirs)


def _tell(peer, endpoint):
    sys.stderr.write(f"met {peer.hex()} at {format_endpoint(endpoint)}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(recorder=Gossip()))
