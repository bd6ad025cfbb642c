"""Sums over the calls of an hour or a day, of one agent, model and workflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from claude_force.metrics.schema import DAY_SECONDS, HOUR_SECONDS, SUMS
from claude_force.metrics.sketch import Sketch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Start, agent, model, workflow; names as their numbers.
CellKey: TypeAlias = tuple[int, int, int, int]
# The columns of a stored call that a cell is made of.
Measured: TypeAlias = tuple[
    float, int, int, int, int, int, int, int, int | None, int | None, int, int | None, int, int
]

MEASURED_COLUMNS: Final = (
    "seconds, attempts, error_kind, cached_tier, input_tokens, output_tokens, "
    "cache_read_tokens, cache_write_tokens, cost, saved, plain, prompt_cache_saved, batch_saved, fallback_saved"
)


class Cell:
    """Sums, and a sketch of how long the API took for complete answers to what was asked at once.

    Cells of the same calls are equal, however those were split up and merged.
    """

    __slots__ = ("latency", "sums")

    def __init__(self, sums: Sequence[int] | None = None, latency: Sketch | None = None) -> None:
        # In the order of SUMS.
        self.sums = [0] * len(SUMS) if sums is None else list(sums)
        self.latency = Sketch() if latency is None else latency

    def merge(self, other: Cell) -> None:
        """Add what ``other`` has."""
        self.sums = [ours + theirs for ours, theirs in zip(self.sums, other.sums, strict=True)]
        self.latency.merge(other.latency)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cell) and self.sums == other.sums and self.latency == other.latency

    __hash__ = None  # type: ignore[assignment] # it changes

    def stored(self) -> tuple[int | bytes, ...]:
        """The columns of a cell, without its key."""
        return (*self.sums, self.latency.to_bytes())


def cell_of(calls: Sequence[Measured]) -> Cell:
    """What calls come to."""
    columns = list(zip(*calls, strict=True))
    (
        seconds,
        attempts,
        errors,
        tiers,
        *tokens,
        costs,
        saved,
        plain,
        by_prefix,
        by_batch,
        by_model,
    ) = columns
    cell = Cell()
    cell.sums = [
        len(calls),
        len(calls) - errors.count(0),
        len(calls) - tiers.count(0),
        # Of each call all but the first; 0 for a call that sent none.
        sum(attempts) - len(calls) + attempts.count(0),
        *map(sum, tokens),
        sum(filter(None, costs)),
        costs.count(None),
        sum(filter(None, saved)),
        sum(plain),
        sum(filter(None, by_prefix)),
        sum(by_batch),
        sum(by_model),
        by_prefix.count(None),
    ]
    # Of a batch the seconds say how busy the API was that day, and nothing about an answer.
    ordinary = not any(errors) and not any(tiers) and not any(by_batch)
    cell.latency = Sketch.of(
        seconds
        if ordinary
        else (
            took
            for took, error, tier, batch in zip(seconds, errors, tiers, by_batch, strict=True)
            if error == 0 and tier == 0 and batch == 0
        )
    )
    return cell


def by_day(hours: Iterable[tuple[CellKey, Cell]]) -> dict[CellKey, Cell]:
    """Cells of hours as cells of their days."""
    days: dict[CellKey, Cell] = {}
    for (start, *names), cell in hours:
        agent, model, workflow = names
        days.setdefault((day_of(start), agent, model, workflow), Cell()).merge(cell)
    return days


def by_agent(hours: Iterable[tuple[CellKey, Cell]]) -> dict[CellKey, Cell]:
    """Cells of hours with all models and workflows of an agent together."""
    merged: dict[CellKey, Cell] = {}
    for (start, agent, _, _), cell in hours:
        merged.setdefault((start, agent, 0, 0), Cell()).merge(cell)
    return merged


def hour_of(epoch_seconds: float) -> int:
    """The second in which its hour begins."""
    return int(epoch_seconds // HOUR_SECONDS) * HOUR_SECONDS


def day_of(epoch_seconds: float) -> int:
    """The second in which its day of UTC begins."""
    return int(epoch_seconds // DAY_SECONDS) * DAY_SECONDS
