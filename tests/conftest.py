"""What all tests share."""

import sys

import structlog
from hypothesis import settings

# Two cores are shared by many workers: how long one example takes says nothing.
settings.register_profile("tussah", deadline=None)
settings.load_profile("tussah")

# Standard output is a test's own; the standard error of the moment takes the log.
structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
