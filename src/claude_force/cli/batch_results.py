"""What `batch submit` keeps for `batch collect`, and the results file that it was asked for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claude_force.workflows.json_lines import json_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_force.domain.results import AgentOutcome


@dataclass(frozen=True, slots=True)
class Ticket:
    """Where results go, and which item of the items file each call was: its id, its line, its content key."""

    out: Path | None
    items: tuple[tuple[str | int, int | None, str], ...]

    def written(self) -> str:
        """As it is kept with a submission."""
        return json_line({"out": None if self.out is None else str(self.out), "items": self.items})

    def entry(self, outcome: AgentOutcome) -> dict[str, Any]:
        """The line of one outcome."""
        from claude_force.cli.render import error_json, result_json

        item_id, line, key = self.item(outcome)
        head: dict[str, Any] = {"id": item_id, "line": line, "key": key}
        if outcome.result is not None:
            return head | result_json(outcome.result)
        assert outcome.error is not None  # noqa: S101 - an outcome has one of the two
        return head | {"ok": False, "agent": outcome.agent_name, "error": error_json(outcome.error)}

    def item(self, outcome: AgentOutcome) -> tuple[str | int, int | None, str]:
        """Which item an outcome belongs to."""
        if outcome.index < len(self.items):
            return self.items[outcome.index]
        return outcome.item_id, None, ""


def read_ticket(note: str) -> Ticket:
    """What was kept; a submission that was made in Python has no items to name."""
    try:
        fields = json.loads(note)
        items = tuple((one[0], one[1], one[2]) for one in fields["items"])
        return Ticket(None if fields["out"] is None else Path(fields["out"]), items)
    except (ValueError, TypeError, KeyError, IndexError):
        return Ticket(None, ())


def keys_in(path: Path, ticket: Ticket) -> dict[str, str]:
    """Content keys by item id, for opening a results file without putting anything of it aside.

    What stands there is newer than the submission, or none of its business.
    """
    keys = {str(item_id): key for item_id, _, key in ticket.items}
    for entry in _entries(path):
        if entry.get("ok") is True and isinstance(entry.get("key"), str):
            keys[str(entry.get("id"))] = entry["key"]
    return keys


def _entries(path: Path) -> Sequence[dict[str, Any]]:
    found = []
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        # Opening it to write says what is wrong.
        return ()
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return found
