"""Which proxy a request goes through, as the usual variables of the environment say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxies:
    """``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``; lower case goes before upper case.

    An upper-case ``HTTP_PROXY`` is not read where ``REQUEST_METHOD`` is set: in a CGI script it comes from the
    request of whoever called (CVE-2016-5385).
    """

    # Proxy URL by the scheme of the target, and for every scheme.
    http: str | None = field(default=None, repr=False)
    https: str | None = field(default=None, repr=False)
    all: str | None = field(default=None, repr=False)
    # Hosts that are reached directly.
    excluded: tuple[str, ...] = ()

    def url_for(self, scheme: str, host: str, port: int) -> str | None:
        """The proxy for a target, or None for a direct connection."""
        proxy = (self.https if scheme == "https" else self.http) or self.all
        return None if proxy is None or self._is_excluded(host, port) else proxy

    def _is_excluded(self, host: str, port: int) -> bool:
        return any(_matches(entry, host.lower(), port) for entry in self.excluded)


def read_proxies(variables: Mapping[str, str]) -> Proxies:
    """The proxies that ``variables`` name; an empty one counts as unset."""

    def value(name: str) -> str | None:
        upper = (
            None
            if name == "http_proxy" and "REQUEST_METHOD" in variables
            else variables.get(name.upper())
        )
        return variables.get(name) or upper or None

    excluded = (value("no_proxy") or "").split(",")
    return Proxies(
        http=value("http_proxy"),
        https=value("https_proxy"),
        all=value("all_proxy"),
        excluded=tuple(entry.strip().lower() for entry in excluded if entry.strip()),
    )


def _matches(entry: str, host: str, port: int) -> bool:
    """Whether an entry of NO_PROXY covers the host: ``*``, a host or a domain with its subdomains, an address, a net."""
    if entry == "*":
        return True
    if "/" in entry:
        return _in_network(entry, host)
    # The colons of an IPv6 address are its own; a port can only follow its bracket.
    has_port = entry.count(":") == 1 or "]:" in entry
    name, _, wanted_port = entry.rpartition(":") if has_port else (entry, "", "")
    if wanted_port and wanted_port != str(port):
        return False
    name = name.strip("[]").removeprefix("*").lstrip(".")
    return host == name or host.endswith("." + name)


def _in_network(entry: str, host: str) -> bool:
    from ipaddress import ip_address, ip_network  # noqa: PLC0415 - few environments have such an entry

    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except ValueError:
        return False
