"""Runs teams of Claude agents that are defined in files.

Names are imported when they are first used, so that ``import claude_force`` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from claude_force._version import __version__

if TYPE_CHECKING:
    from claude_force.agents.attachments import Attachment, collect_files
    from claude_force.agents.calls import AgentCall
    from claude_force.assembly.batching_submissions import SubmissionProgress
    from claude_force.assembly.exporting import prometheus_collector, serve_prometheus
    from claude_force.assembly.metering import open_metrics
    from claude_force.assembly.remembering import open_memory
    from claude_force.cache.disk_pins import PinnedRun
    from claude_force.cache.pins import PinReport
    from claude_force.cache.response_cache import ResponseCache
    from claude_force.cache.semantic.embedder import Embedder
    from claude_force.dashboard.server import Dashboard
    from claude_force.domain.agents import AgentDefinition
    from claude_force.domain.discounts import Discounts
    from claude_force.domain.errors import (
        AgentDefinitionError,
        AgentError,
        AgentNotFoundError,
        AnswerSchemaError,
        AttachmentError,
        AuthenticationError,
        BatchCanceledError,
        BudgetExceededError,
        CallError,
        CallTimeoutError,
        CertificateError,
        CircuitOpenError,
        ClaudeForceError,
        ClosedError,
        ConfigError,
        IncompleteAnswerError,
        InputError,
        InvalidAgentNameError,
        InvalidRequestError,
        ItemsError,
        JournalError,
        MissingCredentialsError,
        OptionalDependencyError,
        RateLimitError,
        RunStoppedError,
        ServiceError,
        SpendLimitError,
        TaskError,
        TransportError,
        WorkflowDefinitionError,
    )
    from claude_force.domain.events import (
        AnswerStarted,
        AttemptFailed,
        AttemptStarted,
        CallFailed,
        CallFinished,
        CallStarted,
        Event,
        EventListener,
        FellBack,
        RunFinished,
        RunStarted,
        StepFinished,
        StepStarted,
        TextDelta,
    )
    from claude_force.domain.messages import (
        NO_CACHE,
        REFRESH_CACHE,
        USE_CACHE,
        CacheHit,
        CacheUse,
        MessageRequest,
        MessageResponse,
        SemanticMatch,
    )
    from claude_force.domain.partial_failure import PartialFailureError, RunCappedError
    from claude_force.domain.results import AgentOutcome, AgentResult, StepResult, WorkflowResult
    from claude_force.domain.usage import Usage
    from claude_force.domain.warming import WarmReport
    from claude_force.memory.records import MemoryRecord, Recollection
    from claude_force.memory.store import MemoryStore
    from claude_force.metrics.open_telemetry import OpenTelemetryListener
    from claude_force.metrics.reader import MetricsReader
    from claude_force.metrics.savings import Savings
    from claude_force.orchestrator import AsyncAgentOrchestrator
    from claude_force.provider.client import ModelClient
    from claude_force.provider.messages_api import MessagesApiClient
    from claude_force.provider.sdk import AnthropicSdkClient
    from claude_force.sync import AgentOrchestrator
    from claude_force.workflows.definition import ForEach, Step, Workflow
    from claude_force.workflows.plan_values import (
        AgentPlan,
        BudgetFit,
        CallsPlan,
        StepPlan,
        WorkflowPlan,
    )
    from claude_force.workflows.reading import parse_workflow
    from claude_force.workflows.submissions import BatchSubmission

# Public names by the module that defines them.
_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "claude_force.agents.attachments": ("Attachment", "collect_files"),
    "claude_force.agents.calls": ("AgentCall",),
    "claude_force.domain.agents": ("AgentDefinition",),
    "claude_force.domain.errors": (
        "AgentDefinitionError",
        "AgentError",
        "AgentNotFoundError",
        "AnswerSchemaError",
        "AttachmentError",
        "AuthenticationError",
        "BatchCanceledError",
        "BudgetExceededError",
        "CallError",
        "CallTimeoutError",
        "CertificateError",
        "CircuitOpenError",
        "ClaudeForceError",
        "ClosedError",
        "ConfigError",
        "IncompleteAnswerError",
        "InputError",
        "InvalidAgentNameError",
        "InvalidRequestError",
        "ItemsError",
        "JournalError",
        "MissingCredentialsError",
        "OptionalDependencyError",
        "RateLimitError",
        "RunStoppedError",
        "ServiceError",
        "SpendLimitError",
        "TaskError",
        "TransportError",
        "WorkflowDefinitionError",
    ),
    "claude_force.domain.events": (
        "AnswerStarted",
        "AttemptFailed",
        "AttemptStarted",
        "CallFailed",
        "CallFinished",
        "CallStarted",
        "FellBack",
        "Event",
        "EventListener",
        "RunFinished",
        "RunStarted",
        "StepFinished",
        "StepStarted",
        "TextDelta",
    ),
    "claude_force.assembly.batching_submissions": ("SubmissionProgress",),
    "claude_force.assembly.exporting": ("prometheus_collector", "serve_prometheus"),
    "claude_force.assembly.metering": ("open_metrics",),
    "claude_force.assembly.remembering": ("open_memory",),
    "claude_force.cache.response_cache": ("ResponseCache",),
    "claude_force.dashboard.server": ("Dashboard",),
    "claude_force.cache.semantic.embedder": ("Embedder",),
    "claude_force.memory.records": ("MemoryRecord", "Recollection"),
    "claude_force.memory.store": ("MemoryStore",),
    "claude_force.metrics.reader": ("MetricsReader",),
    "claude_force.domain.messages": (
        "NO_CACHE",
        "REFRESH_CACHE",
        "USE_CACHE",
        "CacheHit",
        "CacheUse",
        "MessageRequest",
        "MessageResponse",
        "SemanticMatch",
    ),
    "claude_force.domain.partial_failure": ("PartialFailureError", "RunCappedError"),
    "claude_force.domain.results": ("AgentOutcome", "AgentResult", "StepResult", "WorkflowResult"),
    "claude_force.domain.usage": ("Usage",),
    "claude_force.domain.warming": ("WarmReport",),
    "claude_force.domain.discounts": ("Discounts",),
    "claude_force.cache.disk_pins": ("PinnedRun",),
    "claude_force.cache.pins": ("PinReport",),
    "claude_force.metrics.savings": ("Savings",),
    "claude_force.orchestrator": ("AsyncAgentOrchestrator",),
    "claude_force.provider.client": ("ModelClient",),
    "claude_force.provider.messages_api": ("MessagesApiClient",),
    "claude_force.provider.sdk": ("AnthropicSdkClient",),
    "claude_force.metrics.open_telemetry": ("OpenTelemetryListener",),
    "claude_force.sync": ("AgentOrchestrator",),
    "claude_force.workflows.definition": ("ForEach", "Step", "Workflow"),
    "claude_force.workflows.plan_values": (
        "AgentPlan",
        "BudgetFit",
        "CallsPlan",
        "StepPlan",
        "WorkflowPlan",
    ),
    "claude_force.workflows.reading": ("parse_workflow",),
    "claude_force.workflows.submissions": ("BatchSubmission",),
}
_MODULE_OF: Final = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "NO_CACHE",
    "REFRESH_CACHE",
    "USE_CACHE",
    "AgentCall",
    "AgentDefinition",
    "AgentDefinitionError",
    "AgentError",
    "AgentNotFoundError",
    "AgentOrchestrator",
    "AgentOutcome",
    "AgentPlan",
    "AgentResult",
    "AnswerSchemaError",
    "AnswerStarted",
    "AnthropicSdkClient",
    "AsyncAgentOrchestrator",
    "Attachment",
    "AttachmentError",
    "AttemptFailed",
    "AttemptStarted",
    "AuthenticationError",
    "BatchCanceledError",
    "BatchSubmission",
    "BudgetExceededError",
    "BudgetFit",
    "CacheHit",
    "CacheUse",
    "CallError",
    "CallFailed",
    "CallFinished",
    "CallStarted",
    "CallTimeoutError",
    "CallsPlan",
    "CertificateError",
    "CircuitOpenError",
    "ClaudeForceError",
    "ClosedError",
    "ConfigError",
    "Dashboard",
    "Discounts",
    "Embedder",
    "Event",
    "EventListener",
    "FellBack",
    "ForEach",
    "IncompleteAnswerError",
    "InputError",
    "InvalidAgentNameError",
    "InvalidRequestError",
    "ItemsError",
    "JournalError",
    "MemoryRecord",
    "MemoryStore",
    "MessageRequest",
    "MessageResponse",
    "MessagesApiClient",
    "MetricsReader",
    "MissingCredentialsError",
    "ModelClient",
    "OpenTelemetryListener",
    "OptionalDependencyError",
    "PartialFailureError",
    "PinReport",
    "PinnedRun",
    "RateLimitError",
    "Recollection",
    "ResponseCache",
    "RunCappedError",
    "RunFinished",
    "RunStarted",
    "RunStoppedError",
    "Savings",
    "SemanticMatch",
    "ServiceError",
    "SpendLimitError",
    "Step",
    "StepFinished",
    "StepPlan",
    "StepResult",
    "StepStarted",
    "SubmissionProgress",
    "TaskError",
    "TextDelta",
    "TransportError",
    "Usage",
    "WarmReport",
    "Workflow",
    "WorkflowDefinitionError",
    "WorkflowPlan",
    "WorkflowResult",
    "__version__",
    "collect_files",
    "open_memory",
    "open_metrics",
    "parse_workflow",
    "prometheus_collector",
    "serve_prometheus",
]


def __getattr__(name: str) -> object:
    module_name = _MODULE_OF.get(name)
    if module_name is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only when a name is used

    value = getattr(import_module(module_name), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
