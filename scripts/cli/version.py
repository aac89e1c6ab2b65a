"""`tussah version`: which program this is."""

from scripts import version as program
from scripts.cli.common import PLAIN, Common, give, out


def version(*, common: Common = PLAIN) -> int:
    """Show which program this is."""
    document = program.document()
    if common.as_json:
        give(document)
    else:
        out(f"tussah {document['version']} on Python {document['python']}\n")
    return 0
