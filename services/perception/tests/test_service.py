"""PerceptionService over a real channel, with tokens."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from grpc import aio

from libs.access import Grant, Scope
from libs.errors import AlreadyExists, Forbidden, Invalid, NotFound, Reason, Unauthenticated, WrongState
from libs.tests.served import calling_as, served
from quintet.common.v1.common_pb2 import LocalText, Point
from quintet.perception.v1 import perception_pb2 as pb
from quintet.perception.v1.perception_pb2_grpc import (
    PerceptionServiceStub,
    add_PerceptionServiceServicer_to_server,
)
from services.perception.service import PerceptionServicer
from services.perception.tests.conftest import DONGSI, RULE, START, TIANTAN, TREE, City
from services.perception.wire import rule_message, stamp_of

ADMIN = "people/node-admin"
STATION = "serviceAccounts/dongsi"  # writes for its organisation's devices
OFFICER = "people/duty-officer.dongcheng"  # reads in one district
OTHER = "people/handler.other"  # of another organisation
NOBODY = "people/resident.01"

_ALL = ("device_models.write", "devices.write", "devices.read", "readings.write", "readings.read",
        "rules.write", "rules.read", "warnings.read", "warnings.rate")  # fmt: skip
HELD = {
    ADMIN: [Grant(f"perception.{verb}", Scope.ZONE, "cn-110000") for verb in _ALL],
    STATION: [Grant("perception.readings.write", Scope.ORGANISATION, "cn-110000", DONGSI.organisation)],
    OFFICER: [
        Grant(f"perception.{verb}", Scope.ZONE, "cn-110101")
        for verb in ("devices.read", "devices.write", "readings.read", "rules.write", "rules.read", "warnings.read",
                     "warnings.rate", "device_models.write")
    ],
    OTHER: [
        Grant(f"perception.{verb}", Scope.ORGANISATION, "cn-110000", "organisations/other")
        for verb in ("readings.write", "readings.read", "warnings.read", "devices.write", "devices.read")
    ],
    NOBODY: [],
}  # fmt: skip


@pytest.fixture
async def stub(city: City) -> AsyncIterator[PerceptionServiceStub]:
    servicer = PerceptionServicer(city.transactions, lambda: TREE, city.ingest)
    service = pb.DESCRIPTOR.services_by_name["PerceptionService"]
    register = add_PerceptionServiceServicer_to_server
    async with served("perception", register, servicer, service, HELD, lambda: TREE) as channel:
        yield PerceptionServiceStub(channel)


def reading(value: float, hour: float = 0, device: str = DONGSI.name, indicator: str = "pm25") -> pb.Reading:
    return pb.Reading(device=device, indicator=indicator, time=stamp_of(START + timedelta(hours=hour)), value=value)


async def ingest(stub: PerceptionServiceStub, *values: float, start: int = 0) -> pb.IngestReadingsResponse:
    readings = [reading(value, start + hour) for hour, value in enumerate(values)]
    with calling_as(ADMIN):
        return await stub.IngestReadings(pb.IngestReadingsRequest(readings=readings))


# ----------------------------------------------------------------------------------------------------------- catalogue


async def test_put_says_whether_it_changed_anything(stub: PerceptionServiceStub) -> None:
    model = pb.DeviceModel(
        name="deviceModels/noise",
        title=LocalText(zh="噪声", en="Noise"),
        indicators=[pb.Indicator(code="noise", unit="dB", minimum=0)],
    )
    device = pb.Device(name="zones/cn-110101/devices/n1", model=model.name, point=Point(latitude=39.9, longitude=116.4))
    with calling_as(ADMIN):
        for expected in (True, False):
            assert (await stub.PutDeviceModel(pb.PutDeviceModelRequest(device_model=model))).changed is expected
            assert (await stub.PutDevice(pb.PutDeviceRequest(device=device))).changed is expected
        await stub.IngestReadings(
            pb.IngestReadingsRequest(readings=[reading(50, device=device.name, indicator="noise")])
        )
        assert not (await stub.PutDevice(pb.PutDeviceRequest(device=device))).changed
        models = (await stub.ListDeviceModels(pb.ListDeviceModelsRequest())).device_models
        assert model in models
        assert not models[-1].indicators[0].HasField("maximum")
        listed = (await stub.ListDevices(pb.ListDevicesRequest(parent="zones/cn-110101"))).devices
        assert [(one.name, one.point, one.HasField("last_seen")) for one in listed] == [
            (DONGSI.name, Point(latitude=39.929, longitude=116.417), False),
            (device.name, device.point, True),
        ]


async def test_the_same_request_id_is_answered_alike(stub: PerceptionServiceStub) -> None:
    request = pb.PutRuleRequest(rule=rule_message(RULE), request_id="r1")
    with calling_as(ADMIN):
        assert (await stub.PutRule(request)).changed
        assert (await stub.PutRule(request)).changed
        request.rule.raise_at = 999
        with pytest.raises(AlreadyExists) as caught:
            await stub.PutRule(request)
    assert caught.value.reason == Reason.REQUEST_ID_REUSED


async def test_what_does_not_fit_together_is_refused_with_the_field(stub: PerceptionServiceStub) -> None:
    device = pb.Device(name="zones/cn-110101/devices/x", model="deviceModels/none")
    with calling_as(ADMIN):
        with pytest.raises(Invalid, match=r"device\.model: deviceModels/none does not exist"):
            await stub.PutDevice(pb.PutDeviceRequest(device=device))
        device.name = "zones/us-ca-sf/devices/x"
        with pytest.raises(Invalid, match=r"device\.name: us-ca-sf is not a zone of this node"):
            await stub.PutDevice(pb.PutDeviceRequest(device=device))
        device.name = "zones/cn-110114/devices/x"
        with pytest.raises(WrongState) as delegated:
            await stub.PutDevice(pb.PutDeviceRequest(device=device))
        assert delegated.value.reason == Reason.ZONE_DELEGATED
        rule = rule_message(RULE)
        rule.clear_at = 151
        rule.indicator = "noise"
        with pytest.raises(Invalid) as caught:
            await stub.PutRule(pb.PutRuleRequest(rule=rule))
        assert [field for field, _ in caught.value.violations] == ["rule.clearAt", "rule.indicator"]


async def test_models_are_the_nodes_and_rules_and_devices_their_zones(stub: PerceptionServiceStub) -> None:
    with calling_as(ADMIN):
        await stub.PutRule(pb.PutRuleRequest(rule=rule_message(RULE)))
    with calling_as(OFFICER):
        model = pb.DeviceModel(name="deviceModels/x", indicators=[pb.Indicator(code="x", unit="1")])
        with pytest.raises(Forbidden):
            await stub.PutDeviceModel(pb.PutDeviceModelRequest(device_model=model))
        with pytest.raises(Forbidden):
            await stub.PutRule(pb.PutRuleRequest(rule=rule_message(RULE)))
        taken_over = rule_message(RULE)
        taken_over.zone = "cn-110101"
        with pytest.raises(Forbidden):
            await stub.PutRule(pb.PutRuleRequest(rule=taken_over))
        own = rule_message(RULE)
        own.name, own.zone = "rules/mine", "cn-110101"
        await stub.PutRule(pb.PutRuleRequest(rule=own))
        assert [one.name for one in (await stub.ListRules(pb.ListRulesRequest())).rules] == ["rules/mine"]
        with pytest.raises(Forbidden):
            await stub.ListDevices(pb.ListDevicesRequest(parent="zones/cn-110000"))
    with calling_as(OTHER):
        device = pb.Device(name=DONGSI.name, model=DONGSI.model, organisation="organisations/other")
        with pytest.raises(Forbidden):
            await stub.PutDevice(pb.PutDeviceRequest(device=device))
        assert not (await stub.ListDevices(pb.ListDevicesRequest(parent="zones/cn-110000"))).devices


async def test_lists_come_in_pages(stub: PerceptionServiceStub) -> None:
    with calling_as(ADMIN):
        first = await stub.ListDevices(pb.ListDevicesRequest(parent="zones/cn-110000", page_size=1))
        assert [one.name for one in first.devices] == [TIANTAN.name]
        second = await stub.ListDevices(
            pb.ListDevicesRequest(parent="zones/cn-110000", page_size=1, page_token=first.next_page_token)
        )
        assert [one.name for one in second.devices] == [DONGSI.name]
        assert second.next_page_token == ""
        with pytest.raises(Invalid):
            await stub.ListRules(pb.ListRulesRequest(page_token=first.next_page_token))


# ------------------------------------------------------------------------------------------------------------ readings


async def test_a_batch_is_answered_with_what_became_of_it(stub: PerceptionServiceStub) -> None:
    readings = [reading(1), reading(1), reading(2, 1, indicator="noise"), reading(3, 1, device=TIANTAN.name)]
    with calling_as(STATION):
        answer = await stub.IngestReadings(pb.IngestReadingsRequest(readings=readings))
    assert (answer.accepted, answer.duplicates) == (2, 1)
    assert [(one.index, one.field) for one in answer.refused] == [(2, "indicator")]


async def test_nobody_writes_for_devices_of_others(stub: PerceptionServiceStub) -> None:
    request = pb.IngestReadingsRequest(readings=[reading(1)])
    with calling_as(OTHER):
        answer = await stub.IngestReadings(request)
        assert (answer.accepted, answer.refused[0].field) == (0, "device")
    with calling_as(NOBODY), pytest.raises(Forbidden):
        await stub.IngestReadings(request)
    with calling_as(""), pytest.raises(Unauthenticated):
        await stub.IngestReadings(request)


async def test_a_stream_answers_each_batch_in_order_after_its_commit(stub: PerceptionServiceStub, city: City) -> None:
    with calling_as(ADMIN):
        call = stub.StreamReadings()
        for hour in range(3):
            await call.write(pb.StreamReadingsRequest(readings=[reading(1, hour), reading(1, hour + 0.5)]))
            answer = await call.read()
            assert isinstance(answer, pb.StreamReadingsResponse)
            assert answer.accepted == 2
            assert len(await city.rows("SELECT FROM readings")) == 2 * (hour + 1)
        await call.done_writing()
        assert await call.read() == aio.EOF


async def test_a_bad_batch_ends_the_stream_with_its_fault_and_keeps_what_was_answered(
    stub: PerceptionServiceStub, city: City
) -> None:
    async def batches() -> AsyncIterator[pb.StreamReadingsRequest]:
        yield pb.StreamReadingsRequest(readings=[reading(1)])
        yield pb.StreamReadingsRequest(readings=[pb.Reading(device="x", indicator="pm25", time=stamp_of(START))])

    with calling_as(ADMIN):
        answers = aiter(stub.StreamReadings(batches()))
        assert (await anext(answers)).accepted == 1
        with pytest.raises(Invalid, match=r"readings\[0\]\.device"):
            await anext(answers)
    assert len(await city.rows("SELECT FROM readings")) == 1


async def test_latest_and_history(stub: PerceptionServiceStub) -> None:
    await ingest(stub, 10, 5000, 30)
    with calling_as(OFFICER):
        latest = (await stub.ListLatestReadings(pb.ListLatestReadingsRequest(device=DONGSI.name))).readings
        assert [(one.indicator, one.value, one.quality) for one in latest] == [("pm25", 30, pb.QUALITY_GOOD)]
        values: list[tuple[float, pb.Quality.ValueType]] = []
        request = pb.ListReadingsRequest(device=DONGSI.name, indicator="pm25", page_size=2)
        while True:
            answer = await stub.ListReadings(request)
            values += [(one.value, one.quality) for one in answer.readings]
            request.page_token = answer.next_page_token
            if not request.page_token:
                break
        assert values == [(10, pb.QUALITY_GOOD), (5000, pb.QUALITY_SUSPECT), (30, pb.QUALITY_GOOD)]
        with pytest.raises(NotFound):
            await stub.ListLatestReadings(pb.ListLatestReadingsRequest(device="zones/cn-110101/devices/none"))
        with pytest.raises(Forbidden):
            await stub.ListLatestReadings(pb.ListLatestReadingsRequest(device=TIANTAN.name))
        request.start_time.CopyFrom(stamp_of(START + timedelta(hours=1)))
        request.end_time.CopyFrom(stamp_of(START))
        with pytest.raises(Invalid, match="endTime"):
            await stub.ListReadings(request)
    with calling_as(OTHER), pytest.raises(Forbidden):
        await stub.ListLatestReadings(pb.ListLatestReadingsRequest(device=DONGSI.name))


# ------------------------------------------------------------------------------------------------------------ warnings


async def warned(stub: PerceptionServiceStub) -> pb.Warning:
    with calling_as(ADMIN):
        await stub.PutRule(pb.PutRuleRequest(rule=rule_message(RULE)))
        await ingest(stub, 151, 152, 153, 154, 155, 100, 160, 161, 162, 163)
        listed = await stub.ListWarnings(pb.ListWarningsRequest(parent="zones/cn-110000"))
    assert [one.state for one in listed.warnings] == [pb.WARNING_STATE_RAISED, pb.WARNING_STATE_ENDED]
    return listed.warnings[0]


async def test_warnings_are_listed_newest_first_and_say_why(stub: PerceptionServiceStub) -> None:
    warning = await warned(stub)
    with calling_as(OFFICER):
        found = (await stub.GetWarning(pb.GetWarningRequest(name=warning.name))).warning
        assert found == warning
        assert "stayed at or above 150 ug/m3 for 3 h" in found.reason.text.en
        request = pb.ListWarningsRequest(parent="zones/cn-110101", page_size=1)
        first = await stub.ListWarnings(request)
        request.page_token = first.next_page_token
        second = await stub.ListWarnings(request)
        assert [first.warnings[0].peak, second.warnings[0].peak] == [163, 155]
        ended = await stub.ListWarnings(pb.ListWarningsRequest(parent="zones/cn-110101", state=pb.WARNING_STATE_ENDED))
        assert list(ended.warnings) == list(second.warnings)
        with pytest.raises(NotFound):
            await stub.GetWarning(pb.GetWarningRequest(name="zones/cn-110101/warnings/none"))
    with calling_as(OTHER):
        assert not (await stub.ListWarnings(pb.ListWarningsRequest(parent="zones/cn-110000"))).warnings
        with pytest.raises(Forbidden):
            await stub.GetWarning(pb.GetWarningRequest(name=warning.name))


async def test_ratings_count_for_the_rule_and_minds_may_change(stub: PerceptionServiceStub) -> None:
    warning = await warned(stub)

    async def counts() -> tuple[int, int]:
        (rule,) = (await stub.ListRules(pb.ListRulesRequest())).rules
        return rule.true_alarms, rule.false_alarms

    with calling_as(ADMIN):
        for verdict, expected in (
            (pb.VERDICT_FALSE_ALARM, (0, 1)),
            (pb.VERDICT_FALSE_ALARM, (0, 1)),
            (pb.VERDICT_TRUE_ALARM, (1, 0)),
        ):
            answer = await stub.RateWarning(pb.RateWarningRequest(name=warning.name, verdict=verdict))
            assert answer.warning.verdict == verdict
            assert await counts() == expected
        assert not (await stub.PutRule(pb.PutRuleRequest(rule=rule_message(RULE)))).changed
    with calling_as(STATION), pytest.raises(Forbidden):
        await stub.RateWarning(pb.RateWarningRequest(name=warning.name, verdict=pb.VERDICT_TRUE_ALARM))
