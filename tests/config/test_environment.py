"""What the environment says, and which variable goes before which."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_force.config.environment import read_environment
from claude_force.config.proxies import Proxies, read_proxies
from claude_force.domain.errors import ConfigError


def test_nothing_set_means_defaults_below_home() -> None:
    environment = read_environment({"HOME": "/home/ada"})
    assert (environment.api_key, environment.base_url, environment.cache_secret) == (None,) * 3
    assert environment.home == Path("/home/ada")
    assert environment.cache_home == Path("/home/ada/.cache/claude-force")
    assert environment.state_home == Path("/home/ada/.local/state/claude-force")
    assert environment.cwd == Path.cwd()
    assert environment.proxies == Proxies()


@pytest.mark.parametrize(
    ("variables", "key"),
    [
        ({"ANTHROPIC_API_KEY": "a"}, "a"),
        ({"ANTHROPIC_AUTH_TOKEN": "b"}, "b"),
        ({"ANTHROPIC_API_KEY": "a", "ANTHROPIC_AUTH_TOKEN": "b"}, "a"),
        ({"ANTHROPIC_API_KEY": "", "ANTHROPIC_AUTH_TOKEN": "b"}, "b"),
        ({"ANTHROPIC_API_KEY": "", "ANTHROPIC_AUTH_TOKEN": ""}, None),
    ],
)
def test_key_goes_before_token_and_empty_means_unset(
    variables: dict[str, str], key: str | None
) -> None:
    assert read_environment({"HOME": "/h", **variables}).api_key == key


def test_other_variables_are_read_and_secrets_are_not_shown() -> None:
    environment = read_environment({
        "HOME": "/h",
        "ANTHROPIC_API_KEY": "hunter2",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:1",
        "CLAUDE_CACHE_SECRET": "hunter2",
        "HTTPS_PROXY": "http://user:hunter2@proxy:3128",
        "XDG_CACHE_HOME": "/cache",
        "XDG_STATE_HOME": "relative",
    })  # fmt: skip
    assert environment.base_url == "http://127.0.0.1:1"
    assert environment.cache_secret == "hunter2"
    assert environment.cache_home == Path("/cache/claude-force")
    # The specification has a relative path ignored.
    assert environment.state_home == Path("/h/.local/state/claude-force")
    assert "hunter2" not in repr(environment)


def test_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:2")
    assert read_environment().base_url == "http://127.0.0.1:2"


def test_missing_home_and_a_removed_folder_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigError, match="The folder you work in cannot be used"):
        read_environment({"HOME": "/h"})
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOME")

    def nobody(_uid: int) -> None:
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", nobody)
    with pytest.raises(ConfigError, match="There is no home folder; set HOME"):
        read_environment({})


# Proxies.


@pytest.mark.parametrize(
    ("variables", "scheme", "proxy"),
    [
        ({}, "https", None),
        ({"HTTPS_PROXY": "a"}, "https", "a"),
        ({"HTTPS_PROXY": "a"}, "http", None),
        ({"HTTPS_PROXY": "a", "https_proxy": "b"}, "https", "b"),
        ({"HTTPS_PROXY": "a", "https_proxy": ""}, "https", "a"),
        ({"ALL_PROXY": "a"}, "https", "a"),
        ({"all_proxy": "a", "http_proxy": "b"}, "http", "b"),
        ({"HTTP_PROXY": "a"}, "http", "a"),
        # In a CGI script the upper-case variable comes from the caller's request.
        ({"HTTP_PROXY": "a", "REQUEST_METHOD": "GET"}, "http", None),
        ({"http_proxy": "a", "REQUEST_METHOD": "GET"}, "http", "a"),
        ({"HTTPS_PROXY": "a", "REQUEST_METHOD": "GET"}, "https", "a"),
    ],
)
def test_proxy_is_that_of_the_scheme_then_that_of_all(
    variables: dict[str, str], scheme: str, proxy: str | None
) -> None:
    assert read_proxies(variables).url_for(scheme, "api.example.com", 443) == proxy


@pytest.mark.parametrize(
    ("excluded", "host", "port", "is_direct"),
    [
        ("*", "anything", 443, True),
        ("api.example.com", "api.example.com", 443, True),
        ("api.example.com", "API.example.com", 443, True),
        ("example.com", "api.example.com", 443, True),
        (".example.com", "api.example.com", 443, True),
        ("*.example.com", "api.example.com", 443, True),
        ("example.com", "notexample.com", 443, False),
        ("api.example.com", "example.com", 443, False),
        ("other, api.example.com ,", "api.example.com", 443, True),
        ("api.example.com:8443", "api.example.com", 8443, True),
        ("api.example.com:8443", "api.example.com", 443, False),
        ("127.0.0.1", "127.0.0.1", 80, True),
        ("127.0.0.0/8", "127.1.2.3", 80, True),
        ("10.0.0.0/8", "127.1.2.3", 80, False),
        ("10.0.0.0/8", "api.example.com", 80, False),
        ("10.0.0.0/99", "10.0.0.1", 80, False),
        ("::1", "::1", 80, True),
        ("[::1]", "::1", 80, True),
        ("[::1]:80", "::1", 80, True),
        ("[::1]:81", "::1", 80, False),
        ("fd00::/8", "fd00::7", 80, True),
        ("", "api.example.com", 443, False),
        (" , ", "api.example.com", 443, False),
    ],
)
def test_no_proxy_names_what_is_reached_directly(
    excluded: str, host: str, port: int, is_direct: bool
) -> None:
    proxies = read_proxies({"ALL_PROXY": "http://proxy", "NO_PROXY": excluded})
    assert (proxies.url_for("https", host, port) is None) == is_direct
