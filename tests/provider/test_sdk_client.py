"""What only the client over the SDK does: whose client it takes, and which of its errors get out (none)."""

from __future__ import annotations

import builtins
import inspect
import sys
from typing import Any

import pytest

from claude_force.domain.errors import (
    CallError,
    ConfigError,
    OptionalDependencyError,
    TransportError,
)
from claude_force.provider.sdk import AnthropicSdkClient
from claude_force.simulator import Simulator


def _foreign_errors() -> list[type[Exception]]:
    """Every exception class of the SDK and of the HTTP library below it."""
    import anthropic
    import httpcore2
    import httpx2

    modules = [httpx2, httpcore2, anthropic]
    return sorted(
        {
            value
            for module in modules
            for _, value in inspect.getmembers(module, inspect.isclass)
            if issubclass(value, Exception) and not issubclass(value, Warning)
        },
        key=lambda error: f"{error.__module__}.{error.__qualname__}",
    )


def _instance(error: type[Exception]) -> Exception:
    """One of the class, made without its constructor where that asks for more than a text."""
    try:
        return error("it broke")
    except TypeError:
        made = error.__new__(error)
        Exception.__init__(made, "it broke")
        return made


def _response_to(error: Exception) -> Any:
    import httpx2

    request = httpx2.Request("POST", "http://127.0.0.1/v1/messages")
    for name, value in (
        ("request", request),
        ("response", httpx2.Response(500, request=request)),
        ("status_code", 500),
        ("body", None),
        ("message", "it broke"),
        ("_request", request),
    ):
        try:
            setattr(error, name, value)
        except AttributeError:
            continue
    return error


def test_no_error_of_the_sdk_or_of_its_http_library_gets_out(lab: Any) -> None:
    """Every class, raised before the response and inside its body."""
    import anthropic
    import httpx2

    class Body(httpx2.AsyncByteStream):
        def __init__(self, error: Exception) -> None:
            self._error = error

        async def __aiter__(self) -> Any:
            yield lab.events(lab.START)
            raise self._error

    class Transport(httpx2.AsyncBaseTransport):
        def __init__(self, error: Exception, *, in_body: bool) -> None:
            self._error, self._in_body = error, in_body

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            if not self._in_body:
                raise self._error
            headers = {"content-type": "text/event-stream", "request-id": "req_1"}
            return httpx2.Response(200, headers=headers, stream=Body(self._error))

    async def main() -> None:
        seen = 0
        for error_class in _foreign_errors():
            for in_body in (False, True):
                error = _response_to(_instance(error_class))
                http = httpx2.AsyncClient(transport=Transport(error, in_body=in_body))
                async with anthropic.AsyncAnthropic(
                    api_key=lab.key, base_url="http://127.0.0.1", http_client=http
                ) as theirs:
                    client = AnthropicSdkClient(theirs)
                    with pytest.raises(CallError) as caught:
                        await client.send(lab.request())
                assert bool(caught.value.usages) == in_body, error_class
                seen += 1
        assert seen > 80

    lab.run(main())


def test_client_of_the_caller_stays_open(lab: Any) -> None:
    import anthropic

    async def main() -> None:
        async with (
            Simulator() as sim,
            anthropic.AsyncAnthropic(api_key=lab.key, base_url=sim.base_url) as theirs,
        ):
            client = AnthropicSdkClient(theirs)
            assert (await client.send(lab.request())).complete
            await client.aclose()
            assert not theirs.is_closed()

    lab.run(main())


def test_client_made_here_sends_the_key_once_and_is_closed_here(lab: Any) -> None:
    async def main() -> None:
        async with Simulator(required_api_key=lab.key) as sim:
            client = AnthropicSdkClient(api_key=lab.key, base_url=sim.base_url)
            assert (await client.send(lab.request())).complete
            await client.aclose()
            assert sim.stats.requests == 1

    lab.run(main())


@pytest.mark.parametrize("what", ["blocking", "nothing of it"])
def test_client_of_another_kind_is_refused(lab: Any, what: str) -> None:
    import anthropic

    given: Any = anthropic.Anthropic(api_key=lab.key) if what == "blocking" else object()
    with pytest.raises(ConfigError, match="not an asynchronous client of the anthropic package"):
        AnthropicSdkClient(given)
    if what == "blocking":
        given.close()


@pytest.mark.parametrize("bad", ["sk-secret\n", "sk secret", "sk-sécret"])
def test_key_that_cannot_be_a_header_is_refused_and_not_shown(bad: str) -> None:
    with pytest.raises(ConfigError) as caught:
        AnthropicSdkClient(api_key=bad)
    assert bad.strip() not in str(caught.value)


def test_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "anthropic":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.delitem(sys.modules, "anthropic", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(OptionalDependencyError, match=r"pip install 'claude-force\[sdk\]'"):
        AnthropicSdkClient(api_key="k")


def test_error_without_a_text_is_named_by_its_class(lab: Any) -> None:
    import anthropic
    import httpx2

    class Transport(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            return httpx2.Response(
                200, headers={"content-type": "text/event-stream"}, stream=Broken()
            )

    class Broken(httpx2.AsyncByteStream):
        async def __aiter__(self) -> Any:
            for piece in (lab.events(lab.START), None):
                if piece is None:
                    raise httpx2.ReadError("")
                yield piece

    async def main() -> None:
        async with anthropic.AsyncAnthropic(
            api_key=lab.key, http_client=httpx2.AsyncClient(transport=Transport())
        ) as theirs:
            with pytest.raises(TransportError, match=r"\(ReadError\)"):
                await AnthropicSdkClient(theirs).send(lab.request())

    lab.run(main())
