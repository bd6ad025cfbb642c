"""Through an HTTP proxy: what is asked of it, and how it is told who asks."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from claude_force.domain.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy."""

    host: str
    port: int
    # The value of Proxy-Authorization, where the URL has a user.
    authorization: str | None = field(default=None, repr=False)


def parse_proxy(url: str) -> Proxy:
    """The proxy that ``url`` names; without a scheme it is ``http``.

    Raises:
        ConfigError: another kind of proxy, or no URL.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if not host or parts.scheme != "http":
        raise ConfigError(
            f"The proxy of the environment (HTTPS_PROXY, HTTP_PROXY or ALL_PROXY) cannot be used: expected "
            f"http://host:port, found the scheme {parts.scheme!r}. Set NO_PROXY to go without it."
        )
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + b64encode(pair.encode()).decode("ascii")
    return Proxy(host, port or 80, authorization)
