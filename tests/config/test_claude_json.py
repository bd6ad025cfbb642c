"""claude.json: found, checked whole, and every problem told with its place and a hint."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_force.config.claude_json import (
    MAX_CONFIG_BYTES,
    Problem,
    check_document,
    find_config,
    load_settings,
)
from claude_force.config.fields import FIELDS
from claude_force.config.settings import Settings
from claude_force.domain.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def write(folder: Path, document: Any) -> Path:
    path = folder / "claude.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document), "utf-8")
    return path


def test_empty_object_means_the_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, {})
    settings = load_settings(path)
    assert settings == Settings(path=path)
    assert (settings.performance.max_retries, settings.cache.ttl_hours) == (3, 24)


def test_default_of_every_field_is_that_of_its_setting() -> None:
    settings = Settings()
    for field in FIELDS:
        assert getattr(getattr(settings, field.section), field.name) == field.default, field.path


def test_every_field_arrives(tmp_path: Path) -> None:
    document: dict[str, Any] = {
        "performance": {
            "async_enabled": False,
            "max_concurrent_agents": 3,
            "timeout_seconds": 7.5,
            "attempt_timeout_seconds": 2.5,
            "max_retries": 0,
        },
        "cache": {
            "enabled": False,
            "ttl_hours": 1.5,
            "max_size_mb": 2,
            "max_pinned_share": 0.25,
            "exclude_agents": ["a", "b"],
            "use_integrity_check": False,
            "stale_while_revalidate_seconds": 3,
            "stale_if_error_seconds": 4,
        },
        "prompt_cache": {"enabled": False, "one_hour": "never"},
        "metrics": {"enabled": False, "retention_days": 7},
        "memory": {
            "enabled": False,
            "max_tokens": 500,
            "retention_days": 30,
            "max_size_mb": 5,
        },
        "agents": {"a": {"file": "a.md"}, "b": {"path": "b.md"}},
        "workflows": {"w": ["a", "b"]},
    }
    settings = load_settings(write(tmp_path, document))
    for field in FIELDS:
        given_value: Any = document[field.section][field.name]
        expected = tuple(given_value) if isinstance(given_value, list) else given_value
        assert getattr(getattr(settings, field.section), field.name) == expected, field.path
    assert (settings.agents, settings.workflows) == (document["agents"], document["workflows"])


@pytest.mark.parametrize(
    ("document", "place", "message"),
    [
        ({"performance": []}, "performance", "expected an object, found []"),
        ({"cache": None}, "cache", "expected an object, found None"),
        (
            {"performance": {"max_retries": "3"}},
            "performance.max_retries",
            "expected a whole number, found '3' (requests of one call beyond the first)",
        ),
        (
            {"performance": {"max_retries": 1.5}},
            "performance.max_retries",
            "expected a whole number, found 1.5 (requests of one call beyond the first)",
        ),
        (
            {"performance": {"max_retries": True}},
            "performance.max_retries",
            "expected a whole number, found True (requests of one call beyond the first)",
        ),
        (
            {"performance": {"timeout_seconds": 0}},
            "performance.timeout_seconds",
            "expected a value from 0.001 to 86400, found 0 (deadline of one call, its retries included)",
        ),
        (
            {"cache": {"ttl_hours": float("nan")}},
            "cache.ttl_hours",
            "expected a value from 0 to 87600, found nan (how long an answer is served)",
        ),
        (
            {"cache": {"ttl_hours": 10**400}},
            "cache.ttl_hours",
            f"expected a value from 0 to 87600, found 1{'0' * 99}… (how long an answer is served)",
        ),
        (
            {"cache": {"enabled": 1}},
            "cache.enabled",
            "expected true or false, found 1 (answer equal requests from the response cache)",
        ),
        (
            {"cache": {"exclude_agents": ["a", 1]}},
            "cache.exclude_agents",
            "expected a list of agent names, found ['a', 1] (agents whose answers are never cached)",
        ),
        (
            {"cache": {"exclude_agents": "a"}},
            "cache.exclude_agents",
            "expected a list of agent names, found 'a' (agents whose answers are never cached)",
        ),
        ({"agents": []}, "agents", "expected an object of agents by name"),
        (
            {"agents": {"a": "a.md"}},
            "agents.a",
            'expected an object with "file": the path of its Markdown file',
        ),
        (
            {"agents": {"a": {"file": 7}}},
            "agents.a",
            'expected an object with "file": the path of its Markdown file',
        ),
        ({"workflows": []}, "workflows", "expected an object of workflows by name"),
    ],
)
def test_wrong_value_is_an_error_with_its_place(
    tmp_path: Path, document: Any, place: str, message: str
) -> None:
    assert check_document(document) == [Problem(place, message)]
    with pytest.raises(ConfigError) as caught:
        load_settings(write(tmp_path, document))
    assert f"  {place}: {message}\n" in str(caught.value)


@pytest.mark.parametrize(
    ("document", "place", "message"),
    [
        ({"perfromance": {}}, "perfromance", "nothing reads this key; did you mean performance?"),
        (
            {"cache": {"ttl_hour": 1}},
            "cache.ttl_hour",
            "nothing reads this key; did you mean cache.ttl_hours?",
        ),
        ({"zzz": 1}, "zzz", "nothing reads this key"),
    ],
)
def test_unknown_key_is_a_warning_with_a_hint_and_stops_nothing(
    tmp_path: Path, document: Any, place: str, message: str
) -> None:
    assert check_document(document) == [Problem(place, message, is_error=False)]
    assert load_settings(write(tmp_path, document)).cache.ttl_hours == 24


def test_keys_of_older_files_are_passed_over_in_silence() -> None:
    assert check_document({"version": 1, "name": "x", "metrics": {}, "memory": {}}) == []


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    document = {
        "performance": {"max_retries": -1, "max_concurrent_agents": 0},
        "cache": {"enabled": "yes"},
        "agents": {"a": {}},
        "workflows": 1,
    }
    with pytest.raises(ConfigError) as caught:
        load_settings(write(tmp_path, document))
    lines = str(caught.value).split("\n")
    assert [line.split(":")[0].strip() for line in lines[1:-1]] == [
        *("performance.max_retries", "performance.max_concurrent_agents", "cache.enabled"),
        *("agents.a", "workflows"),
    ]
    assert lines[-1] == "Correct it, then run: claude-force config check"


def test_key_of_a_file_cannot_write_to_the_terminal() -> None:
    [problem] = check_document({"agents": {"\x1b[2J": 1}})
    assert str(problem).isprintable()


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.sampled_from(["performance", "cache", "agents", "workflows", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from([field.name for field in FIELDS]) | st.text(max_size=3), inner
                )
            ),
            max_leaves=8,
        ),
    )
)
def test_any_object_ends_in_problems_that_can_be_shown(document: dict[str, Any]) -> None:
    for problem in check_document(document):
        assert str(problem).isprintable()
        assert len(problem.message) < 400


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON"),
        ("", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("[1]", "has to hold a JSON object, not a list"),
        ('{"a":' + "9" * 5000 + "}", "is not valid JSON"),
    ],
)
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_settings(path)
    assert str(path) in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "claude.json"
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ConfigError, match="is not valid JSON"):
        load_settings(path)


def test_missing_and_oversized_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_settings(tmp_path / "none.json")
    path = tmp_path / "claude.json"
    path.write_bytes(b" " * (MAX_CONFIG_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than 4,000,000 bytes"):
        load_settings(path)


def test_nearest_configuration_upwards_is_found_within_the_repository(tmp_path: Path) -> None:
    inner = tmp_path / "repo" / "a" / "b"
    inner.mkdir(parents=True)
    outside = tmp_path / ".claude"
    outside.mkdir()
    (outside / "claude.json").write_text("{}")
    assert find_config(inner) == outside / "claude.json"
    (tmp_path / "repo" / ".git").mkdir()
    assert find_config(inner) is None
    own = tmp_path / "repo" / ".claude"
    own.mkdir()
    (own / "claude.json").write_text("{}")
    assert find_config(inner) == own / "claude.json"
    nearer = inner / ".claude" / "claude.json"
    nearer.mkdir(parents=True)
    # A folder of that name is no file.
    assert find_config(inner) == own / "claude.json"


def test_folder_that_cannot_be_looked_into_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / ".claude").mkdir()
    (tmp_path / ".claude" / "claude.json").write_text("{}")
    assert find_config(tmp_path / ("x" * 300)) == tmp_path / ".claude" / "claude.json"


def test_search_without_an_end_marker_stops_at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    # Above every folder of this test run there may be anything; a path that does not exist has nothing around it.
    assert find_config(Path("relative-and-missing")) is None
