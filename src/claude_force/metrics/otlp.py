"""Sends spans and metrics to a collector, for those who run claude-force from the command line."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from claude_force._version import __version__
from claude_force.domain.errors import OptionalDependencyError
from claude_force.metrics.open_telemetry import OpenTelemetryListener

try:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
except ImportError as error:  # pragma: no cover - the extra is part of the development environment
    raise OptionalDependencyError(
        "OpenTelemetry is asked for, but its packages are not installed. "
        "Install them with: pip install 'claude-force[otel]'"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a run waits for at its end when the collector does not answer.
_FLUSH_MS: Final = 5_000


@contextmanager
def exported() -> Iterator[OpenTelemetryListener]:
    """A listener whose spans and metrics go to a collector by OTLP over HTTP; they are flushed at the end.

    The standard variables of OpenTelemetry say where and how: ``OTEL_EXPORTER_OTLP_ENDPOINT`` (default
    ``http://localhost:4318``), ``OTEL_EXPORTER_OTLP_HEADERS``, ``OTEL_SERVICE_NAME`` (default ``claude-force``),
    ``OTEL_RESOURCE_ATTRIBUTES``. A collector that is gone costs nothing but what it would have got, and 5 s at the
    end at most.
    """
    own = Resource({"service.name": "claude-force", "service.version": __version__})
    resource = own.merge(OTELResourceDetector().detect())
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    meters = MeterProvider(metric_readers=[reader], resource=resource)
    listener = OpenTelemetryListener(tracer_provider=tracers, meter_provider=meters)
    try:
        yield listener
    finally:
        listener.close()
        tracers.force_flush(_FLUSH_MS)
        tracers.shutdown()
        meters.shutdown(_FLUSH_MS)
