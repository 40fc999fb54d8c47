"""Errors that only a server has, and what each error is over HTTP.

UsageError ── NotFound (ModelNotFound), TooMany, Busy, Draining, Unauthorized, Forbidden, TooLarge, NotAPicture
"""

from __future__ import annotations

from agent.chat.journal import LogUnavailable
from redraft.errors import BackendError, InputError, UsageError


class NotFound(UsageError):  # noqa: N818
    """Nothing of that name, or nothing that is this client's: one answer for both."""


class ModelNotFound(NotFound):
    """No profile of this server has that name."""


class TooMany(UsageError):  # noqa: N818
    """The client has as many conversations or turns under way as it may have."""


class Busy(UsageError):  # noqa: N818
    """A turn is under way in this conversation."""


class Draining(UsageError):  # noqa: N818
    """The server is going down and takes nothing new."""


class Unauthorized(UsageError):  # noqa: N818
    """No token, or a wrong one."""


class Forbidden(UsageError):  # noqa: N818
    """Another site's page asks, or the Host is not ours."""


class TooLarge(UsageError):  # noqa: N818
    """A body above its bound."""


class NotAPicture(InputError):  # noqa: N818
    """An upload that is no picture of a known kind, or a damaged one."""


class TimedOut(UsageError):  # noqa: N818
    """A request took too long."""


KINDS: tuple[tuple[type[Exception], int, str, str], ...] = (
    (ModelNotFound, 404, "model_not_found", "invalid_request_error"),
    (NotFound, 404, "not_found", "invalid_request_error"),
    (TooMany, 429, "too_many", "rate_limit_error"),
    (Busy, 409, "busy", "invalid_request_error"),
    (Draining, 503, "draining", "server_error"),
    (TimedOut, 503, "timeout", "server_error"),
    (Unauthorized, 401, "unauthorized", "authentication_error"),
    (Forbidden, 403, "forbidden", "permission_error"),
    (TooLarge, 413, "too_large", "invalid_request_error"),
    (NotAPicture, 415, "not_a_picture", "invalid_request_error"),
    (UsageError, 400, "bad_input", "invalid_request_error"),
    (LogUnavailable, 503, "unavailable", "server_error"),
    (BackendError, 502, "backend_failed", "server_error"),
)


def kind_of(error: Exception) -> tuple[int, str, str]:
    """(status, code, type) of an error of ours; 500 for any other."""
    return next(((status, code, of) for cls, status, code, of in KINDS if isinstance(error, cls)), UNKNOWN)


UNKNOWN = (500, "internal", "server_error")
