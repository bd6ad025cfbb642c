"""Where requests go, and the bytes of their heads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from claude_force.domain.errors import ConfigError
from claude_force.provider.http.proxy import Proxy, parse_proxy

if TYPE_CHECKING:
    from claude_force.config.proxies import Proxies

_DEFAULT_PORTS = {"http": 80, "https": 443}
# What may hold a secret: the user in front of the host, and all behind the path.
_USER = re.compile(r"//[^/]*@")
_QUERY = re.compile(r"[?#].*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One address of the API: scheme, host, port and the path before ``/v1``."""

    scheme: str
    host: str
    port: int
    path: str
    proxy: Proxy | None = None

    @property
    def origin(self) -> str:
        """Scheme, host and port, as the Host header and messages show them."""
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """Host, and the port where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def head(self, method: str, path: str, headers: str) -> str:
        """Request line and Host header in front of ``headers``, up to the place of Content-Length."""
        through_proxy = self.proxy is not None and self.scheme == "http"
        where = f"{self.origin}{self.path}{path}" if through_proxy else f"{self.path}{path}"
        proxy_line = ""
        if through_proxy and self.proxy is not None and self.proxy.authorization:
            proxy_line = f"proxy-authorization: {self.proxy.authorization}\r\n"
        return f"{method} {where} HTTP/1.1\r\nhost: {self.authority}\r\n{proxy_line}{headers}"


def parse_target(base_url: str, proxies: Proxies) -> Target:
    """The target that a base URL names; an ending ``/v1`` is taken off, since paths begin with it.

    Raises:
        ConfigError: no ``http`` or ``https`` URL, or one with a user, a query or a fragment.
    """
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    plain = base_url.isascii() and base_url.isprintable() and " " not in base_url
    if (
        parts.scheme not in _DEFAULT_PORTS
        or not host
        or not plain
        or not _is_host(host)
        or port == 0
        or "@" in parts.netloc
        or parts.query
        or parts.fragment
    ):
        raise ConfigError(
            f"The base URL {_shown(base_url)!r} cannot be used: expected something like https://api.anthropic.com, "
            "without user, query or fragment."
        )
    port = port or _DEFAULT_PORTS[parts.scheme]
    proxy_url = proxies.url_for(parts.scheme, host, port)
    return Target(
        scheme=parts.scheme,
        host=host,
        port=port,
        path=parts.path.rstrip("/").removesuffix("/v1"),
        proxy=parse_proxy(proxy_url) if proxy_url else None,
    )


def _is_host(host: str) -> bool:
    """Whether it can be looked up: labels of 1 to 63 characters, or an address."""
    return all(0 < len(label) < 64 for label in host.removesuffix(".").split("."))


def _shown(base_url: str) -> str:
    return _QUERY.sub("?…", _USER.sub("//…@", base_url))
