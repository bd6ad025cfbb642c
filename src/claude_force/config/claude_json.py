"""Reads ``.claude/claude.json``: finds it, checks it whole, and reports every problem with its place."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from claude_force.config.alerts import KEYS as ALERT_KEYS
from claude_force.config.alerts import alert_problems, read_alerts
from claude_force.config.budgets import KEYS as BUDGET_KEYS
from claude_force.config.budgets import budget_problems, read_budgets
from claude_force.config.fields import FIELDS, SECTIONS, problem_with, shown
from claude_force.config.semantic import read_semantic, semantic_problems
from claude_force.config.settings import (
    CacheSettings,
    MemorySettings,
    MetricsSettings,
    PerformanceSettings,
    PromptCacheSettings,
    Settings,
)
from claude_force.domain.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

MAX_CONFIG_BYTES: Final = 4_000_000
# Sections within a section.
_ALERTS: Final = "metrics.alerts"
_SEMANTIC: Final = "cache.semantic"
# Keys that older files carry and that say nothing to this package.
_IGNORED_KEYS: Final = frozenset({"version", "name", "description", "$schema"})


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or looks wrong, in a configuration."""

    # Where, such as `performance.max_retries`.
    place: str
    message: str
    # An error stops every run; a warning only `config check`.
    is_error: bool = True

    def __str__(self) -> str:
        # Keys of a file may hold anything, and a message goes to a terminal.
        place = self.place if self.place.isprintable() else shown(self.place)
        return f"{place}: {self.message}"


def find_config(start: Path) -> Path | None:
    """The nearest ``.claude/claude.json`` from ``start`` up to the root of its repository, or None."""
    for folder in (start, *start.parents):
        candidate = folder / ".claude" / "claude.json"
        try:
            if candidate.is_file():
                return candidate
            if (folder / ".git").exists():
                return None
        except OSError:
            # A folder that may not be looked into holds no configuration for us.
            continue
    return None


def load_settings(path: Path) -> Settings:
    """The settings of one file.

    Raises:
        ConfigError: the file cannot be read, is no JSON object, or holds values that cannot be used; the message
            lists all of them.
    """
    document = read_document(path)
    problems = [problem for problem in check_document(document) if problem.is_error]
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise ConfigError(
            f"{path} cannot be used:\n{lines}\nCorrect it, then run: claude-force config check"
        )
    performance, cache = (_section(document, name) for name in ("performance", "cache"))
    return Settings(
        performance=PerformanceSettings(**performance),
        cache=CacheSettings(
            **cache, semantic=read_semantic(document.get("cache", {}).get("semantic", {}))
        ),
        prompt_cache=PromptCacheSettings(**_section(document, "prompt_cache")),
        budgets=read_budgets(document.get("budgets", {})),
        metrics=_read_metrics(document),
        memory=MemorySettings(**_section(document, "memory")),
        agents=document.get("agents", {}),
        workflows=document.get("workflows", {}),
        path=path,
    )


def read_document(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``, unchecked beyond that."""
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(
                f"{path} is larger than {MAX_CONFIG_BYTES:,} bytes; it does not look like a configuration."
            )
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} has to hold a JSON object, not a {type(document).__name__}.")
    return document


def check_document(document: dict[str, Any]) -> list[Problem]:
    """Every problem of a configuration, errors and warnings."""
    problems: list[Problem] = []
    known = {*SECTIONS, "agents", "budgets", "workflows", *_IGNORED_KEYS}
    problems += [_unknown(key, known) for key in document if key not in known]
    for section in SECTIONS:
        problems += _check_section(section, document.get(section, {}))
    problems += _check_agents(document.get("agents", {}))
    problems += _check_budgets(document.get("budgets", {}))
    problems += _check_alerts(document.get("metrics", {}))
    problems += _check_semantic(document.get("cache", {}))
    if not isinstance(document.get("workflows", {}), dict):
        problems.append(Problem("workflows", "expected an object of workflows by name"))
    return problems


def _check_section(section: str, values: object) -> list[Problem]:
    if not isinstance(values, dict):
        return [Problem(section, f"expected an object, found {shown(values)}")]
    fields = {field.name: field for field in FIELDS if field.section == section}
    problems: list[Problem] = []
    for name, value in values.items():
        field = fields.get(name)
        if f"{section}.{name}" in {_ALERTS, _SEMANTIC}:
            continue
        if field is None:
            problems.append(
                _unknown(f"{section}.{name}", {known.path for known in fields.values()})
            )
        elif message := problem_with(field, value):
            problems.append(Problem(field.path, f"{message} ({field.meaning})"))
    return problems


def _check_agents(agents: object) -> list[Problem]:
    if not isinstance(agents, dict):
        return [Problem("agents", "expected an object of agents by name")]
    problems = []
    for name, entry in agents.items():
        source = entry.get("file") or entry.get("path") if isinstance(entry, dict) else None
        if not isinstance(source, str):
            problems.append(
                Problem(
                    f"agents.{name}",
                    'expected an object with "file": the path of its Markdown file',
                )
            )
        elif not _is_names(entry.get("fallback", [])):
            problems.append(
                Problem(
                    f"agents.{name}.fallback",
                    "expected a list of models to ask when the agent's own fails",
                )
            )
    return problems


def _check_budgets(section: object) -> list[Problem]:
    problems = [Problem(place, message) for place, message in budget_problems(section)]
    names = section if isinstance(section, dict) else {}
    known = {f"budgets.{key}" for key in BUDGET_KEYS}
    return problems + [_unknown(f"budgets.{key}", known) for key in names if key not in BUDGET_KEYS]


def _check_alerts(metrics: object) -> list[Problem]:
    section = metrics.get("alerts", {}) if isinstance(metrics, dict) else {}
    problems = [Problem(place, message) for place, message in alert_problems(section)]
    names = section if isinstance(section, dict) else {}
    known = {f"{_ALERTS}.{key}" for key in ALERT_KEYS}
    return problems + [
        _unknown(f"{_ALERTS}.{key}", known) for key in names if key not in ALERT_KEYS
    ]


def _check_semantic(cache: object) -> list[Problem]:
    section = cache.get("semantic", {}) if isinstance(cache, dict) else {}
    return [
        Problem(place, message, is_error=is_error)
        for place, message, is_error in semantic_problems(section)
    ]


def _read_metrics(document: dict[str, Any]) -> MetricsSettings:
    alerts = read_alerts(document.get("metrics", {}).get("alerts", {}))
    return MetricsSettings(**_section(document, "metrics"), alerts=alerts)


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item for item in value)


def _unknown(key: str, known: set[str]) -> Problem:
    from difflib import get_close_matches  # noqa: PLC0415 - only a typing mistake needs it

    near = get_close_matches(key, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return Problem(key, f"nothing reads this key{hint}", is_error=False)


def _section(document: dict[str, Any], name: str) -> dict[str, Any]:
    return {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in document.get(name, {}).items()
        if any(field.section == name and field.name == key for field in FIELDS)
    }
