"""The error of many calls: apart from the other errors, because it carries results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from claude_force.domain.errors import ClaudeForceError, SpendLimitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_force.domain.results import AgentOutcome


_MAX_NAMED: Final = 5


class PartialFailureError(ClaudeForceError):
    """Some items failed. ``outcomes`` holds every item in its order, the finished ones with their results."""

    exit_code = 7
    kind = "partial_failure"

    def __init__(self, message: str, *, outcomes: Sequence[AgentOutcome] = ()) -> None:
        super().__init__(message)
        self.outcomes = tuple(outcomes)

    @classmethod
    def of_calls(cls, outcomes: Sequence[AgentOutcome]) -> PartialFailureError:
        """The error of calls of which some have failed; it names the first of them."""
        failed = [outcome for outcome in outcomes if outcome.error is not None]
        lines = [f"  {one.item_id} ({one.agent_name}): {one.error}" for one in failed[:_MAX_NAMED]]
        if len(failed) > len(lines):
            lines.append(f"  … and {len(failed) - len(lines)} more")
        kept = (
            f"the other {len(outcomes) - len(failed)} results are in the `outcomes` of this error"
        )
        capped = any(isinstance(outcome.error, SpendLimitError) for outcome in failed)
        return (RunCappedError if capped else cls)(
            f"{len(failed)} of {len(outcomes)} calls failed; {kept}:\n" + "\n".join(lines),
            outcomes=outcomes,
        )


class RunCappedError(PartialFailureError):
    """A spend cap stopped the run; what was finished before is kept."""

    exit_code = 8
    kind = "spend_limit"
