r"""The error tree. Every error that leaves this package is a `ClaudeForceError`.

::

    ClaudeForceError                     exit code 1
    ├── InputError (ValueError)          3   refused before anything was sent
    │   ├── ConfigError                      claude.json, environment, arguments
    │   ├── AgentError
    │   │   ├── InvalidAgentNameError
    │   │   ├── AgentNotFoundError (also LookupError)
    │   │   └── AgentDefinitionError
    │   ├── TaskError                        too large, empty
    │   ├── AttachmentError                  a file that cannot go into a prompt
    │   ├── ItemsError                       the input file of a map
    │   ├── WorkflowDefinitionError
    │   ├── BudgetExceededError          8   the worst case of a call does not fit into a budget
    │   └── OptionalDependencyError (also ImportError)
    ├── MissingCredentialsError          4
    ├── CallError                        5   something was sent, and no complete answer came back
    │   ├── InvalidRequestError              400, 404, 413, 422
    │   ├── AuthenticationError          4   401, 403
    │   ├── SpendLimitError              8   402, a spend cap: stops the run
    │   ├── RateLimitError                   429
    │   ├── ServiceError                     408, 409, 500, 503, 504, 529
    │   │   └── CircuitOpenError             not sent: the service has failed several times in a row
    │   ├── TransportError                   no connection, cut or broken stream
    │   │   └── CertificateError             not sent: the server cannot prove who it is
    │   ├── CallTimeoutError (TimeoutError)  9
    │   ├── RunStoppedError            130   not sent: the user has stopped the run
    │   ├── BatchCanceledError               its batch was canceled before it was reached
    │   ├── IncompleteAnswerError        6   refusal, cut off by max_tokens, empty
    │   └── AnswerSchemaError            6   a whole answer that does not follow its step's schema, repaired once in vain
    ├── JournalError                     1   what a run does cannot be kept, so it was stopped
    ├── PartialFailureError              7   some items or steps failed (module partial_failure)
    │   └── RunCappedError               8   … because a spend cap stopped the run
    └── ClosedError                          used after aclose()

Exit codes 0 (success), 1 (a check found something, or an unexpected failure), 2 (wrong command line) and
130 (interrupted) have no class here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from claude_force.domain.usage import NO_USAGE, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from claude_force.domain.discounts import Discounts
    from claude_force.domain.messages import MessageResponse


class ClaudeForceError(Exception):
    """Base of every error of this package. ``str(error)`` says what happened and what to do next."""

    exit_code: ClassVar[int] = 1
    # A stable word for machines: in JSON output, metrics and logs.
    kind: ClassVar[str] = "error"


class InputError(ClaudeForceError, ValueError):
    """What the user gave cannot be used. Nothing was sent and nothing was spent."""

    exit_code = 3
    kind = "input"


class ConfigError(InputError):
    """The configuration cannot be used."""

    kind = "config"


class AgentError(InputError):
    """Something is wrong with an agent."""

    kind = "agent"


class InvalidAgentNameError(AgentError):
    """The name is not one that an agent can have."""

    kind = "invalid_agent_name"


class AgentNotFoundError(AgentError, LookupError):
    """No scope has an agent of that name."""

    kind = "agent_not_found"


class AgentDefinitionError(AgentError):
    """The file of the agent cannot be read as an agent."""

    kind = "agent_definition"


class TaskError(InputError):
    """The task is empty or too large."""

    kind = "task"


class AttachmentError(InputError):
    """A file cannot go into a prompt: missing, binary, too large, outside of what may be read."""

    kind = "attachment"


class ItemsError(InputError):
    """The items of a map cannot be used."""

    kind = "items"


class WorkflowDefinitionError(InputError):
    """A workflow cannot run as it is written. ``problems`` holds every problem found, each with its place."""

    kind = "workflow_definition"

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class BudgetExceededError(InputError):
    """The worst case of a call does not fit into a budget, or its price is unknown. It was not sent."""

    exit_code = 8
    kind = "budget_exceeded"

    def __init__(
        self,
        message: str,
        *,
        budget: tuple[str, str] | None = None,
        missing_usd: Decimal | None = None,
    ) -> None:
        super().__init__(message)
        # Scope and name of the budget, such as ("agent", "writer").
        self.budget = budget
        # What the call would have needed beyond what was left; None where its price is unknown.
        self.missing_usd = missing_usd


class OptionalDependencyError(InputError, ImportError):
    """A feature needs an extra that is not installed; the message names the command that installs it."""

    kind = "optional_dependency"


class MissingCredentialsError(ClaudeForceError):
    """There is no API key, and no simulator was asked for."""

    exit_code = 4
    kind = "missing_credentials"


class CallError(ClaudeForceError):
    """A request went out, or was about to, and no complete answer came back."""

    exit_code = 5
    kind = "call"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        error_type: str | None = None,
        error_code: str | None = None,
        request_id: str | None = None,
        retry_after_seconds: float | None = None,
        should_retry: bool | None = None,
        usages: Sequence[Usage] = (),
        attempts: int = 1,
    ) -> None:
        super().__init__(message)
        # HTTP status, where a response arrived.
        self.status = status
        # `error.type` and `error.details.error_code` of the API's error body.
        self.error_type = error_type
        self.error_code = error_code
        self.request_id = request_id
        # What the response's headers ask for.
        self.retry_after_seconds = retry_after_seconds
        self.should_retry = should_retry
        # Tokens that the API may bill although no answer can be used: one entry a request, since tiers of prices
        # depend on the size of a single request.
        self.usages = tuple(usages)
        # Dollars for them; None while nobody has priced them, or no price is known.
        self.cost_usd: Decimal | None = None
        # What made them cheaper than asked plainly; None as above.
        self.discounts: Discounts | None = None
        # Requests sent.
        self.attempts = attempts
        # The agent that asked; filled in where it is known.
        self.agent_name: str | None = None

    @property
    def usage(self) -> Usage:
        """What ``usages`` comes to."""
        return sum(self.usages, NO_USAGE)


class InvalidRequestError(CallError):
    """The API refuses the request as it is; sending it again would not help."""

    kind = "invalid_request"


class AuthenticationError(CallError):
    """The API does not accept the key, or the key may not do this."""

    exit_code = 4
    kind = "authentication"


class SpendLimitError(CallError):
    """A spend cap is reached. The run stops at once; what was finished is kept."""

    exit_code = 8
    kind = "spend_limit"


class RateLimitError(CallError):
    """The API asks to slow down."""

    kind = "rate_limit"


class ServiceError(CallError):
    """The API has a fault of its own, or is overloaded."""

    kind = "service"


class CircuitOpenError(ServiceError):
    """Not sent: the service has failed several times in a row, and the next probe is not due yet."""

    kind = "circuit_open"


class TransportError(CallError):
    """The connection failed, or the stream of the answer was cut or broken."""

    kind = "transport"


class CertificateError(TransportError):
    """Not sent: the certificate of the server is not trusted, or is that of another host. It stops a run."""

    kind = "certificate"


class CallTimeoutError(CallError, TimeoutError):
    """A deadline passed before the answer was complete."""

    exit_code = 9
    kind = "timeout"


class RunStoppedError(CallError):
    """Not sent: the user has stopped the run. What was under way was let end."""

    exit_code = 130
    kind = "stopped"


class BatchCanceledError(CallError):
    """The batch of the request was canceled before it was reached; nothing was paid for it."""

    kind = "batch_canceled"


class IncompleteAnswerError(CallError):
    """The model answered, but not to the end: a refusal, `max_tokens`, a full context, or an empty text.

    ``response`` holds what arrived, so that a paid text is not lost; it is never counted, cached or passed on.
    """

    exit_code = 6
    kind = "incomplete_answer"

    def __init__(self, message: str, *, response: MessageResponse) -> None:
        super().__init__(
            message,
            request_id=response.request_id,
            usages=(response.usage, *response.lost_usages),
            attempts=response.attempts,
        )
        self.response = response


class AnswerSchemaError(CallError):
    """A whole answer does not follow the JSON Schema of its step, and neither does the repaired one.

    ``text`` is the last answer. What the answers cost is counted where they are kept, not here.
    """

    exit_code = 6
    kind = "answer_schema"

    def __init__(self, message: str, *, text: str) -> None:
        super().__init__(message, attempts=0)
        self.text = text


class JournalError(ClaudeForceError):
    """The journal of a run cannot be read or written, or another process holds the run.

    A run whose journal fails is stopped before its next call is paid.
    """

    kind = "journal"


class ClosedError(ClaudeForceError, RuntimeError):
    """The orchestrator or client was used after it was closed."""

    kind = "closed"
