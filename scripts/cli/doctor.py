"""`tussah doctor`: what is well with this node, what is not, and what to do about it."""

import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, cast

from scripts import settings
from scripts.api import client
from scripts.cli import bundles
from scripts.cli.client import reach
from scripts.cli.common import PLAIN, Common, give, out, say
from scripts.cli.words import at_home
from scripts.cli.words import count as counted
from scripts.failure import Document, Failed
from scripts.home import Home

OK, WARN, FAIL = "ok", "warn", "fail"

DISK_FAIL, DISK_WARN = 50 * 2**20, 1 * 2**30
"""bytes free: what the stores need to go on, and what a model's download should leave."""

MUTE: Final = ("joining_network", "chain_unreachable")
"""Alerts that have a check of their own."""


class Finding(NamedTuple):
    """The outcome of one check."""

    check: str
    state: str
    message: str
    advice: str | None = None


def doctor(*, offline: bool = False, bundle: str | None = None, common: Common = PLAIN) -> int:
    """Check this node and say what to do. Exits with 1 if something must be done.

    Parameters
    ----------
    offline
        Only what can be seen without a running node.
    bundle
        Write a zip file for who helps you: these findings, status, settings, the log's end and
        versions, without keys, whole addresses, prompts or answers. Nothing is sent anywhere.
    """
    home = common.home
    found = (*_home(home), *_settings(home), *_identity(home), *(() if offline else _node(home)))
    findings = [_here(finding, home) for finding in found]
    is_well = all(finding.state != FAIL for finding in findings)
    document: Document = {
        "schema": "tussah/doctor/1",
        "healthy": is_well,
        "checks": [finding._asdict() for finding in findings],
        "bundle": bundle,
    }
    written = [] if bundle is None else bundles.write(Path(bundle), home, document)
    if common.as_json:
        give(document)
    else:
        for finding in findings:
            out(f"{finding.state:<4}  {finding.message} {finding.advice or ''}".rstrip() + "\n")
    if written:
        say(f"Wrote {bundle}: {', '.join(written)}. Look into it before you give it to anybody.")
    return 0 if is_well else 1


def _here(finding: Finding, home: Home) -> Finding:
    """With advice that can be typed as it stands."""
    advice = finding.advice
    return finding._replace(advice=None if advice is None else at_home(advice, home.path))


def _home(home: Home) -> Iterator[Finding]:
    """What can be seen of the home without the node."""
    if not home.path.is_dir():
        yield Finding("home", OK, f"{home.path} does not exist yet; the first start makes it.")
        return
    if home.path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        shut = f"Close it: chmod 700 {home.path}"
        yield Finding("home", FAIL, f"Others on this machine may enter {home.path}.", shut)
    else:
        yield Finding("home", OK, f"Only its owner may enter {home.path}.")
    free = shutil.disk_usage(home.path).free
    state = FAIL if free < DISK_FAIL else WARN if free < DISK_WARN else OK
    advice = None if state == OK else "Make room: a full disk stops payments and downloads."
    yield Finding("disk", state, f"{free / 2**30:.1f} GiB are free for it.", advice)


def _settings(home: Home) -> Iterator[Finding]:
    try:
        _, origins = settings.load(flags={}, environ=os.environ, file=home.config)
    except Failed as failed:
        yield Finding("settings", FAIL, failed.failure.message, failed.failure.advice or None)
        return
    changed = sum(origin != "default" for origin in origins.values())
    yield Finding("settings", OK, f"They can be used; {changed} differ from their defaults.")


def _identity(home: Home) -> Iterator[Finding]:
    try:
        seed = home.seed()
    except (Failed, OSError) as error:
        advice = error.failure.advice if isinstance(error, Failed) else None
        yield Finding("identity", FAIL, f"Its key cannot be read: {error}", advice)
        return
    told = "Its key is there" if seed else "It has no key yet; a start with a role makes one"
    yield Finding("identity", OK, f"{told}.")


def _node(home: Home) -> Iterator[Finding]:
    try:
        status = client.call(reach(home), "GET", "/status")
    except Failed as failed:
        failure = failed.failure
        yield Finding("node", FAIL, failure.message, failure.advice)
        return
    yield Finding("node", OK, f"It runs, version {status['version']}.")
    yield from examine(status)


def examine(status: Document) -> Iterator[Finding]:
    """What a `status` document says of a running node."""
    node, alerts = _map(status["node"]), [_map(alert) for alert in _list(status["alerts"])]
    told = {str(alert["code"]): alert for alert in alerts}
    yield _joined(_map(status["network"]), told)
    yield from _reached(_map(status["reach"]), bool(node["roles"]))
    if node["chain"] is not None:
        late = told.get("chain_unreachable")
        yield (
            Finding("chain", OK, f"No trouble with the chain {node['chain']}.")
            if late is None
            else Finding("chain", FAIL, str(late["message"]), str(late["advice"]))
        )
    for code, alert in told.items():
        if code not in MUTE:
            yield Finding(code, WARN, str(alert["message"]), str(alert["advice"]))


def _joined(network: Mapping[str, object], told: Mapping[str, Mapping[str, object]]) -> Finding:
    if network["joined"]:
        return _listed(
            cast("int", network["directory_count"]), cast("int", network["directory_live"])
        )
    late = told.get("joining_network")
    if late is not None:
        return Finding("network", FAIL, str(late["message"]), str(late["advice"]))
    return Finding("network", WARN, "It has no list of nodes yet.", "Wait some seconds.")


def _listed(count: int, live: int) -> Finding:
    if live == count:
        return Finding("network", OK, f"It lists {counted(count, 'node')}.")
    advice = (
        "An ask that meets one fails, or takes longer; `tussah peers` shows who was heard when."
    )
    silent = f"It lists {counted(count, 'node')}, {count - live} of which have been silent of late."
    return Finding("network", WARN, silent, advice)


def _reached(reached: Mapping[str, object], has_roles: bool) -> Iterator[Finding]:
    if not has_roles:
        yield Finding("reach", OK, "It only asks: nobody needs to reach it.")
        return
    relays, transports = len(_list(reached["attachments"])), _list(reached["transports"])
    if not transports and not relays and reached["mode"] != "outbound":
        yield Finding("reach", OK, "Nobody has tried to reach it: on one machine nobody need.")
    for transport in map(_map, transports):
        name = str(transport["transport"])
        yield _transport(f"reach.{name}", name.upper(), transport, bool(relays))
    if relays:
        yield Finding("attachments", OK, f"Circuits reach it over links to {relays} relays.")
    elif reached["mode"] == "outbound":
        advice = reached["advice"]
        yield Finding(
            "attachments", FAIL, "Nobody can reach it.", None if advice is None else str(advice)
        )


def _transport(
    check: str, name: str, transport: Mapping[str, object], is_attached: bool
) -> Finding:
    reason = str(transport["reason"])
    match transport["dialable"]:
        case "yes":
            return Finding(check, OK, f"Others can reach it over {name}: {transport['endpoint']}.")
        case "no":
            state = WARN if is_attached else FAIL
            return Finding(check, state, f"Others cannot reach it over {name}: {reason}.")
        case _:
            return Finding(check, WARN, f"Whether others reach it over {name} is open: {reason}.")


def _map(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value)


def _list(value: object) -> Sequence[object]:
    return cast("Sequence[object]", value)
