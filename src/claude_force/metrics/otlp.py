"""Sends spans and metrics to a collector, for those who run claude-force from the command line."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager, suppress
from threading import Thread
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

_LOG: Final = logging.getLogger(__name__)

# What a run waits for at its end, when the collector does not answer.
_FLUSH_SECONDS: Final = 5.0
_ABORT_SECONDS: Final = 0.5


@contextmanager
def exported() -> Iterator[OpenTelemetryListener]:
    """A listener whose spans and metrics go to a collector by OTLP over HTTP; they are flushed at the end.

    The standard variables of OpenTelemetry say where and how: ``OTEL_EXPORTER_OTLP_ENDPOINT`` (default
    ``http://localhost:4318``), ``OTEL_EXPORTER_OTLP_HEADERS``, ``OTEL_SERVICE_NAME`` (default ``claude-force``),
    ``OTEL_RESOURCE_ATTRIBUTES``. A collector that is gone costs nothing but what it would have got, 5 s at the end at
    most, and one warning.
    """
    own = Resource({"service.name": "claude-force", "service.version": __version__})
    resource = own.merge(OTELResourceDetector().detect())
    with _failures() as failures:
        spans = OTLPSpanExporter()
        tracers = TracerProvider(resource=resource)
        tracers.add_span_processor(BatchSpanProcessor(spans))
        figures = OTLPMetricExporter()
        reader = PeriodicExportingMetricReader(figures)
        meters = MeterProvider(metric_readers=[reader], resource=resource)
        listener = OpenTelemetryListener(tracer_provider=tracers, meter_provider=meters)
        try:
            yield listener
        finally:
            listener.close()
            _flush(tracers, meters, (spans, figures))
            tracers.shutdown()
    if failures:
        _LOG.info("the exporter of OpenTelemetry said", extra={"error": failures[0]})
        _LOG.warning(
            "the collector has not got all spans and metrics; OTEL_EXPORTER_OTLP_ENDPOINT names it, "
            "else it is http://localhost:4318"
        )


def _flush(
    tracers: TracerProvider,
    meters: MeterProvider,
    exporters: tuple[OTLPSpanExporter, OTLPMetricExporter],
) -> None:
    """Send what is left, both at the same time: each would wait for a collector that is gone."""
    milliseconds = int(_FLUSH_SECONDS * 1000)

    def end_meters() -> None:
        # It says by an exception that the time is over.
        with suppress(Exception):
            meters.shutdown(milliseconds)

    threads = [
        Thread(target=tracers.force_flush, args=(milliseconds,), daemon=True),
        Thread(target=end_meters, daemon=True),
    ]
    deadline = time.monotonic() + _FLUSH_SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    # Ends what still tries, so that nothing waits for it any more.
    for exporter in exporters:
        exporter.shutdown()
    for thread in threads:
        thread.join(_ABORT_SECONDS)


@contextmanager
def _failures() -> Iterator[list[str]]:
    """What the exporters warn about within the block, kept from the terminal: they repeat it at every attempt."""
    told: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    logger, keeper = logging.getLogger("opentelemetry"), Keeper(logging.WARNING)
    logger.addHandler(keeper)
    try:
        yield told
    finally:
        logger.removeHandler(keeper)
