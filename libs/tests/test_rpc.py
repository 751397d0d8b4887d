"""The server's interceptor, over real connections."""

import asyncio
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from libs import telemetry
from libs.access import Grant, Scope
from libs.context import deadline
from libs.errors import Away, Exhausted, Invalid, NotFound, Reason, Stale, TooLate
from libs.rpc import PolicyError, RemoteFaultError, Server, TokenAuthenticator
from libs.testing import eventually
from libs.tests import callers, sample
from libs.tests.sample import Request
from libs.tests.serving import GRANTS, OFFICER, READ, RESIDENT, Running, Servicer


async def failure(call: Any) -> tuple[str, str, str]:
    """Return code, reason and message of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    return error.code().name, _info(error).reason, error.details() or ""


def _info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            status_pb2.Status.FromString(value).details[0].Unpack(info)
    return info


# ------------------------------------------------------------------------------------------------------------- access


async def test_public_method_is_open_also_with_a_token_that_does_not_hold(running: Running) -> None:
    assert (await running.stub().Open(Request())).subject == "anonymous"
    assert (await running.stub(OFFICER).Open(Request())).subject == OFFICER
    assert (await running.stub(OFFICER, exp=1).Open(Request())).subject == "anonymous"


async def test_without_a_token_nothing_is_learnt_but_that_one_is_needed(running: Running) -> None:
    stub = running.stub()
    for call in (stub.Mine, stub.Inside, stub.Change, stub.Read):
        assert (await failure(call(Request(code="NOT VALID"))))[:2] == ("UNAUTHENTICATED", "TOKEN_MISSING")


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": 1}, "TOKEN_EXPIRED"),
        ({"aud": "other"}, "TOKEN_INVALID"),
        ({"iss": "nodes/beijing"}, "TOKEN_INVALID"),
        ({"sub": "services/identity"}, "TOKEN_INVALID"),
        ({"sub": "people/nobody"}, "SESSION_ENDED"),
    ],
)
async def test_tokens_that_do_not_hold(running: Running, claims: dict[str, Any], reason: str) -> None:
    assert (await failure(running.stub(OFFICER, **claims).Mine(Request())))[:2] == ("UNAUTHENTICATED", reason)


async def test_other_schemes_than_bearer_are_refused(running: Running) -> None:
    call = running.stub().Mine(Request(), metadata=(("authorization", "Basic YTpi"),))
    assert (await failure(call))[:2] == ("UNAUTHENTICATED", "TOKEN_INVALID")


async def test_permission_is_checked_before_the_request_is_read(running: Running) -> None:
    stub = running.stub(RESIDENT)
    assert (await stub.Mine(Request())).subject == RESIDENT
    assert (await failure(stub.Read(Request(code="NOT VALID"))))[:2] == ("PERMISSION_DENIED", "NOT_PERMITTED")


async def test_people_cannot_call_internal_methods_whatever_they_hold(running: Running) -> None:
    assert (await failure(running.stub(OFFICER).Inside(Request())))[:2] == ("PERMISSION_DENIED", "SERVICES_ONLY")
    assert (await running.service_stub().Inside(Request())).subject == "services/management"


async def test_zone_field_narrows_to_the_zone_and_below(running: Running) -> None:
    stub = running.stub(OFFICER)
    await stub.Change(Request(thing={"zone": "us-ca-sf-d10"}))
    await stub.Change(Request(thing={"zone": "us-ca-sf-d10-potrero-hill"}))
    await stub.Change(Request())  # no zone: the method narrows
    for zone in ("us-ca-sf", "us-ca-sf-d6", "unknown"):
        answer = await failure(stub.Change(Request(thing={"zone": zone})))
        assert answer[:2] == ("PERMISSION_DENIED", "NOT_PERMITTED")
        assert zone in answer[2]


async def test_every_message_of_a_stream_is_checked(running: Running) -> None:
    stub = running.stub(OFFICER)
    here, elsewhere = {"zone": "us-ca-sf-d10"}, {"zone": "us-ca-sf-d6"}
    sent = [Request(name="a", thing=here), Request(name="b", thing=here)]
    assert (await stub.Upload(iter(sent))).text == "a,b"
    assert (await failure(stub.Upload(iter([*sent, Request(thing=elsewhere)]))))[0] == "PERMISSION_DENIED"
    assert (await failure(stub.Upload(iter([*sent, Request(count=-1)]))))[0] == "INVALID_ARGUMENT"


# ---------------------------------------------------------------------------------------------------------- bad input


async def test_violations_name_field_and_rule(running: Running) -> None:
    with pytest.raises(Invalid) as caught:
        await running.service_stub().Open(Request(code="A", things=[{"height_m": 1}, {"height_m": 1e9}]))
    assert caught.value.violations == (
        ("code", "must match [a-z]{2,4}"),
        ("things[1].heightM", "must be at most 100"),
    )


async def test_many_violations_fit_into_one_answer(running: Running) -> None:
    long = {f"{'长' * 80}{i}": {"height_m": 1e9} for i in range(50)}
    with pytest.raises(Invalid) as caught:
        await running.service_stub().Open(Request(parts=long))
    assert len(caught.value.violations) > 5


async def test_bytes_that_are_no_message_are_invalid_and_not_quoted(running: Running) -> None:
    raw: Any = grpc.aio.insecure_channel(running.address)
    running.channels.append(raw)
    for data in (b"\xff\xff\xff", b"\x0a\x03\xed\xa0\x80", b"\x0a\x02\xff\xfe"):
        answer = await failure(raw.unary_unary("/quintet.sample.v1.SampleService/Open")(data))
        assert answer == ("INVALID_ARGUMENT", "FIELD_INVALID", "the request is not a quintet.sample.v1.Request")
    bearer = (("authorization", f"Bearer {callers.token(OFFICER)}"),)
    upload = raw.stream_unary("/quintet.sample.v1.SampleService/Upload")
    assert (await failure(upload(iter([b"\xff\xff\xff"]), metadata=bearer)))[0] == "INVALID_ARGUMENT"


async def test_unknown_methods_are_unimplemented(running: Running) -> None:
    raw: Any = grpc.aio.insecure_channel(running.address)
    running.channels.append(raw)
    for path in ("/quintet.sample.v1.SampleService/Nothing", "/nothing/At", "/x"):
        assert (await failure(raw.unary_unary(path)(b"")))[0] == "UNIMPLEMENTED"


# ------------------------------------------------------------------------------------------------------------- errors


async def test_unexpected_errors_tell_nothing(running: Running) -> None:
    stub = running.stub(OFFICER)
    for name in ("raise", "wrong"):
        assert await failure(stub.Open(Request(name=name))) == ("INTERNAL", "INTERNAL", "internal error")

        async def watch(asked: str = name) -> None:
            async for _ in stub.Watch(Request(name=asked, count=2)):
                pass

        assert await failure(watch()) == ("INTERNAL", "INTERNAL", "internal error")


async def test_domain_errors_arrive_as_they_were_raised(running: Running) -> None:
    stub = running.service_stub()
    with pytest.raises(NotFound) as caught:
        await stub.Open(Request(name="missing"))
    assert caught.value.reason == Reason.EVENT_NOT_FOUND
    assert caught.value.metadata == {"name": "zones/a/events/1"}
    assert caught.value.message == "zones/a/events/1 没有"
    with pytest.raises(Stale):
        await stub.Open(Request(name="group"))
    with pytest.raises(Exhausted):
        await stub.Open(Request(name="large"))


async def test_errors_of_a_stream_come_after_what_was_sent(running: Running) -> None:
    seen: list[str] = []

    async def watch() -> None:
        async for response in running.service_stub().Watch(Request(name="missing", count=2)):
            seen.append(response.text)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(NotFound):
        await watch()
    assert seen == ["0", "1"]


async def test_a_fault_of_the_other_service_is_none_of_the_callers(running: Running) -> None:
    with pytest.raises(RemoteFaultError, match="INTERNAL"):
        await running.service_stub().Open(Request(name="raise"))
    with pytest.raises(RemoteFaultError, match="NOT_PERMITTED"):
        await running.service_stub().Change(Request())


# ---------------------------------------------------------------------------------------------- deadlines and streams


async def test_method_deadline_bounds_a_call_without_one(running: Running) -> None:
    answer = await failure(running.stub(OFFICER).Read(Request(name="sleep")))
    assert answer == ("DEADLINE_EXCEEDED", "DEADLINE", "the call took longer than 1 s")


async def test_work_stops_when_the_caller_is_gone(running: Running) -> None:
    call = running.stub().Open(Request(name="sleep"), timeout=30)
    await asyncio.wait_for(running.servicer.sleeping.wait(), 5)
    call.cancel()
    await asyncio.wait_for(running.servicer.cancelled.wait(), 5)


async def test_a_call_that_takes_too_long_is_away_for_who_asked(running: Running) -> None:
    with pytest.raises(Away) as caught:
        await running.service_stub(cap_s=0.1).Open(Request(name="sleep"))
    assert caught.value.reason == Reason.DEPENDENCY_SLOW
    await asyncio.wait_for(running.servicer.cancelled.wait(), 5)


async def test_the_callers_deadline_bounds_calls_below(running: Running) -> None:
    stub = running.service_stub()
    deadline.set(asyncio.get_running_loop().time() + 0.1)
    with pytest.raises(TooLate, match="the time ran out while sample was asked"):
        await stub.Open(Request(name="sleep"))
    with pytest.raises(TooLate, match="no time is left"):
        await stub.Open(Request())


async def test_streams_in_both_directions(running: Running) -> None:
    talk = running.service_stub().Talk(iter([Request(name="a"), Request(name="b")]))
    assert [response.text async for response in talk] == ["a", "b"]
    written = running.service_stub().Talk()
    await written.write(Request(name="c"))
    assert (await written.read()).text == "c"
    await written.done_writing()
    assert await written.read() is grpc.aio.EOF


async def test_a_stream_can_ask_whether_its_caller_still_may(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = running.stub(OFFICER).Talk(None)
    await talk.write(Request(name="again"))
    assert (await talk.read()).subject == OFFICER
    everywhere = callers.grants(OFFICER, Grant(READ, Scope.ZONE))
    monkeypatch.setitem(GRANTS.held, OFFICER, everywhere)
    await talk.write(Request(name="again"))
    assert (await talk.read()).text == "True"  # the rights are those of now
    monkeypatch.setitem(GRANTS.held, OFFICER, callers.grants(OFFICER))
    await talk.write(Request(name="again"))
    assert (await failure(talk.read()))[:2] == ("PERMISSION_DENIED", "NOT_PERMITTED")


async def test_more_calls_than_can_be_served_are_turned_away(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libs.interceptor.CALLS_IN_FLIGHT_MAX", 1)
    slow = running.stub().Open(Request(name="sleep"))
    await asyncio.wait_for(running.servicer.sleeping.wait(), 5)
    with pytest.raises(Away) as caught:
        await running.service_stub().Open(Request())
    assert caught.value.reason == Reason.TOO_BUSY
    slow.cancel()
    await asyncio.wait_for(running.servicer.cancelled.wait(), 5)
    await running.service_stub().Open(Request())


# ------------------------------------------------------------------------------------------------- start and standards


async def test_a_method_without_access_does_not_start() -> None:
    server = Server("sample", TokenAuthenticator(callers.verifier(), GRANTS))
    server.add(sample.registrar(sample.UNDECLARED), object(), sample.UNDECLARED)
    with pytest.raises(PolicyError, match="UndeclaredService/Forgotten: declares no access"):
        await server.start()


async def test_peer_methods_stay_off_the_nodes_own_ports() -> None:
    server = Server("sample", TokenAuthenticator(callers.verifier(), GRANTS))
    server.add(sample.registrar(sample.PEER), object(), sample.PEER)
    with pytest.raises(PolicyError, match="must not be served on a port of the node's own"):
        await server.start()
    peers = Server("sample", TokenAuthenticator(callers.verifier(), GRANTS), peers=True)
    peers.add(sample.registrar(sample.SAMPLE), Servicer(), sample.SAMPLE)
    with pytest.raises(PolicyError, match="must not be served on the peers' port"):
        await peers.start()


async def test_a_port_that_is_taken_is_an_error(running: Running) -> None:
    server = Server("sample", TokenAuthenticator(callers.verifier(), GRANTS))
    with pytest.raises(RuntimeError):
        await server.start(running.address)


async def test_health_and_reflection_are_open(running: Running) -> None:
    raw: Any = grpc.aio.insecure_channel(running.address)
    running.channels.append(raw)
    health: Any = health_pb2_grpc.HealthStub(raw)
    for name in ("", "quintet.sample.v1.SampleService"):
        request = health_pb2.HealthCheckRequest(service=name)
        await running.server.set_ready(ready=False)
        assert (await health.Check(request)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await running.server.set_ready(ready=True)
        assert (await health.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(raw)
    asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
    answers = [answer async for answer in reflection.ServerReflectionInfo(iter(asked))]
    names = [service.name for service in answers[0].list_services_response.service]
    assert "quintet.sample.v1.SampleService" in names


async def test_one_trace_from_caller_to_method(running: Running) -> None:
    stub = running.service_stub()
    with telemetry.recording() as spans:
        with telemetry.span("outer"):
            await stub.Open(Request())
        finished = spans.get_finished_spans()
    assert {span.name for span in finished} == {"outer", "quintet.sample.v1.SampleService/Open"}
    assert len({span.context.trace_id for span in finished}) == 1
    assert len(finished) == 3


async def test_calls_are_measured(running: Running) -> None:
    def count() -> float:
        labels = {"part": "sample", "method": "quintet.sample.v1.SampleService/Mine", "code": "UNAUTHENTICATED"}
        return telemetry.REGISTRY.get_sample_value("quintet_rpc_seconds_count", labels) or 0.0

    async def counted() -> bool:
        return count() == before + 1

    before = count()
    await failure(running.stub().Mine(Request()))
    await eventually(counted)  # the caller has its answer a moment before the call is counted
    assert telemetry.REGISTRY.get_sample_value("quintet_rpc_in_flight", {"part": "sample"}) == 0
