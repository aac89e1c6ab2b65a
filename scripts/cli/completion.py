"""`tussah completion`: what a shell needs to finish commands and options."""

from typing import Literal

from scripts.cli.common import PLAIN, Common, give, out


def completion(shell: Literal["bash", "zsh", "fish"], /, *, common: Common = PLAIN) -> int:
    """Print the completion script of a shell.

    For bash, a line in ~/.bashrc:
      eval "$(tussah completion bash)"
    For zsh, once, where DIR is in $fpath before compinit runs:
      tussah completion zsh > DIR/_tussah
    For fish, once:
      tussah completion fish > ~/.config/fish/completions/tussah.fish

    Parameters
    ----------
    shell
        Which one.
    """
    from scripts.cli.main import build

    script = build().generate_completion(prog_name="tussah", shell=shell)
    if common.as_json:
        give({"schema": "tussah/completion/1", "shell": shell, "script": script})
    else:
        out(script)
    return 0
