"""What can go wrong, in the one form that people, programs and exit codes share.

Standard library only: the command line, the local API and the daemon all speak it. A message says
what happened and why; the advice says what to do next.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

Document: TypeAlias = Mapping[str, object]
"""A JSON object as it leaves the program."""

SCHEMA = "tussah/error/1"


class Code(NamedTuple):
    """What a failure means to a program: HTTP status, whether a repeat can help, exit status."""

    http: int
    retry: bool
    exit: int


CODES: Mapping[str, Code] = {
    "invalid_request": Code(400, False, 2),
    "context_length_exceeded": Code(400, False, 2),
    "free_network": Code(400, False, 2),
    "invalid_api_key": Code(401, False, 1),
    "insufficient_funds": Code(402, False, 5),
    "no_credits": Code(402, False, 5),
    "not_agreed": Code(402, False, 2),
    "price_above_cap": Code(402, False, 5),
    "forbidden": Code(403, False, 1),
    "wrong_passphrase": Code(403, False, 2),
    "forbidden_origin": Code(403, False, 1),
    "model_not_found": Code(404, False, 4),
    "not_found": Code(404, False, 4),
    "unsupported_endpoint": Code(404, False, 4),
    "method_not_allowed": Code(405, False, 2),
    "request_timeout": Code(408, True, 1),
    "request_too_large": Code(413, False, 2),
    "wallet_locked": Code(423, False, 2),
    "busy": Code(429, True, 4),
    "head_too_large": Code(431, False, 2),
    "cancelled": Code(499, False, 130),
    "internal": Code(500, False, 1),
    "worker_lost": Code(502, False, 4),
    "circuit_lost": Code(502, False, 4),
    "joining_network": Code(503, True, 4),
    "no_worker": Code(503, False, 4),
    "all_refused": Code(503, False, 4),
    "no_path": Code(503, False, 4),
    "mint_unreachable": Code(503, True, 4),
    "chain_unreachable": Code(503, True, 4),
    "dht_unreachable": Code(503, True, 4),
    "stopping": Code(503, False, 4),
    "deadline": Code(504, False, 124),
    # the command line's own: they never travel over HTTP
    "usage": Code(400, False, 2),
    "invalid_setting": Code(400, False, 2),
    "no_network": Code(400, False, 2),
    "invalid_invite": Code(400, False, 2),
    "not_running": Code(503, False, 3),
    "already_running": Code(409, False, 1),
    "address_in_use": Code(409, False, 1),
    "unsafe_home": Code(500, False, 1),
    "other_version": Code(500, False, 1),
    "failed": Code(500, False, 1),
    "interrupted": Code(500, False, 130),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failure: `code` is a key of `CODES`."""

    code: str
    message: str
    advice: str = ""
    param: str | None = None
    """The request's field or the option at fault, where there is one."""
    cost: Document | None = None
    """What a request that was to be paid for has cost, as in the `ask` document, without prices."""

    @property
    def meaning(self) -> Code:
        """What programs do with it; a code of a newer node counts as `internal`."""
        return CODES.get(self.code, CODES["internal"])

    def document(self, request_id: str | None = None) -> Document:
        """The JSON error, of the control API and of `--json` alike."""
        error = {
            "code": self.code,
            "message": self.message,
            "advice": self.advice,
            "param": self.param,
            "request_id": request_id,
            "cost": self.cost,
        }
        return {"schema": SCHEMA, "error": error, "exit": self.meaning.exit}

    def __str__(self) -> str:
        return f"{self.message} {self.advice}".strip()


class Failed(Exception):  # noqa: N818 - a failure said aloud, not an error of the code
    """Ends a command or request with a `Failure`; whoever started it reports that."""

    def __init__(
        self,
        code: str,
        message: str,
        advice: str = "",
        param: str | None = None,
        cost: Document | None = None,
    ) -> None:
        self.failure = Failure(code=code, message=message, advice=advice, param=param, cost=cost)
        super().__init__(str(self.failure))


def parse(document: object) -> Failure:
    """The failure in a JSON error that another process wrote."""
    error = document.get("error") if isinstance(document, Mapping) else None
    if not isinstance(error, Mapping):
        return Failure(
            code="internal", message="The node gave an answer that is no error document."
        )
    return Failure(
        code=str(error.get("code")),
        message=str(error.get("message")),
        advice=str(error.get("advice") or ""),
        param=str(error["param"]) if error.get("param") else None,
        cost=cost if isinstance(cost := error.get("cost"), Mapping) else None,
    )


def suggestion(name: str, known: list[str]) -> str:
    """`Did you mean …?` for a mistyped name, or nothing."""
    from difflib import get_close_matches  # nobody mistypes every time

    near = get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]}?" if near else ""


def unwrap(error: BaseException) -> BaseException:
    """What went wrong, out of the groups that nurseries wrap it in; a group of several stays."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
