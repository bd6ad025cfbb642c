"""Spans and metrics at a receiver that speaks OTLP over a real socket."""

from __future__ import annotations

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from claude_force import OpenTelemetryListener

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import MakeAsync, Process, Project

    from claude_force.simulator import SimulatorThread

TEAM = {
    "name": "team",
    "steps": [
        {"id": "one", "agent": "writer", "task": "One."},
        {"id": "two", "agent": "reader", "task": "Two.", "dependencies": ["one"]},
    ],
}


class Collector:
    """What a collector was sent, by the path it was sent to."""

    def __init__(self) -> None:
        self.traces: list[Any] = []
        self.metrics: list[Any] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    import gzip

                    body = gzip.decompress(body)
                if self.path == "/v1/traces":
                    collector.traces.append(ExportTraceServiceRequest.FromString(body))
                else:
                    collector.metrics.append(ExportMetricsServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def spans(self) -> list[Any]:
        return [
            span
            for request in self.traces
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


class Local:
    """A listener whose spans and metrics stay in memory."""

    def __init__(self, **options: bool) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracers = tracers
        self.listener = OpenTelemetryListener(
            tracer_provider=tracers, meter_provider=MeterProvider([self._reader]), **options
        )

    def spans(self) -> dict[str, Any]:
        return {span.name: span for span in self._exporter.get_finished_spans()}

    def names(self) -> list[str]:
        return sorted(span.name for span in self._exporter.get_finished_spans())

    def points(self, metric: str) -> list[Any]:
        data = self._reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for found in scope.metrics
            if found.name == metric
            for point in found.data.data_points
        ]


def test_a_run_from_the_command_line_reaches_a_collector_as_one_tree(
    project: Project, process: Process, collector: Collector
) -> None:
    project.agent("writer")
    project.agent("reader")
    project.config(workflows={"team": TEAM})
    run = process(
        *("run", "workflow", "team", "--task", "A secret of the task.", "--otel"),
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url},
    )
    assert run.code == 0, run.err
    spans = {span.name: span for span in collector.spans()}
    parents = {span.span_id: span.name for span in collector.spans()}
    assert {
        name: parents.get(span.parent_span_id)
        for name, span in spans.items()
        if not name.startswith("chat ")
    } == {
        "invoke_workflow team": None,
        "step one": "invoke_workflow team",
        "step two": "invoke_workflow team",
        "invoke_agent writer": "step one",
        "invoke_agent reader": "step two",
    }
    chats = [span for span in collector.spans() if span.name.startswith("chat ")]
    assert sorted(parents[span.parent_span_id] for span in chats) == [
        "invoke_agent reader",
        "invoke_agent writer",
    ]
    assert len({span.trace_id for span in collector.spans()}) == 1
    resource = collector.traces[0].resource_spans[0].resource
    services = {item.key: item.value.string_value for item in resource.attributes}
    assert services["service.name"] == "claude-force"
    names = {
        metric.name
        for request in collector.metrics
        for resource_metrics in request.resource_metrics
        for scope in resource_metrics.scope_metrics
        for metric in scope.metrics
    }
    assert names == {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"}
    sent = str(collector.traces) + str(collector.metrics)
    assert "A secret of the task" not in sent
    assert "Simulated" not in sent


def test_a_collector_that_is_gone_costs_no_answer(project: Project, process: Process) -> None:
    project.agent("writer")
    run = process(
        *("run", "agent", "writer", "--task", "Name a colour.", "--otel", "--json"),
        env={
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        },
    )
    assert run.code == 0, run.err
    assert run.json["ok"] is True
    # Once, however often the exporters have tried.
    assert [
        line for line in run.err.splitlines() if "collector" in line or "Transient" in line
    ] == [
        "Warning: the collector has not got all spans and metrics; "  # noqa: ISC004 - one line
        "OTEL_EXPORTER_OTLP_ENDPOINT names it, else it is http://localhost:4318"
    ]


def test_a_call_belongs_to_the_span_that_is_current_where_it_is_made(
    project: Project, make_force: MakeAsync
) -> None:
    project.agent("writer", model="sonnet")
    local = Local()

    async def main() -> Any:
        async with make_force(listeners=[local.listener]) as force:
            with local.tracers.get_tracer("test").start_as_current_span("request of a user"):
                return await force.run_agent("writer", "Name a colour.")

    result = asyncio.run(main())
    spans = local.spans()
    call = spans["invoke_agent writer"]
    chat = spans[f"chat {result.requested_model}"]
    assert call.parent.span_id == spans["request of a user"].context.span_id
    assert chat.parent.span_id == call.context.span_id
    assert chat.attributes["gen_ai.operation.name"] == "chat"
    assert chat.attributes["gen_ai.provider.name"] == "anthropic"
    assert chat.attributes["gen_ai.response.model"] == result.model
    assert chat.attributes["gen_ai.usage.input_tokens"] == result.usage.total_input_tokens
    assert chat.attributes["gen_ai.usage.output_tokens"] == result.usage.output_tokens
    assert chat.attributes["gen_ai.response.finish_reasons"] == ("end_turn",)
    assert chat.attributes["claude_force.cost_usd"] == float(result.cost_usd)
    assert "gen_ai.output.messages" not in chat.attributes
    tokens = {
        point.attributes["gen_ai.token.type"]: point.sum
        for point in local.points("gen_ai.client.token.usage")
    }
    assert tokens == {
        "input": result.usage.total_input_tokens,
        "output": result.usage.output_tokens,
    }


def test_content_is_exported_only_when_asked_for(project: Project, make_force: MakeAsync) -> None:
    project.agent("writer")
    local = Local(capture_content=True)

    async def main() -> Any:
        async with make_force(listeners=[local.listener]) as force:
            return await force.run_agent("writer", "Name a colour.")

    result = asyncio.run(main())
    exported = local.spans()["invoke_agent writer"].attributes["gen_ai.output.messages"]
    import json

    assert json.loads(exported) == [
        {"role": "assistant", "parts": [{"type": "text", "content": result.text}]}
    ]


def test_a_hit_is_a_call_without_an_attempt_and_counts_in_no_metric(
    project: Project, make_force: MakeAsync
) -> None:
    project.agent("writer")
    local = Local()

    async def main() -> None:
        async with make_force(listeners=[local.listener]) as force:
            for _ in range(2):
                await force.run_agent("writer", "Name a colour.")

    asyncio.run(main())
    assert [name.split()[0] for name in local.names()] == ["chat", "invoke_agent", "invoke_agent"]
    assert sum(point.count for point in local.points("gen_ai.client.operation.duration")) == 1


def test_every_failed_attempt_has_a_span_with_the_kind_of_its_error_and_no_message(
    project: Project, make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    from claude_force.domain.errors import ServiceError
    from claude_force.simulator import Fault, FaultKind

    project.agent("writer")
    local = Local()
    for _ in range(2):
        simulator.queue_fault(Fault(kind=FaultKind.OVERLOADED))

    async def main() -> None:
        async with make_force(listeners=[local.listener], max_retries=1) as force:
            with pytest.raises(ServiceError):
                await force.run_agent("writer", "Name a colour.")

    asyncio.run(main())
    spans = local.spans()
    assert [name.split()[0] for name in local.names()] == ["chat", "chat", "invoke_agent"]
    call = spans["invoke_agent writer"]
    assert call.attributes["error.type"] == "service"
    assert call.status.description == "service"
    (point,) = local.points("gen_ai.client.operation.duration")
    assert point.attributes["error.type"] == "service"


def test_what_was_cancelled_ends_with_the_listener(
    project: Project, make_force: MakeAsync, simulator: SimulatorThread
) -> None:
    project.agent("writer")
    simulator.use_scenario("slow")
    local = Local()

    async def main() -> None:
        async with make_force(listeners=[local.listener]) as force:
            call = asyncio.create_task(force.run_agent("writer", "Name a colour."))
            await asyncio.sleep(0.2)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

    asyncio.run(main())
    local.listener.close()
    assert local.spans()["invoke_agent writer"].attributes["error.type"] == "cancelled"
    local.listener.close()
