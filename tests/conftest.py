"""What all tests share."""

from hypothesis import settings

# Two cores are shared by many workers: how long one example takes says nothing.
settings.register_profile("tussah", deadline=None)
settings.load_profile("tussah")
