"""Traces, metrics and logs of one process.

Traces follow W3C Trace Context: `libs.context.traceparent` holds the present one, as text, for whoever passes work on.
A span is recorded only in a sampled trace; the others cost little more than carrying the text. Metrics are those of
Prometheus. Logs are one JSON object per line on stderr: a stable event name, fields, the trace id; requests never.
"""

import logging
import random
import re
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import structlog
from google.protobuf.message import Message
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, generate_latest

from libs.context import traceparent as _traceparent

__all__ = [
    "REGISTRY",
    "RPC_IN_FLIGHT",
    "RPC_SECONDS",
    "TASK_RESTARTS",
    "Histogram",
    "SpanKind",
    "extract",
    "metrics_text",
    "recording",
    "setup",
    "shutdown",
    "span",
    "trace_id",
    "traceparent",
]

SPAN_QUEUE_MAX = 4096
LOG_VALUE_CHARS_MAX = 2000

RPC_SECONDS = Histogram(
    "quintet_rpc_seconds",
    "Time to serve one call, from its headers to its status.",
    ["part", "method", "code"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120),
)
RPC_IN_FLIGHT = Gauge("quintet_rpc_in_flight", "Calls being served now.", ["part"])
TASK_RESTARTS = Counter(
    "quintet_task_restarts", "Background tasks that crashed and were started again.", ["part", "task"]
)

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_SECRET_KEYS = re.compile(r"password|passwd|secret|token|authorization|credential|private|cookie|dsn", re.IGNORECASE)


class _Tracing:
    """What `setup` made; without it every trace is carried and none recorded."""

    provider: TracerProvider | None = None
    tracer: trace.Tracer | None = None
    ratio: float = 0.0


def setup(
    service: str,
    *,
    otlp_endpoint: str | None = None,
    trace_ratio: float = 0.0,
    log_level: str = "info",
) -> None:
    """Configure the process once, from its entry point. Traces are exported only when an endpoint is given."""
    _setup_logs(log_level)
    if otlp_endpoint:
        # Loaded only when used: it takes longer than the rest of this module.
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter(endpoint=otlp_endpoint, insecure=otlp_endpoint.startswith("http://"))
        provider = _provider(service, trace_ratio)
        provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=SPAN_QUEUE_MAX))
        _install(provider, trace_ratio)


def shutdown() -> None:
    """Export what is left of the spans."""
    if _Tracing.provider is not None:
        _Tracing.provider.shutdown()
    _install(None, 0.0)


@contextmanager
def recording(service: str = "test") -> Iterator[InMemorySpanExporter]:
    """Record every span in memory for the length of the block: for tests."""
    before = (_Tracing.provider, _Tracing.ratio)
    exporter: SpanExporter = InMemorySpanExporter()
    provider = _provider(service, 1.0)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    _install(provider, 1.0)
    try:
        assert isinstance(exporter, InMemorySpanExporter)  # noqa: S101 - tells mypy
        yield exporter
    finally:
        _install(*before)


def _provider(service: str, ratio: float) -> TracerProvider:
    sampler = ParentBased(TraceIdRatioBased(ratio))
    return TracerProvider(sampler=sampler, resource=Resource.create({"service.name": service}))


def _install(provider: TracerProvider | None, ratio: float) -> None:
    _Tracing.provider = provider
    _Tracing.tracer = provider.get_tracer("quintet") if provider else None
    _Tracing.ratio = ratio


# -------------------------------------------------------------------------------------------------------------- traces


def traceparent() -> str:
    """Return the present W3C trace context, "" when there is none."""
    return _traceparent.get()


def trace_id() -> str:
    """Return the present trace id, 32 hex digits, "" when there is none."""
    return _traceparent.get()[3:35]


def extract(text: str) -> str:
    """Return a traceparent that came from outside when it is well formed, else ""."""
    return text if _TRACEPARENT.fullmatch(text) else ""


class span:  # noqa: N801 - read as a function: `with span("outbox.relay"):`
    """A piece of work in a trace: continues `parent`, or the present trace, or begins one.

    Attributes are recorded and exported: never secrets, personal data or request contents.
    """

    __slots__ = ("_attributes", "_before", "_kind", "_name", "_parent", "_span")

    def __init__(
        self,
        name: str,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        parent: str | None = None,
        attributes: Mapping[str, str | int | float] | None = None,
    ) -> None:
        self._name = name
        self._kind = kind
        self._parent = parent
        self._attributes = attributes
        self._span: trace.Span | None = None
        self._before = ""

    def __enter__(self) -> Self:
        self._before = _traceparent.get()
        parent = self._before if self._parent is None else self._parent
        if parent and not int(parent[-2:], 16) & TraceFlags.SAMPLED:
            _traceparent.set(parent)
        elif _Tracing.tracer is None or (not parent and _Tracing.ratio == 0):
            _traceparent.set(parent or _unsampled())
        else:
            self._start(_Tracing.tracer, parent)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._span is not None:
            if error is not None:
                # The class only: messages may quote what was asked for.
                self._span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            self._span.end()
        # Not by token: a generator may be closed in another context than it was started in.
        _traceparent.set(self._before)

    def _start(self, tracer: trace.Tracer, parent: str) -> None:
        above = Context()
        if parent:
            flags = TraceFlags(int(parent[-2:], 16))
            context = SpanContext(int(parent[3:35], 16), int(parent[36:52], 16), is_remote=True, trace_flags=flags)
            above = trace.set_span_in_context(NonRecordingSpan(context), above)
        started = tracer.start_span(self._name, above, self._kind, self._attributes)
        made = started.get_span_context()
        _traceparent.set(f"00-{made.trace_id:032x}-{made.span_id:016x}-{int(made.trace_flags):02x}")
        if started.is_recording():
            self._span = started

    def set(self, key: str, value: str | float) -> None:
        if self._span is not None:
            self._span.set_attribute(key, value)

    def failed(self, code: str) -> None:
        """Mark the work as failed although it raises nothing here."""
        if self._span is not None:
            self._span.set_status(Status(StatusCode.ERROR, code))


def _unsampled() -> str:
    # The trace is not recorded, but its id still joins log lines and audit entries of one call.
    return f"00-{random.getrandbits(128) or 1:032x}-{random.getrandbits(64) or 1:016x}-00"


# ------------------------------------------------------------------------------------------------------------- metrics


def metrics_text() -> bytes:
    """Return all metrics of this process in Prometheus's text format."""
    return generate_latest()


# ---------------------------------------------------------------------------------------------------------------- logs

Event = MutableMapping[str, Any]


def _setup_logs(level: str) -> None:
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
        _redact,
        structlog.processors.format_exc_info,
    ]
    number = getattr(logging, level.upper())
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Libraries log through the standard module; their lines get the same shape.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_from_library, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))


def _from_library(_logger: Any, _method: str, event: Event) -> Event:
    record: logging.LogRecord = event["_record"]
    event.update(event="library.log", logger=record.name, message=event["event"])
    return event


def _add_trace(_logger: Any, _method: str, event: Event) -> Event:
    found = trace_id()
    if found:
        event["trace_id"] = found
    return event


def _redact(_logger: Any, _method: str, event: Event) -> Event:
    """Keep out what must not stand in logs, whoever passes it: secrets by the field's name, messages as a whole."""
    for key, value in event.items():
        if isinstance(value, Message):
            event[key] = f"<{value.DESCRIPTOR.full_name}>"
        elif _SECRET_KEYS.search(key):
            event[key] = "***"
        elif isinstance(value, str) and len(value) > LOG_VALUE_CHARS_MAX and key != "exception":
            event[key] = value[:LOG_VALUE_CHARS_MAX] + "…"
    return event
