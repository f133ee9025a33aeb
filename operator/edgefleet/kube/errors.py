"""What an API server, or the way to it, can answer instead of what was asked for.

    ApiError                    anything below
    ├── Unreachable             no answer: connection, TLS, timeout           try again
    ├── TooMany                 429 or 503 with Retry-After: busy             try again after `retry_after`
    ├── ServerError             5xx                                           try again
    ├── Unauthorized            401: the credential is not (or no longer) valid
    ├── Forbidden               403: valid credential, no right
    ├── NotFound                404: no such object, namespace or kind
    ├── Conflict                409: resourceVersion or uid differ            read again, decide again
    │   └── AlreadyExists       409: a create met an object of that name
    ├── Gone                    410: resourceVersion too old                  list again
    └── Invalid                 400, 405, 413, 415, 422: never right by itself

A refused write never means that something was partly written.
"""

# ruff: noqa: N818  the names say what came back; the tree above says they are errors
from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """The API server did not do what was asked. `message` says what was asked and what came back."""

    expected = True
    """Its message says all; a traceback would say nothing more."""
    retry_after: float | None = None
    """Seconds the server asked to wait."""

    def __init__(self, message: str, *, code: int = 0, reason: str = "", details: object = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        """HTTP status; 0 without an answer."""
        self.reason = reason
        """Reason of the `Status` object, e.g. `AlreadyExists`."""
        self.details = details


class Unreachable(ApiError):
    """No answer: name, connection, TLS or time. Whether a write arrived is not known."""


class TooMany(ApiError):
    """The server is busy and says how long to wait."""


class ServerError(ApiError):
    """The server failed."""


class Unauthorized(ApiError):
    """The credential is not valid."""


class Forbidden(ApiError):
    """The credential lacks the right."""


class NotFound(ApiError):
    """No such object, namespace or kind."""


class Conflict(ApiError):
    """The object is not the one that was seen."""


class AlreadyExists(Conflict):
    """A create met an object of that name."""


class Gone(ApiError):
    """The resource version is too old: list again."""


class Invalid(ApiError):
    """The request can never succeed as it is."""


_BY_CODE: Mapping[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    429: TooMany,
}
_DEFAULT_RETRY_AFTER = 1.0


def from_status(what: str, code: int, status: Any, retry_after: str | None = None) -> ApiError:
    """Turn an answer of HTTP status `code` with a `Status` object (or anything else) into an error."""
    body: Mapping[str, Any] = status if isinstance(status, Mapping) else {}
    reason = str(body.get("reason") or "")
    message = _shortened(f"{what}: {code} {reason}: {body.get('message') or status}")
    kind = _BY_CODE.get(code) or (ServerError if code >= 500 else Invalid)
    if code == 409 and reason == "AlreadyExists":
        kind = AlreadyExists
    if code == 422 and _fields(body) == {"metadata.uid"}:  # a patch that names another uid
        kind = Conflict
    if code == 503 and retry_after:
        kind = TooMany
    error = kind(message, code=code, reason=reason, details=body.get("details"))
    if kind is TooMany:
        error.retry_after = _seconds(retry_after)
    return error


def _shortened(message: str, most: int = 2000) -> str:
    """Cut the middle out: a refused patch is quoted in full, and only then comes what is wrong with it."""
    if len(message) <= most:
        return message
    return f"{message[: most // 4]} … {message[-(most * 3 // 4) :]}"


def _fields(status: Mapping[str, Any]) -> set[str]:
    causes = (status.get("details") or {}).get("causes") or ()
    return {str(cause.get("field") or "") for cause in causes}


def _seconds(text: str | None) -> float:
    try:
        return max(0.0, float(text or ""))
    except ValueError:  # a date, or nothing
        return _DEFAULT_RETRY_AFTER
