"""`tussah key`: what other programs must show to use this node."""

from scripts.cli.common import PLAIN, Common, give, out


def api(*, common: Common = PLAIN) -> int:
    """Print the key of the local API, which OpenAI's clients take: keep it as a password.

    It is made when it is first needed, and stays until its file is removed and the node restarted.
    """
    home = common.home
    home.prepare()
    key = home.api_secret()
    if common.as_json:
        give({"schema": "tussah/key/1", "key": key, "file": str(home.api_key)})
    else:
        out(f"{key}\n")
    return 0
