"""Failures in OpenAI's shape. Its SDK repeats what fails unless told not to, and repeats cost."""

import json
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from scripts.failure import Document, Failed, Failure

RETRY_AFTER: Final = b"2"
"""seconds, where trying again can help: a directory comes, a worker gets free."""

_TYPES: Final = {401: "authentication_error", 402: "insufficient_quota", 403: "permission_error"}


def document(failure: Failure) -> Document:
    """The error object of a failure, which says what to do as well."""
    status = failure.meaning.http
    other = "invalid_request_error" if status < 500 else "server_error"
    kind = "rate_limit_error" if status == 429 else _TYPES.get(status, other)
    error: dict[str, object] = {
        "message": str(failure),
        "type": kind,
        "param": failure.param,
        "code": failure.code,
    }
    return {"error": error} if failure.cost is None else {"error": error, "tussah": failure.cost}


def whole(
    status: int, failure: Failure, *, request_id: str | None
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body. A paid request must not be repeated by a library: it is always told."""
    body, retry = json.dumps(document(failure)).encode(), failure.meaning.retry
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-should-retry", b"true" if retry else b"false"),
    ]
    if retry:
        headers.append((b"retry-after", RETRY_AFTER))
    if request_id is not None:
        headers.append((b"x-request-id", request_id.encode()))
    return headers, body


def refusal(failure: Failure, request_id: str) -> Response:
    """As a response."""
    status = failure.meaning.http
    headers, body = whole(status, failure, request_id=request_id)
    response = Response(body, status_code=status)
    response.raw_headers = headers
    return response


async def failed(request: Request, error: Exception) -> Response:
    """What a route refused."""
    assert isinstance(error, Failed)
    return refusal(error.failure, request.state.request_id)


async def unknown(request: Request, error: Exception) -> Response:
    """A path or method that we do not have."""
    what = f"{request.method} {request.url.path}"
    message = f"This API has no {what}."
    advice = "Ask with POST /v1/chat/completions; GET /v1/models lists models."
    return refusal(
        Failure(code="unsupported_endpoint", message=message, advice=advice),
        request.state.request_id,
    )


async def broken(request: Request, error: Exception) -> Response:
    """A bug of ours; the server logs it with the same request id."""
    request_id = request.state.request_id
    advice = f"Its log has the reason under request_id {request_id}."
    failure = Failure(code="internal", message="The request failed in the node.", advice=advice)
    return refusal(failure, request_id)
