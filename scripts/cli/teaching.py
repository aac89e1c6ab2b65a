"""How the help of a command looks: what it does first, then each option with its words below it.

The parser's own plain help wraps lines twice, and leaves what an option means in the same column as
its name.
"""

import shutil
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

WIDEST: Final = 100
"""columns: longer lines are tiring to read"""


@final
class Teaching:
    """A help formatter, as the parser calls it."""

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: "HelpPanel") -> None:
        """Print a panel: arguments, options or commands."""
        if panel.entries:
            lines = [f"{panel.title}:"]
            for entry in panel.entries:
                lines += _entry(entry)
            _print(console, "\n".join(lines))

    def render_usage(self, console: "Console", options: "ConsoleOptions", usage: object) -> None:
        """Print the usage line."""
        text = _plain(usage)
        _print(console, text if text.startswith("Usage:") else f"Usage: {text}")

    def render_description(
        self, console: "Console", options: "ConsoleOptions", description: object
    ) -> None:
        """Print what the command does."""
        if text := _plain(description):
            _print(console, "\n".join(_reflowed(text)))


def _entry(entry: "HelpEntry") -> Iterator[str]:
    yield f"  {', '.join(entry.display_labels_with_metavar)}"
    words = [_plain(entry.description)]
    if entry.choices:
        words.append(f"One of {', '.join(entry.choices)}.")
    if entry.default:
        words.append(f"Default: {_plain(entry.default)}.")
    yield from _wrapped(" ".join(word for word in words if word), "      ")


def _reflowed(text: str) -> Iterator[str]:
    """Paragraphs wrapped anew; a line that is indented stays as it is."""
    paragraph: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line.strip() and not line.startswith(" "):
            paragraph.append(line)
            continue
        yield from _wrapped(" ".join(paragraph), "")
        paragraph = []
        yield line


def _wrapped(text: str, indent: str) -> list[str]:
    width = min(WIDEST, shutil.get_terminal_size().columns) - 1
    return textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _plain(text: object) -> str:
    """The words alone of what the parser would have drawn."""
    inner = getattr(text, "primary_renderable", text)
    return str(getattr(inner, "plain", inner) or "").strip()


def _print(console: "Console", text: str) -> None:
    console.print(text.rstrip() + "\n", highlight=False, markup=False, soft_wrap=True)
