"""How far a map is, on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final, Self

import click

from claude_force.cli.render import dollars, prompt_cache_saving, tell_total
from claude_force.domain.errors import SpendLimitError
from claude_force.domain.results import total_cost_usd

if TYPE_CHECKING:
    from decimal import Decimal
    from pathlib import Path

    from rich.progress import Progress, TaskID

    from claude_force.domain.results import AgentOutcome

_LINE_EVERY_SECONDS: Final = 5.0
_MAX_FAILURES_NAMED: Final = 5


class MapProgress:
    """Counts outcomes and shows them; use it as a context manager."""

    def __init__(self, *, total: int, done: int) -> None:
        self._total = total
        self._kept = done
        self.finished = 0
        self.failed = 0
        # A spend cap stopped the run.
        self.capped = False
        # The first failures, a line each.
        self.failures: list[str] = []
        self._costs: list[Decimal | None] = []
        self._saving = prompt_cache_saving()
        self._began = time.monotonic()
        self._last_line = self._began
        self._bar: tuple[Progress, TaskID] | None = None
        self._told = False

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            progress.start()
            self._bar = (
                progress,
                progress.add_task("items", total=self._total, completed=self._kept),
            )
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._bar is not None:
            self._bar[0].stop()
            self._bar = None

    def take(self, outcome: AgentOutcome) -> None:
        """Count one outcome."""
        self._costs.append(outcome.cost_usd)
        if outcome.result is not None:
            self._saving.add((outcome.result,))
        if outcome.ok:
            self.finished += 1
        else:
            self.failed += 1
            self.capped |= isinstance(outcome.error, SpendLimitError)
            if len(self.failures) < _MAX_FAILURES_NAMED:
                first_line = str(outcome.error).split("\n", 1)[0]
                self.failures.append(f"{outcome.item_id} ({outcome.agent_name}): {first_line}")
        if self._bar is not None:
            progress, task = self._bar
            failed = f", {self.failed} failed" if self.failed else ""
            progress.update(task, advance=1, description=f"items{failed}")
        elif time.monotonic() - self._last_line >= _LINE_EVERY_SECONDS:
            self._last_line = time.monotonic()
            click.echo(self._line(), err=True)

    def finish(self, out: Path | None) -> None:
        """The last line: what was done, what it cost, and where it is. A second call does nothing."""
        if self._told:
            return
        self._told = True
        self.__exit__()
        where = f" Results: {out}" if out is not None else ""
        click.echo(f"{self._line()}.{where}", err=True)
        tell_total(self._saving)
        missing = self._total - self._kept - self.finished - self.failed
        if missing and out is not None:
            click.echo(
                f"{missing} items were not done; run the same command again to go on.", err=True
            )

    def _line(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        kept = f", {self._kept} kept" if self._kept else ""
        return (
            f"{self.finished + self._kept} of {self._total} items{kept}{failed}, "
            f"{dollars(total_cost_usd(self._costs))}, {time.monotonic() - self._began:.1f} s"
        )
