"""A client that tells the worker its own id, in front of the question."""

import sys
from dataclasses import replace

from inference.engine.base import ChatMessage
from scripts.node import asks
from scripts.party import main

asked = asks.asker.ask


def ask(request, node, policy):
    """As the real one, with a message that names the asker."""
    named = ChatMessage(role="system", content=f"I am {node.id.hex()}")
    return asked(replace(request, messages=(named, *request.messages)), node, policy)


if __name__ == "__main__":
    asks.asker.ask = ask
    sys.exit(main())
