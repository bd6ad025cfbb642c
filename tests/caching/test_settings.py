"""Every field of `cache` in claude.json is read through every door, and arguments go before it."""

from __future__ import annotations

import logging
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from claude_force import AgentNotFoundError, ConfigError
from claude_force.simulator import Fault, FaultKind, Scenario, SimulatorThread

if TYPE_CHECKING:
    from pathlib import Path

    from tests.caching.conftest import AnswerFile, Ask, Door
    from tests.conftest import Cli, MakeBlocking, Process, Project

Paid = Callable[[], int]
Later = Callable[[float], None]
HOUR = 3600.0


def test_enabled_false_keeps_nothing(
    door: Door, project: Project, paid: Paid, user_answers: AnswerFile
) -> None:
    project.config(cache={"enabled": False})
    assert door().tier is None
    assert door().tier is None
    assert paid() == 2
    assert not user_answers.folder.exists()


def test_ttl_hours_is_the_life_of_an_answer(
    door: Door, project: Project, paid: Paid, later: Later
) -> None:
    project.config(cache={"ttl_hours": 2})
    door()
    later(2 * HOUR - 60)
    assert door().tier == "disk"
    later(120)
    assert door().tier is None
    assert paid() == 2
    assert door().tier == "disk"


def test_without_a_word_an_answer_lives_a_day(door: Door, paid: Paid, later: Later) -> None:
    door()
    later(24 * HOUR - 60)
    assert door().tier == "disk"
    later(120)
    assert door().tier is None
    assert paid() == 2


def test_a_longer_life_is_given_to_what_is_there_already(
    door: Door, project: Project, paid: Paid, later: Later
) -> None:
    door()
    later(30 * HOUR)
    project.config(cache={"ttl_hours": 48})
    assert door().tier == "disk"
    assert paid() == 1


def test_max_size_mb_bounds_the_bytes_on_disk(
    door: Door, project: Project, user_answers: AnswerFile, simulator: SimulatorThread
) -> None:
    simulator.use_scenario(Scenario(min_output_tokens=4000, max_output_tokens=4000))
    project.config(cache={"max_size_mb": 0.3})
    for number in range(18):
        door(task=f"Look at number {number}")
        size_bytes = sum(path.stat().st_size for path in user_answers.folder.glob("responses.db*"))
        assert size_bytes <= 0.3 * 1024 * 1024
    assert 3 < user_answers.count() < 18
    # The newest is never the victim.
    assert door(task="Look at number 17").tier == "disk"
    assert door(task="Look at number 0").tier is None


def test_exclude_agents_are_neither_stored_nor_served(
    door: Door, project: Project, paid: Paid, user_answers: AnswerFile
) -> None:
    project.config(cache={"exclude_agents": ["alpha"]})
    assert [door("alpha").tier, door("alpha").tier] == [None, None]
    assert [door("beta").tier, door("beta").tier] == [None, "disk"]
    assert paid() == 3
    assert user_answers.count() == 1
    # What was stored before the agent was excluded is not served either.
    project.config(cache={"exclude_agents": ["beta"]})
    assert door("beta").tier is None
    assert paid() == 4


def test_use_integrity_check_false_is_honoured_with_a_warning(
    door: Door,
    project: Project,
    paid: Paid,
    user_answers: AnswerFile,
    caplog: pytest.LogCaptureFixture,
) -> None:
    door()
    (record,) = user_answers.records()
    user_answers.replace(0, b"\0" * 32 + record[32:])
    assert "integrity" not in caplog.text
    project.config(cache={"use_integrity_check": False})
    with caplog.at_level(logging.WARNING):
        assert door().tier == "disk"
    (warning,) = [line for line in caplog.messages if "integrity" in line]
    assert warning == f"cache {user_answers.path} is read without integrity checks"
    assert paid() == 1
    project.config(cache={"use_integrity_check": True})
    assert door().tier is None
    assert paid() == 2


def test_the_warning_reaches_the_log_of_the_command_line_once(
    process: Process, project: Project
) -> None:
    project.config(cache={"use_integrity_check": False})
    run = process("--log-level", "warning", "run", "agent", "alpha", "--task", "Look")
    assert run.code == 0
    assert run.err.count("is read without integrity checks") == 1


def test_stale_while_revalidate_seconds_serves_once_more(
    door: Door, project: Project, paid: Paid, later: Later
) -> None:
    project.config(cache={"ttl_hours": 1, "stale_while_revalidate_seconds": 600})
    first = door()
    later(HOUR + 300)
    stale = door()
    assert stale.stale is True
    assert stale.text == first.text
    # Fetched beside it, and kept although the program ended at once.
    assert paid() == 2
    fresh = door()
    assert fresh.tier == "disk"
    assert fresh.stale is False
    assert fresh.age_seconds is not None
    assert fresh.age_seconds < 60
    later(HOUR + 601)
    assert door().tier is None
    assert paid() == 3


def test_stale_if_error_seconds_serves_when_the_api_fails(
    door: Door, project: Project, simulator: SimulatorThread, later: Later
) -> None:
    project.config(
        cache={"ttl_hours": 1, "stale_if_error_seconds": 600}, performance={"max_retries": 0}
    )
    first = door()
    later(HOUR + 300)
    simulator.queue_fault(Fault(kind=FaultKind.OVERLOADED))
    stale = door()
    assert stale.stale is True
    assert stale.text == first.text
    assert stale.age_seconds is not None
    assert stale.age_seconds >= HOUR + 300
    assert simulator.stats.requests == 2
    assert door().tier is None
    assert simulator.stats.requests == 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("enabled", "yes"),
        ("ttl_hours", -1),
        ("ttl_hours", "24"),
        ("max_size_mb", None),
        ("exclude_agents", "alpha"),
        ("use_integrity_check", 1),
        ("stale_while_revalidate_seconds", -1),
        ("stale_if_error_seconds", True),
    ],
)
def test_a_value_that_cannot_be_meant_is_an_error_before_anything_is_sent(  # noqa: PLR0917 - filled in by name
    cli: Cli, ask: Ask, project: Project, paid: Paid, field: str, value: object
) -> None:
    project.config(cache={field: value})
    with pytest.raises(ConfigError, match=f"cache.{field}: expected"):
        ask()
    run = cli("run", "agent", "alpha", "--task", "Look")
    assert run.code == 3
    assert f"cache.{field}: expected" in run.err
    assert paid() == 0


# ---- arguments go before the file, and the file before defaults


@pytest.mark.parametrize(
    ("config", "arguments", "hours", "is_hit"),
    [
        ({"enabled": False}, {"enable_cache": True}, 1, True),
        ({"enabled": True}, {"enable_cache": False}, 1, False),
        ({"ttl_hours": 2}, {"cache_ttl_hours": 48}, 30, True),
        ({"ttl_hours": 48}, {"cache_ttl_hours": 2}, 3, False),
        ({"ttl_hours": 48}, {"cache_ttl_hours": 0}, 0, False),
    ],
)
def test_arguments_of_the_constructor_win(  # noqa: PLR0917 - filled in by name
    ask: Ask,
    make_blocking: MakeBlocking,
    project: Project,
    cache_dir: Path,
    later: Later,
    config: dict[str, Any],
    arguments: dict[str, Any],
    hours: float,
    is_hit: bool,
) -> None:
    project.config(cache=config)
    ask(force=arguments)
    later(hours * HOUR)
    assert (ask(force=arguments).cached is not None) is is_hit
    later(hours * HOUR)
    with make_blocking(cache_dir=cache_dir, **arguments) as force:
        # Asked again an hour or more ago, or just now.
        age_hours = 2 * hours if is_hit else hours
        expected = is_hit and age_hours < arguments.get("cache_ttl_hours", 24)
        assert (force.run_agent("alpha", "Look at this").cached is not None) is expected


def test_a_folder_that_is_named_goes_before_the_users(
    ask: Ask, user_answers: AnswerFile, answers: AnswerFile
) -> None:
    ask()
    assert answers.count() == 1
    assert not user_answers.folder.exists()


def test_the_config_that_is_named_is_the_one_that_counts(
    cli: Cli, make_blocking: MakeBlocking, project: Project, cache_dir: Path, paid: Paid
) -> None:
    project.config(cache={"enabled": True})
    other = project.write("other.json", '{"cache": {"enabled": false}}')
    run = ("run", "agent", "alpha", "--task", "Look", "--config", str(other))
    assert "from the cache" not in cli(*run).err + cli(*run).err
    with make_blocking(config_path=other, cache_dir=cache_dir) as force:
        assert force.run_agent("alpha", "Look").cached is None
        assert force.run_agent("alpha", "Look").cached is None
    assert paid() == 4


def test_a_project_cannot_say_where_answers_are_kept(
    ask: Ask, project: Project, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    project.config(cache={"cache_dir": str(elsewhere), "dir": str(elsewhere)})
    assert ask().ok
    assert not elsewhere.exists()


# ---- the secret


def test_the_secret_of_the_environment_is_honoured_through_every_door(
    door: Door, paid: Paid, user_answers: AnswerFile, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    monkeypatch.setenv("CLAUDE_CACHE_SECRET", "mine")
    door()
    assert not (user_answers.folder / "secret").exists()
    assert door().tier == "disk"
    (record,) = user_answers.records()
    monkeypatch.setenv("CLAUDE_CACHE_SECRET", "another")
    verified = cli("cache", "verify", "--json")
    assert verified.code == 1
    assert (verified.json["valid"], verified.json["invalid"]) == (0, 1)
    assert user_answers.records() == [record]
    assert door().tier is None
    assert paid() == 2


def test_a_foreign_secret_is_a_miss_and_the_entry_stays_for_its_owner(
    ask: Ask, answers: AnswerFile, paid: Paid
) -> None:
    ask(force={"cache_secret": "mine"})
    (record,) = answers.records()
    # Not served to a stranger, who may look without storing.
    strangers = {"cache_secret": "another"}
    assert ask(task="Something else", force=strangers).cached is None
    assert answers.records()[0] == record
    assert ask(force={"cache_secret": "mine"}).cached is not None
    assert ask(task="Something else", force=strangers).cached is not None
    assert paid() == 2


def test_an_argument_goes_before_the_environment(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, paid: Paid
) -> None:
    monkeypatch.setenv("CLAUDE_CACHE_SECRET", "of the environment")
    ask(force={"cache_secret": "of the argument"})
    monkeypatch.setenv("CLAUDE_CACHE_SECRET", "of the argument")
    assert ask().cached is not None
    assert paid() == 1


def test_without_a_secret_a_private_one_is_made_once(ask: Ask, cache_dir: Path) -> None:
    ask()
    secret = cache_dir / "secret"
    made = secret.read_bytes()
    assert len(bytes.fromhex(made.decode())) == 32
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(cache_dir.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in cache_dir.iterdir()} == {0o600}
    assert ask().cached is not None
    assert secret.read_bytes() == made


def test_the_secret_appears_in_no_repr_and_no_error(
    make_blocking: MakeBlocking, cache_dir: Path
) -> None:
    with make_blocking(cache_dir=cache_dir, cache_secret="open sesame") as force:
        force.run_agent("alpha", "Look at this")
        shown = repr(force) + repr(vars(force)) + repr(vars(vars(force)["_force"]))
        assert "open sesame" not in shown
        assert "open sesame" not in repr(vars(vars(vars(force)["_force"])["_runtime"]))
        with pytest.raises(AgentNotFoundError) as raised:
            force.run_agent("nobody", "Look at this")
    assert "open sesame" not in str(raised.value)
