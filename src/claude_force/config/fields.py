"""The fields of claude.json as a table: types, defaults, bounds and meaning in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

_MAX_SHOWN_CHARACTERS: Final = 100

Kind = Literal["bool", "int", "number", "names", "choice"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a section of claude.json."""

    section: str
    name: str
    kind: Kind
    default: bool | int | float | str | tuple[str, ...]
    meaning: str
    # Bounds of a number, both included.
    minimum: float = 0
    maximum: float = 0
    # The words that a choice is made of.
    choices: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """The field as a user names it, such as ``performance.max_retries``."""
        return f"{self.section}.{self.name}"


FIELDS: Final[tuple[Field, ...]] = (
    Field(
        section="performance",
        name="async_enabled",
        kind="bool",
        default=True,
        meaning="accepted for older files; every call is asynchronous",
    ),
    Field(
        section="performance",
        name="max_concurrent_agents",
        kind="int",
        default=10,
        minimum=1,
        maximum=1000,
        meaning="requests to the API at the same time, over all agents",
    ),
    Field(
        section="performance",
        name="timeout_seconds",
        kind="number",
        default=120,
        minimum=0.001,
        maximum=86_400,
        meaning="deadline of one call, its retries included",
    ),
    Field(
        section="performance",
        name="attempt_timeout_seconds",
        kind="number",
        default=0,
        minimum=0,
        maximum=86_400,
        meaning="deadline of a single attempt; 0 for that of its call",
    ),
    Field(
        section="performance",
        name="max_retries",
        kind="int",
        default=3,
        minimum=0,
        maximum=20,
        meaning="requests of one call beyond the first",
    ),
    Field(
        section="cache",
        name="enabled",
        kind="bool",
        default=True,
        meaning="answer equal requests from the response cache",
    ),
    Field(
        section="cache",
        name="ttl_hours",
        kind="number",
        default=24,
        minimum=0,
        maximum=87_600,
        meaning="how long an answer is served",
    ),
    Field(
        section="cache",
        name="max_size_mb",
        kind="number",
        default=100,
        minimum=0,
        maximum=1_000_000,
        meaning="bytes that the cache may take on disk",
    ),
    Field(
        section="cache",
        name="max_pinned_share",
        kind="number",
        default=0.5,
        minimum=0,
        maximum=0.9,
        meaning="share of it that answers of pinned runs may take",
    ),
    Field(
        section="cache",
        name="exclude_agents",
        kind="names",
        default=(),
        meaning="agents whose answers are never cached",
    ),
    Field(
        section="cache",
        name="use_integrity_check",
        kind="bool",
        default=True,
        meaning="verify the signature of what is read from disk",
    ),
    Field(
        section="cache",
        name="stale_while_revalidate_seconds",
        kind="number",
        default=0,
        minimum=0,
        maximum=31_536_000,
        meaning="how long past its lifetime an answer is served while a new one is fetched",
    ),
    Field(
        section="cache",
        name="stale_if_error_seconds",
        kind="number",
        default=0,
        minimum=0,
        maximum=31_536_000,
        meaning="how long past its lifetime an answer is served when the API fails",
    ),
    Field(
        section="prompt_cache",
        name="enabled",
        kind="bool",
        default=True,
        meaning="have the provider keep what several calls begin with, where that pays",
    ),
    Field(
        section="prompt_cache",
        name="one_hour",
        kind="choice",
        default="auto",
        choices=("auto", "never"),
        meaning="keep it for an hour where the measured gaps between calls make that cheaper",
    ),
    Field(
        section="metrics",
        name="enabled",
        kind="bool",
        default=True,
        meaning="keep a row of every call",
    ),
    Field(
        section="metrics",
        name="retention_days",
        kind="int",
        default=30,
        minimum=1,
        maximum=3650,
        meaning="how long rows are kept; sums by day stay",
    ),
    Field(
        section="memory",
        name="enabled",
        kind="bool",
        default=True,
        meaning="let calls and agents that ask for a memory have one; false: none has",
    ),
    Field(
        section="memory",
        name="max_tokens",
        kind="int",
        default=1000,
        minimum=0,
        maximum=20_000,
        meaning="what is recalled for one call",
    ),
    Field(
        section="memory",
        name="retention_days",
        kind="int",
        default=365,
        minimum=1,
        maximum=3650,
        meaning="how long a task is remembered",
    ),
    Field(
        section="memory",
        name="max_size_mb",
        kind="number",
        default=50,
        minimum=1,
        maximum=10_000,
        meaning="bytes that all memories may take on disk; the oldest make room",
    ),
)

SECTIONS: Final = tuple(dict.fromkeys(field.section for field in FIELDS))


def problem_with(field: Field, value: object) -> str | None:
    """What is wrong with ``value`` for this field, or None when it can be used."""
    if field.kind == "bool":
        return None if isinstance(value, bool) else f"expected true or false, found {shown(value)}"
    if field.kind == "names":
        named = isinstance(value, list) and all(isinstance(item, str) for item in value)
        return None if named else f"expected a list of agent names, found {shown(value)}"
    if field.kind == "choice":
        words = " or ".join(repr(word) for word in field.choices)
        return None if value in field.choices else f"expected {words}, found {shown(value)}"
    numeric = (int,) if field.kind == "int" else (int, float)
    if isinstance(value, bool) or not isinstance(value, numeric):
        wanted = "a whole number" if field.kind == "int" else "a number"
        return f"expected {wanted}, found {shown(value)}"
    # Asked this way round, so that NaN does not pass.
    if not field.minimum <= value <= field.maximum:
        return f"expected a value from {field.minimum:g} to {field.maximum:g}, found {shown(value)}"
    return None


def shown(value: object) -> str:
    """A value of a file in a message: its control characters escaped, its length bounded."""
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN_CHARACTERS else text[:_MAX_SHOWN_CHARACTERS] + "…"
