"""Events as log records: one logger, fields, never a prompt, an answer or a key.

Nothing is shown unless the application configures `logging`; the logger is ``claude_force.calls``. Successes are at
level INFO, attempts at DEBUG, failures at WARNING. The fields are attributes of the record.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from claude_force.domain.events import (
    AttemptFailed,
    AttemptStarted,
    CallFailed,
    CallFinished,
    CallStarted,
    RunFinished,
    RunStarted,
    StepFinished,
)

if TYPE_CHECKING:
    from claude_force.domain.events import Event, EventListener
    from claude_force.domain.results import AgentResult

_package_log: Final = logging.getLogger("claude_force")
_package_log.addHandler(logging.NullHandler())
_log: Final = logging.getLogger("claude_force.calls")


def event_loggers() -> tuple[EventListener, ...]:
    """The listener that logs, or none while nobody would see what it writes: events then cost nothing."""
    return (log_event,) if _log.isEnabledFor(logging.WARNING) and _is_heard() else ()


def log_event(event: Event) -> None:
    """Write one event to the log."""
    record = _record(event)
    if record is not None:
        level, text, fields = record
        _log.log(level, text, extra=fields)


def _record(event: Event) -> tuple[int, str, dict[str, object]] | None:  # noqa: PLR0911 - a table
    match event:
        case CallStarted():
            named = {"agent": event.agent_name, "run_id": event.run_id, "step_id": event.step_id}
            return (
                logging.INFO,
                "call started",
                {"call_id": event.call_id, "model": event.model, **named},
            )
        case AttemptStarted():
            return (
                logging.DEBUG,
                "attempt started",
                {"call_id": event.call_id, "attempt": event.attempt},
            )
        case AttemptFailed():
            failed = {"error": event.error_kind, "retry_in_seconds": event.retry_in_seconds}
            return (
                logging.WARNING,
                "attempt failed",
                {"call_id": event.call_id, "attempt": event.attempt, **failed},
            )
        case CallFinished():
            return (
                logging.INFO,
                "call finished",
                {"call_id": event.call_id, **_result_fields(event.result)},
            )
        case CallFailed():
            ended = {"error": event.error_kind, "seconds": round(event.seconds, 3)}
            return (
                logging.WARNING,
                "call failed",
                {"call_id": event.call_id, "agent": event.agent_name, **ended},
            )
        case RunStarted():
            started = {"workflow": event.workflow_name, "steps": len(event.step_ids)}
            return logging.INFO, "run started", {"run_id": event.run_id, **started}
        case StepFinished():
            state = {"step_id": event.step.step_id, "state": event.step.state}
            return logging.INFO, "step finished", {"run_id": event.run_id, **state}
        case RunFinished():
            whole = {"ok": event.ok, "seconds": round(event.seconds, 3)}
            return logging.INFO, "run finished", {"run_id": event.run_id, **whole}
        case _:
            # Text deltas are content, and the rest is told by the events above.
            return None


def _result_fields(result: AgentResult) -> dict[str, object]:
    return {
        "agent": result.agent_name,
        "model": result.model,
        "input_tokens": result.usage.total_input_tokens,
        "output_tokens": result.usage.output_tokens,
        "cost_usd": None if result.cost_usd is None else str(result.cost_usd),
        "fallback_from": result.fallback_from,
        "cached": result.cached.tier if result.cached else None,
        "attempts": result.attempts,
        "seconds": round(result.seconds, 3),
        "request_id": result.request_id,
        **_similarity(result),
    }


def _similarity(result: AgentResult) -> dict[str, object]:
    # Not the task that it answers: a log has no prompts.
    match = None if result.cached is None else result.cached.match
    return {} if match is None else {"similarity": round(match.similarity, 4)}


def _is_heard() -> bool:
    """Whether any handler but our null handler gets our records; a few look-ups, since every call asks."""
    if _log.handlers or len(_package_log.handlers) > 1:
        return True
    return _log.propagate and _package_log.propagate and bool(logging.root.handlers)
