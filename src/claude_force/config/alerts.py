"""The section ``metrics.alerts`` of claude.json: from where on an alert fires."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Final

from claude_force.config.fields import shown
from claude_force.config.settings import AlertSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KEYS: Final = tuple(field.name for field in fields(AlertSettings))
_SWITCH: Final = "anomalies"
_SHARES: Final = frozenset({"error_rate", "success_rate", "cache_miss_rate"})


def alert_problems(section: object) -> Iterator[tuple[str, str]]:
    """Place and message of everything in the section that is no threshold; a threshold of null is off."""
    if not isinstance(section, dict):
        yield "metrics.alerts", f"expected an object, found {shown(section)}"
        return
    for name, value in section.items():
        if name in KEYS and (message := _problem(name, value)):
            yield f"metrics.alerts.{name}", message


def read_alerts(section: Mapping[str, object]) -> AlertSettings:
    """The settings of a section without problems."""
    known = {name: value for name, value in section.items() if name in KEYS}
    return AlertSettings(**known)  # type: ignore[arg-type] # `alert_problems` has looked


def _problem(name: str, value: object) -> str | None:
    if name == _SWITCH:
        return None if isinstance(value, bool) else f"expected true or false, found {shown(value)}"
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        return f"expected a number of 0 or more, or null for no alert, found {shown(value)}"
    if name in _SHARES and value > 1:
        return f"expected a share from 0 to 1, found {shown(value)}"
    return None
