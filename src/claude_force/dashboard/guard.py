"""Who is let in: pages of this machine's own browser, and changes only with the token."""

from __future__ import annotations

import hmac
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, quote, urlencode

from claude_force.domain.loopback import own_hosts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from claude_force.dashboard.stores import Stores

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

# The page's own scripts are written into it and compile its templates, hence the two "unsafe"; what counts is that
# nothing can be loaded from, or sent to, anywhere else.
_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'"
)
_HEADERS: Final = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Guard:
    """An ASGI application around another.

    A request whose Host is not this server on loopback is refused, which keeps out pages that point a name of theirs
    at this machine; so is one whose Origin is another page. ``?token=`` is taken out of the address and kept in a
    cookie that no script can read and no other site can have sent.

    Args:
        app: what is guarded.
        port: where it is served.
        token: what allows changes.
        once: codes that stand for the token in an address, each the first time; they are taken out when used.
        stores: handed to every page.
    """

    def __init__(self, app: App, *, port: int, token: str, once: set[str], stores: Stores) -> None:
        self._app = app
        self._stores = stores
        self._token = token.encode()
        self._once = once
        self._hosts = own_hosts(port)
        # A cookie belongs to a host whatever its port: two dashboards must not take it from each other.
        self._cookie = f"claude_force_dashboard_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or refuse it."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        if host not in self._hosts or (origin is not None and origin != f"http://{host}"):
            await _refuse(scope, send)
            return
        given = parse_qsl(scope["query_string"].decode("latin-1"))
        if scope["type"] == "http" and any(name == "token" for name, _ in given):
            await self._redirect(scope, send, given)
            return
        may_change = self._holds_token(headers.get(b"cookie", ""))
        scope["state"] = {
            **scope.get("state", {}),
            "stores": self._stores,
            "may_change": may_change,
        }
        await self._app(scope, receive, _with_headers(send))

    def _holds_token(self, cookies: str) -> bool:
        try:
            morsel = SimpleCookie(cookies).get(self._cookie)
        except CookieError:
            return False
        return morsel is not None and hmac.compare_digest(morsel.value.encode(), self._token)

    def _is_known(self, given: str) -> bool:
        if hmac.compare_digest(given.encode(), self._token):
            return True
        found = next(
            (code for code in self._once if hmac.compare_digest(given.encode(), code.encode())),
            None,
        )
        if found is None:
            return False
        self._once.discard(found)
        return True

    async def _redirect(self, scope: Scope, send: Send, given: list[tuple[str, str]]) -> None:
        """To the same address without the token, which is then in no history and no Referer."""
        rest = urlencode([(name, value) for name, value in given if name != "token"])
        # One slash: two would make it the address of another host.
        path = "/" + quote(scope["path"].lstrip("/\\"))
        headers = [(b"location", f"{path}?{rest}".rstrip("?").encode())]
        if self._is_known(next(value for name, value in given if name == "token")):
            cookie = f"{self._cookie}={self._token.decode()}; Path=/; HttpOnly; SameSite=Strict"
            headers.append((b"set-cookie", cookie.encode()))
        await _respond(send, 303, b"", headers)


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_HEADERS]
        await send(message)

    return sending


async def _refuse(scope: Scope, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    await _respond(send, 403, b"This server answers pages of this machine only.\n", [])


async def _respond(
    send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    own = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    await send(
        {"type": "http.response.start", "status": status, "headers": [*own, *headers, *_HEADERS]}
    )
    await send({"type": "http.response.body", "body": body})
