"""What no log and no report to others may hold, and how it is taken out. Standard library only."""

import ipaddress
import re
from typing import Final

SECRETS: Final = frozenset(
    (
        *("prompt", "question", "message", "messages", "content", "body", "text", "token"),
        *("answer", "completion", "key", "secret", "seed", "passphrase", "credit", "authorization"),
    )
)
"""Keys whose values are never shown, whatever they are."""

HIDDEN: Final = "[hidden]"

IPV4: Final = re.compile(r"\b(\d{1,3}\.\d{1,3})\.\d{1,3}\.\d{1,3}\b")
IPV6: Final = re.compile(r"(?i)(?<![\w:])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?!\w)")
LONG_HEX: Final = re.compile(r"(?i)(?<![0-9a-z])([0-9a-f]{8})[0-9a-f]{24,}(?![0-9a-z])")
LONG_BASE64: Final = re.compile(
    r"(?<![\w+-])(?=[\w+-]*[0-9])(?=[\w+-]*[A-Z])(?=[\w+-]*[a-z])[\w+-]{40,}"
)


def scrub(text: str) -> str:
    """Text with addresses cut to /16 or /32, ids to eight digits, and long secrets hidden."""
    text = IPV4.sub(r"\1.*.*", text)
    text = IPV6.sub(_cut_ipv6, text)
    text = LONG_HEX.sub(r"\1…", text)
    return LONG_BASE64.sub(HIDDEN, text)


def _cut_ipv6(found: re.Match[str]) -> str:
    """The first 32 bits of an address; other words with colons (times) stay as they are."""
    try:
        groups = ipaddress.IPv6Address(found[0].rstrip(":") or "::").exploded.split(":")
    except ValueError:
        return found[0]
    return f"{groups[0]}:{groups[1]}:*"
