"""`tussah ask`: a question out, an answer in, and what it cost and revealed."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from scripts.api import client
from scripts.cli import answering
from scripts.cli.answering import USUAL, Manner
from scripts.cli.client import reach_or_start
from scripts.cli.common import PLAIN, Common, give
from scripts.failure import CODES, Failed


def ask(
    prompt: str | None = None,
    /,
    *,
    file: Annotated[str | None, Parameter(name=["--file", "-f"], allow_leading_hyphen=True)] = None,
    model: str | None = None,
    manner: Manner = USUAL,
    common: Common = PLAIN,
) -> int:
    """Ask a question; the answer is printed as it comes.

    Without a running node one is started that only asks.

    Parameters
    ----------
    prompt
        The question.
    file
        A file put below the question; - is standard input.
    model
        The model to ask; auto takes what most workers serve.
    """
    question = client.said("user", _question(prompt, file))
    body = client.conversation(
        [question], model=model, max_tokens=manner.max_tokens, tussah=manner.wish()
    )
    document = answering.ask(reach_or_start(common.home), body, common)
    if common.as_json:
        give(document)
    else:
        answering.finish(document)
    late = answering.LATE_FINISH.get(str(document["finish"]))
    return CODES[late].exit if late else 0


def _question(prompt: str | None, file: str | None) -> str:
    """The prompt, then the file, a blank line between them."""
    parts = [part for part in (prompt, _contents(file)) if part and not part.isspace()]
    if not parts:
        raise Failed(
            "usage",
            "There is nothing to ask.",
            'Give a question (tussah ask "..."), or a file (-f FILE, -f - for standard input).',
        )
    return "\n\n".join(parts)


def _contents(file: str | None) -> str | None:
    if file is None:
        return None
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"{file} cannot be read as text: {error}."
        raise Failed("usage", message, param="--file") from error
