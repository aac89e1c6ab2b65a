"""What happens in a DHT node, counted."""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import TypeAlias, final


class Count(Enum):
    """What is counted."""

    ASKED = "asked"
    """queries of ours"""
    UNANSWERED = "unanswered"
    """those that nobody answered, or with an error"""
    ANSWERED = "answered"
    """queries of others that we answered"""
    LIMITED = "limited"
    """those not answered because their peer asks too much"""
    UNSERVED = "unserved"
    """those not answered because they are not for us: we are a client, or it is no DHT query"""
    REFUSED = "refused"
    """values not stored because they break a rule"""
    FULL = "full"
    """values not stored because there is no room"""
    STORED = "stored"
    """values of others that we keep or kept"""
    PASSED = "passed"
    """values of others that others keep: expired, or too far from us"""
    MALFORMED = "malformed"
    """queries and answers that are no TL"""
    BAD_RECORD = "bad_record"
    """records of nodes that break a rule, or of another network"""
    BAD_VALUE = "bad_value"
    """values given to us as an answer, or to publish, that break a rule, or are another key's"""
    LOOKUPS = "lookups"
    FOUND = "found"
    """lookups of a value that found it"""
    MISSING = "missing"
    """lookups of a value that found none"""
    REPUBLISHED = "republished"
    """values of others that we stored again"""


Snapshot: TypeAlias = Mapping[Count, int]


@final
class Counts:
    """The counters of one node."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(Count, 0)

    def add(self, what: Count, number: int = 1) -> None:
        """It happened."""
        self._counts[what] += number

    def snapshot(self) -> Snapshot:
        """All of them, as they are now."""
        return MappingProxyType(dict(self._counts))
