"""Tells OpenTelemetry what happens: spans for run, step, call and attempt, and the two metrics of GenAI clients.

Names follow the semantic conventions for generative AI, version 1.41 (``gen_ai.*``); what they have no name for is
``claude_force.*``. Text is never exported unless asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from claude_force._version import __version__
from claude_force.domain.errors import OptionalDependencyError
from claude_force.domain.events import (
    AnswerStarted,
    AttemptFailed,
    AttemptStarted,
    CallFailed,
    CallFinished,
    CallStarted,
    FellBack,
    RunFinished,
    RunStarted,
    StepFinished,
    StepStarted,
)

try:
    from opentelemetry import context as otel_context
    from opentelemetry import metrics, trace
except ImportError as error:  # pragma: no cover - the extra is part of the development environment
    raise OptionalDependencyError(
        "OpenTelemetry is asked for, but its packages are not installed. "
        "Install them with: pip install 'claude-force[otel]'"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider
    from opentelemetry.util.types import AttributeValue

    from claude_force.domain.events import Event
    from claude_force.domain.results import AgentResult

_SCOPE: Final = "claude_force"
_PROVIDER: Final = "anthropic"
# The buckets that the conventions advise, in seconds and in tokens.
_SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)  # fmt: skip
_TOKENS: Final = tuple(4**power for power in range(14))


@dataclass(slots=True)
class _Call:
    """A call under way."""

    span: Span
    model: str
    attempt: Span | None = None


class OpenTelemetryListener:
    """An event listener that makes spans and measures; hand it to an orchestrator as one of ``listeners``.

    The span of a workflow's run holds those of its steps, a step's those of its calls, a call's those of its
    attempts. A call outside a workflow belongs to the span that is current where the call is made. An answer from a
    cache has no attempt and counts in no metric: no model ran.

    Args:
        tracer_provider: makes the spans; None takes the global one.
        meter_provider: makes the metrics; None takes the global one.
        capture_content: put answers into spans (``gen_ai.output.messages``). Prompts are not in the events and are
            never exported.

    Raises:
        OptionalDependencyError: the packages of the extra ``otel`` are missing (when the module is imported).
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        capture_content: bool = False,
    ) -> None:
        self._tracer = trace.get_tracer(_SCOPE, __version__, tracer_provider)
        meter = metrics.get_meter(_SCOPE, __version__, meter_provider)
        self._seconds = meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="Duration of calls that were sent, retries and waits included.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Tokens of calls that were sent, by type.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
        self._capture_content = capture_content
        self._calls: dict[str, _Call] = {}
        # Spans of runs by run id, and of steps by run and step id.
        self._runs: dict[str, Span] = {}
        self._steps: dict[tuple[str, str], Span] = {}
        self._takers: dict[type, Callable[..., None]] = {
            CallStarted: self._call_started,
            AttemptStarted: self._attempt_started,
            AnswerStarted: self._answer_started,
            AttemptFailed: self._attempt_failed,
            FellBack: self._fell_back,
            CallFinished: self._call_finished,
            CallFailed: self._call_failed,
            RunStarted: self._run_started,
            StepStarted: self._step_started,
            StepFinished: self._step_finished,
            RunFinished: self._run_finished,
        }

    def __call__(self, event: Event) -> None:
        """Take one event."""
        taker = self._takers.get(type(event))
        if taker is not None:
            taker(event)

    def close(self) -> None:
        """End the spans of what was cancelled, of which no event tells. The providers are left to their owner."""
        for call in self._calls.values():
            _end_all(call.attempt, call.span)
        _end_all(*self._steps.values(), *self._runs.values())
        self._calls.clear()
        self._steps.clear()
        self._runs.clear()

    def _run_started(self, event: RunStarted) -> None:
        self._runs[event.run_id] = self._tracer.start_span(
            f"invoke_workflow {event.workflow_name}",
            attributes={
                "gen_ai.operation.name": "invoke_workflow",
                "gen_ai.workflow.name": event.workflow_name,
                "claude_force.run.id": event.run_id,
                "claude_force.run.steps": len(event.step_ids),
            },
        )

    def _step_started(self, event: StepStarted) -> None:
        self._steps[event.run_id, event.step_id] = self._tracer.start_span(
            f"step {event.step_id}",
            context=_inside(self._runs.get(event.run_id)),
            attributes={
                "claude_force.run.id": event.run_id,
                "claude_force.step.id": event.step_id,
                "gen_ai.agent.name": event.agent_name,
            },
        )

    def _step_finished(self, event: StepFinished) -> None:
        span = self._steps.pop((event.run_id, event.step.step_id), None)
        if span is None:
            return
        span.set_attribute("claude_force.step.state", event.step.state)
        if event.step.error is not None:
            _fail(span, event.step.error.kind)
        span.end()

    def _run_finished(self, event: RunFinished) -> None:
        for key in [key for key in self._steps if key[0] == event.run_id]:
            self._steps.pop(key).end()
        span = self._runs.pop(event.run_id, None)
        if span is not None:
            if not event.ok:
                _fail(span, "failed_steps")
            span.end()

    def _call_started(self, event: CallStarted) -> None:
        attributes: dict[str, AttributeValue] = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": _PROVIDER,
            "gen_ai.agent.name": event.agent_name,
            "gen_ai.request.model": event.model,
            "claude_force.call.id": event.call_id,
        }
        if event.run_id is not None:
            attributes["claude_force.run.id"] = event.run_id
        if event.item_index is not None:
            attributes["claude_force.item.index"] = event.item_index
        parent = self._steps.get((event.run_id or "", event.step_id or ""))
        span = self._tracer.start_span(
            f"invoke_agent {event.agent_name}", context=_inside(parent), attributes=attributes
        )
        self._calls[event.call_id] = _Call(span, event.model)

    def _attempt_started(self, event: AttemptStarted) -> None:
        call = self._calls.get(event.call_id)
        if call is None:
            return
        call.attempt = self._tracer.start_span(
            f"chat {call.model}",
            context=_inside(call.span),
            kind=trace.SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": _PROVIDER,
                "gen_ai.request.model": call.model,
                "claude_force.attempt": event.attempt,
            },
        )

    def _answer_started(self, event: AnswerStarted) -> None:
        call = self._calls.get(event.call_id)
        if call is not None and call.attempt is not None:
            call.attempt.add_event("claude_force.answer_started")

    def _attempt_failed(self, event: AttemptFailed) -> None:
        call = self._calls.get(event.call_id)
        if call is not None and call.attempt is not None:
            _fail(call.attempt, event.error_kind)
            call.attempt.end()
            call.attempt = None

    def _fell_back(self, event: FellBack) -> None:
        call = self._calls.get(event.call_id)
        if call is not None:
            call.model = event.next_model
            call.span.add_event(
                "claude_force.fell_back",
                {"from": event.failed_model, "to": event.next_model, "reason": event.error_kind},
            )

    def _call_finished(self, event: CallFinished) -> None:
        call = self._calls.pop(event.call_id, None)
        if call is None:
            return
        answered = self._result_attributes(event.result)
        if call.attempt is not None:
            call.attempt.set_attributes(answered)
            call.attempt.end()
        call.span.set_attributes(answered)
        call.span.end()
        if event.result.cached is None:
            self._measure(event.result)

    def _call_failed(self, event: CallFailed) -> None:
        call = self._calls.pop(event.call_id, None)
        if call is None:
            return
        for span in (call.attempt, call.span):
            if span is not None:
                _fail(span, event.error_kind)
                span.end()
        self._seconds.record(
            event.seconds, {**_labels(call.model, None), "error.type": event.error_kind}
        )

    def _result_attributes(self, result: AgentResult) -> dict[str, AttributeValue]:
        usage = result.usage
        found: dict[str, AttributeValue] = {
            "gen_ai.response.model": result.model,
            "gen_ai.response.finish_reasons": [result.stop_reason or "unknown"],
            "gen_ai.usage.input_tokens": usage.total_input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cache_read_tokens,
            "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
            "claude_force.attempts": result.attempts,
        }
        if result.request_id is not None:
            found["claude_force.request.id"] = result.request_id
        if result.cost_usd is not None:
            found["claude_force.cost_usd"] = float(result.cost_usd)
        if result.cached is not None:
            found["claude_force.cache.tier"] = result.cached.tier
            if result.cached.match is not None:
                found["claude_force.cache.similarity"] = result.cached.match.similarity
        if self._capture_content:
            found["gen_ai.output.messages"] = _messages(result.text)
        return found

    def _measure(self, result: AgentResult) -> None:
        labels = _labels(result.requested_model, result.model)
        self._seconds.record(result.seconds, labels)
        usage = result.usage
        for kind, tokens in (("input", usage.total_input_tokens), ("output", usage.output_tokens)):
            self._tokens.record(tokens, {**labels, "gen_ai.token.type": kind})


def _labels(requested: str, answered: str | None) -> dict[str, AttributeValue]:
    labels: dict[str, AttributeValue] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": _PROVIDER,
        "gen_ai.request.model": requested,
    }
    return labels if answered is None else {**labels, "gen_ai.response.model": answered}


def _inside(parent: Span | None) -> Context:
    """The context of a child of ``parent``; without one that of the caller."""
    current = otel_context.get_current()
    return current if parent is None else trace.set_span_in_context(parent, current)


def _fail(span: Span, kind: str) -> None:
    # The kind only: a message may quote what the API said about the prompt.
    span.set_attribute("error.type", kind)
    span.set_status(trace.StatusCode.ERROR, kind)


def _end_all(*spans: Span | None) -> None:
    for span in spans:
        if span is not None:
            _fail(span, "cancelled")
            span.end()


def _messages(text: str) -> str:
    import json  # noqa: PLC0415 - only where content is asked for

    part = {"type": "text", "content": text}
    return json.dumps([{"role": "assistant", "parts": [part]}], ensure_ascii=False)
