"""What the directory tells whoever drives it."""

from dataclasses import dataclass

from p2p.overlay.advert import Evidence


@dataclass(frozen=True, slots=True)
class Joined:
    """The directory has been fetched for the first time."""


@dataclass(frozen=True, slots=True)
class DirectoryChanged:
    """A node came, went, or says something new of itself."""


@dataclass(frozen=True, slots=True)
class Published:
    """A directory server holds our advert of this seq."""

    seq: int


@dataclass(frozen=True, slots=True)
class SayAgain:
    """No directory server holds this advert of ours yet: broadcast it again."""

    advert: bytes


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A node signed two adverts with one seq."""

    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Split:
    """No two directory servers hold the same list: the last one serves until it is stale."""
