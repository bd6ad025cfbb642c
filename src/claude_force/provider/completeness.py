"""Says of an unfinished answer what is missing, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_force.domain.errors import IncompleteAnswerError
from claude_force.provider.failures import quoted

if TYPE_CHECKING:
    from claude_force.domain.messages import MessageRequest, MessageResponse


def incomplete_answer(request: MessageRequest, response: MessageResponse) -> IncompleteAnswerError:
    """The error for a response that is not complete; it keeps the response."""
    error = IncompleteAnswerError(_what(request, response), response=response)
    error.agent_name = request.context.agent_name or None
    error.cost_usd = response.cost_usd
    error.discounts = response.discounts
    return error


def _what(request: MessageRequest, response: MessageResponse) -> str:  # noqa: PLR0911 - a table of texts
    match response.stop_reason:
        case "max_tokens" if request.context.continue_rounds:
            return (
                f"The answer was cut off at max_tokens={request.max_tokens:,}, also when it was continued (at most "
                f"{request.context.continue_rounds} times). Allow more continuations (--continue-truncated), a longer answer "
                "(--max-tokens), or ask for less."
            )
        case "max_tokens":
            return (
                f"The answer was cut off at max_tokens={request.max_tokens:,}. "
                "Allow a longer one (--max-tokens), have it continued (--continue-truncated), or ask for less."
            )
        case "refusal":
            return f"The model refused to answer{_refusal(response)}. Reword the task, or ask another model."
        case "model_context_window_exceeded":
            return "The answer was cut off because the model's context is full. Send less material."
        case "pause_turn":
            return "The model paused its turn before the answer was complete. Run the call again."
        case None:
            return "The answer ended without a reason, so it cannot be taken as complete."
        case "end_turn" | "stop_sequence":
            return "The model answered with no text. Reword the task, or allow more tokens (--max-tokens)."
        case other:
            return f"The answer ended for a reason that is not known here ({quoted(other)!r})."


def _refusal(response: MessageResponse) -> str:
    details = response.stop_details or {}
    said = [str(details[key]) for key in ("category", "explanation") if details.get(key)]
    return f" ({quoted(': '.join(said))})" if said else ""
