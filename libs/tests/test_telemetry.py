import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from libs import telemetry
from libs.context import traceparent
from libs.tests.sample import Request

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        SAMPLED[:-1],
        SAMPLED + "0",
        SAMPLED.upper(),
        "01" + SAMPLED[2:],
        f"00-{'0' * 32}-{'1' * 16}-01",
        SAMPLED + "\n",
    ],
)
def test_what_is_no_traceparent_is_dropped(text: str) -> None:
    assert telemetry.extract(text) == ""
    assert telemetry.extract(SAMPLED) == SAMPLED


def test_without_tracing_a_trace_still_has_an_id() -> None:
    assert telemetry.trace_id() == ""
    with telemetry.span("a"):
        first = telemetry.trace_id()
        with telemetry.span("b"):
            assert telemetry.trace_id() == first
    assert len(first) == 32
    assert telemetry.trace_id() == ""


def test_spans_continue_their_parent() -> None:
    with telemetry.recording() as spans:
        with telemetry.span("outer", parent=SAMPLED), telemetry.span("inner", attributes={"zone": "a"}) as inner:
            inner.set("rows", 3)
            assert telemetry.traceparent().endswith("-01")
        made = {span.name: span for span in spans.get_finished_spans()}
    outer, inner_span = made["outer"], made["inner"]
    assert f"{outer.context.trace_id:032x}" == SAMPLED[3:35]
    assert outer.parent
    assert f"{outer.parent.span_id:016x}" == SAMPLED[36:52]
    assert inner_span.parent
    assert inner_span.parent.span_id == outer.context.span_id
    assert inner_span.attributes == {"zone": "a", "rows": 3}


def test_unsampled_traces_are_carried_and_not_recorded() -> None:
    with telemetry.recording() as spans:
        with telemetry.span("a", parent=UNSAMPLED):
            assert telemetry.traceparent() == UNSAMPLED
        assert spans.get_finished_spans() == ()


def test_errors_are_recorded_without_their_text() -> None:
    def fail() -> None:
        with telemetry.span("a"):
            raise ValueError("what was asked for")

    with telemetry.recording() as spans:
        with pytest.raises(ValueError, match="asked"):
            fail()
        (span,) = spans.get_finished_spans()
    assert span.status.description == "ValueError"
    assert "asked" not in span.to_json()
    assert traceparent.get() == ""


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    before = structlog.get_config()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    telemetry.setup("test", log_level="info")
    yield stream
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_logs_are_json_with_the_trace_and_without_secrets(lines: io.StringIO) -> None:
    with telemetry.span("a", parent=UNSAMPLED):
        structlog.get_logger().info("thing.done", password="p", access_token="t", request=Request(name="n"), zone="区")
    line = json.loads(lines.getvalue())
    assert line["event"] == "thing.done"
    assert line["trace_id"] == UNSAMPLED[3:35]
    assert (line["password"], line["access_token"]) == ("***", "***")
    assert line["request"] == "<quintet.sample.v1.Request>"
    assert line["timestamp"].endswith("Z")


def test_libraries_log_in_the_same_shape(lines: io.StringIO) -> None:
    logging.getLogger("grpc").warning("something %s", "odd")
    logging.getLogger("grpc").info("not worth it")
    line = json.loads(lines.getvalue())
    assert (line["event"], line["logger"], line["message"]) == ("library.log", "grpc", "something odd")


def test_metrics_are_prometheus_text() -> None:
    telemetry.RPC_SECONDS.labels("test", "m", "OK").observe(0.1)
    assert b'quintet_rpc_seconds_count{code="OK",method="m",part="test"} 1.0' in telemetry.metrics_text()
