"""What all tests share."""

import gc
import signal
import sys

import structlog
from hypothesis import settings

# Two cores are shared by many workers: how long one example takes says nothing.
settings.register_profile("tussah", deadline=None, max_examples=25)
settings.register_profile("long", deadline=None, max_examples=1_000)
settings.load_profile("tussah")

# Standard output and error are a test's own: the log of a node in the same process stays out of
# what a command prints.
structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.__stderr__))

# A shell's background job ignores SIGINT, and so would every process that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    """What has been imported and collected stays: the collector need not look through it again.

    Nor so often through the rest: a tenth of all processor time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
