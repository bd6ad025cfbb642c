"""What can go wrong below the Messages API. These errors do not leave ``provider``."""

from __future__ import annotations


def reason_of(error: Exception) -> str:
    """What an error of the system says, never nothing."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class HttpError(Exception):
    """Base of the transport's errors; the text says what happened, in a few words."""


class ConnectFailedError(HttpError):
    """No connection came about: nothing of the request was sent."""


class UntrustedServerError(ConnectFailedError):
    """The server's certificate is not trusted, or is that of another host."""


class SilentServerError(HttpError):
    """The server sent nothing for too long."""


class BrokenConnectionError(HttpError):
    """The connection ended, or carried something that is no HTTP, before the response was whole."""
