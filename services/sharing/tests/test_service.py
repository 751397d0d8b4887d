"""SharingService over a real channel, with tokens."""

import hashlib
import json
from collections.abc import Sequence

import pytest

from libs import canonical
from libs.errors import AlreadyExists, Forbidden, Invalid, NotFound, Reason, Unauthenticated, WrongState
from libs.masking import from_struct
from libs.tests.served import SERVICE, calling_as
from quintet.fact.v1.fact_pb2 import Fact
from quintet.federation.v1 import federation_pb2
from quintet.sharing.v1 import sharing_pb2 as pb
from services.sharing import giving
from services.sharing.tests.conftest import (
    ADMIN,
    ANALYST,
    CORE,
    DISTRICT,
    FROM_BEIJING,
    HELD,
    NOBODY,
    ROW,
    SALT,
    STATION,
    STEWARD,
    Node,
    aggregate,
    contract,
    product,
    rows_written,
)

NAME = "products/daily-pm25"
PUBLIC = ("device", "day", "station", "mean")


@pytest.fixture
async def filled(beijing: Node) -> Node:
    await beijing.put()
    await beijing.hear(*(aggregate(day, 10.0 * day, station=station) for day in range(1, 4) for station in ("a", "b")))
    return beijing


def days(answer: pb.ReadProductResponse) -> list[str]:
    return [str(from_struct(row)["day"]) for row in answer.rows]


# ----------------------------------------------------------------------------------------------------------- catalogue


async def test_a_product_is_put_found_and_stated(beijing: Node) -> None:
    first, second = await beijing.put(), await beijing.put()
    assert (first.changed, second.changed) == (True, False)
    assert (first.product.node, first.product.rows) == ("beijing", 0)
    with calling_as(STEWARD):
        found = (await beijing.stub.GetProduct(pb.GetProductRequest(name=NAME))).product
        listed = (await beijing.stub.ListProducts(pb.ListProductsRequest())).products
    assert list(listed) == [found]
    found.node = ""
    assert found == product()
    facts = [Fact.FromString(row["fact"]) for row in await beijing.rows("SELECT fact FROM outbox")]
    assert [(fact.type.rpartition(".")[2], fact.key, fact.zone) for fact in facts] == [
        ("ProductChanged", NAME, "beijing")
    ]


async def test_a_request_id_is_answered_once(beijing: Node) -> None:
    with calling_as(ADMIN):
        request = pb.PutProductRequest(product=product(), request_id="1")
        assert (await beijing.stub.PutProduct(request)).changed
        assert (await beijing.stub.PutProduct(request)).changed
        request.product.version = 2
        with pytest.raises(AlreadyExists):
            await beijing.stub.PutProduct(request)


async def test_fields_change_with_the_version_only(beijing: Node) -> None:
    await beijing.put()
    changed = product()
    changed.fields[3].unit = "mg/m3"
    with pytest.raises(Invalid, match=r"product\.version: must be higher than 1, as the fields change"):
        await beijing.put(changed)
    changed.version = 2
    assert (await beijing.put(changed)).changed
    with pytest.raises(Invalid, match=r"must be at least 2"):
        await beijing.put()


async def test_a_wrong_source_is_refused_with_the_path(beijing: Node) -> None:
    wanted = product()
    wanted.source.columns["station"] = "title.fr"
    with pytest.raises(Invalid, match=r"product\.source\.columns\[station\]: title\.fr is not a path"):
        await beijing.put(wanted)
    wanted = product(zone="us-ca-sf")
    with pytest.raises(Invalid, match=r"product\.zone: us-ca-sf is not a zone of this node"):
        await beijing.put(wanted)


async def test_products_belong_to_zones_and_organisations(beijing: Node) -> None:
    await beijing.put()
    mine = product(name="products/mine", zone="beijing-east", owner="organisations/east")
    for subject, wanted, good in (
        (DISTRICT, product(), False),
        (DISTRICT, mine, True),
        (STATION, product(update_frequency="PT1H"), True),
        (STATION, mine, False),
        (STEWARD, product(), False),
    ):
        with calling_as(subject):
            if good:
                assert (await beijing.stub.PutProduct(pb.PutProductRequest(product=wanted))).changed
            else:
                with pytest.raises(Forbidden):
                    await beijing.stub.PutProduct(pb.PutProductRequest(product=wanted))

    async def names(subject: str, *, offered_only: bool = False) -> list[str]:
        with calling_as(subject):
            answer = await beijing.stub.ListProducts(pb.ListProductsRequest(offered_only=offered_only))
        return [one.name for one in answer.products]

    assert await names(DISTRICT) == ["products/mine"]
    assert await names(STATION) == [NAME]
    assert await names(STEWARD) == [NAME, "products/mine"]
    await beijing.put(product(name="products/internal", offered=False))
    assert await names(STEWARD, offered_only=True) == [NAME, "products/mine"]
    with calling_as(DISTRICT), pytest.raises(Forbidden):
        await beijing.stub.GetProduct(pb.GetProductRequest(name=NAME))
    with calling_as(NOBODY), pytest.raises(Forbidden):
        await beijing.stub.ListProducts(pb.ListProductsRequest())


# ---------------------------------------------------------------------------------------------------------------- rows


async def test_one_gets_the_fields_that_one_may_have_with_personal_ones_masked(filled: Node) -> None:
    answer = await filled.read(STEWARD)
    row = from_struct(answer.rows[0])
    hidden = hashlib.sha256(SALT + canonical.dumps("organisations/keeper")).hexdigest()
    assert row.keys() == {*PUBLIC, "readings", "keeper"}
    assert (row["keeper"], list(answer.masked), answer.contract) == (hidden, ["keeper"], "")
    whole = from_struct((await filled.read(ANALYST)).rows[0])
    assert whole.keys() == {*PUBLIC, "readings", "keeper", "latitude"}
    assert whole["keeper"] == "organisations/keeper"
    assert "last_reading" in from_struct((await filled.read(CORE)).rows[0])


@pytest.mark.parametrize(
    ("subject", "field"),
    [(STEWARD, "latitude"), (STEWARD, "last_reading"), (ANALYST, "last_reading")],
)
async def test_a_field_above_the_clearance_is_refused_by_name(filled: Node, subject: str, field: str) -> None:
    with pytest.raises(Forbidden) as caught:
        await filled.read(subject, "day", field)
    assert (caught.value.reason, caught.value.metadata["field"]) == (Reason.FIELD_ABOVE_CLEARANCE, field)
    with pytest.raises(Forbidden):
        await filled.read(subject, "day", where={field: "1"})


async def test_who_reads_what_matters_is_written_down_with_the_purpose(filled: Node) -> None:
    entries = "SELECT actor, resource, detail FROM audit_entries WHERE action = 'sharing.rows.read'"
    await filled.read(STEWARD, *PUBLIC)
    assert await filled.rows(entries) == []
    await filled.read(STEWARD, "day", "keeper")
    await filled.read(ANALYST, "day", "latitude", where={"day": "2017-01-02"})
    found = [(row["actor"], row["resource"], json.loads(row["detail"])) for row in await filled.rows(entries)]
    said = {"purpose": "test of the air", "masked": [], "where": []}
    assert found == [
        (STEWARD, NAME, said | {"fields": ["day", "keeper"], "masked": ["keeper"], "rows": 6}),
        (ANALYST, NAME, said | {"fields": ["day", "latitude"], "rows": 2, "where": ["day"]}),
    ]


async def test_a_purpose_is_needed(filled: Node) -> None:
    with calling_as(STEWARD):
        for purpose in ("", "   "):
            with pytest.raises(Invalid, match="purpose"):
                await filled.stub.ReadProduct(pb.ReadProductRequest(name=NAME, purpose=purpose))


async def test_rows_are_chosen_by_values_and_come_in_pages_by_key(filled: Node) -> None:
    assert days(await filled.read(STEWARD, "day", where={"station": "B", "mean": "20"})) == ["2017-01-02"]
    found: list[str] = []
    token = ""
    for size in (2, 2, 2):
        answer = await filled.read(STEWARD, "day", page_size=size, page_token=token)
        token = answer.next_page_token
        found += days(answer)
    assert token == ""
    assert found == ["2017-01-01", "2017-01-02", "2017-01-03"] * 2
    with pytest.raises(Invalid, match="must be a number"):
        await filled.read(STEWARD, where={"mean": "twenty"})
    with pytest.raises(Invalid, match=r"fields\[0\]"):
        await filled.read(STEWARD, "nothing")


async def test_a_page_is_limited_by_its_bytes_too(filled: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giving, "PAGE_BYTES_MAX", 500)
    found, token = 0, ""
    while True:
        answer = await filled.read(STEWARD, "day", page_token=token)
        assert 1 <= len(answer.rows) <= 2
        found, token = found + len(answer.rows), answer.next_page_token
        if not token:
            break
    assert found == 6


async def test_a_page_token_is_good_for_its_list_only(filled: Node) -> None:
    token = (await filled.read(STEWARD, "day", page_size=1)).next_page_token
    with pytest.raises(Invalid) as caught:
        await filled.read(STEWARD, "day", where={"station": "B"}, page_token=token)
    assert caught.value.reason == Reason.PAGE_TOKEN_INVALID
    changed = product(version=2)
    changed.fields[2].key = True
    await filled.put(changed)
    with pytest.raises(Invalid, match="rows that are gone"):
        await filled.read(STEWARD, "day", page_token=token)


async def test_rows_are_read_by_those_of_the_products_zone_or_organisation(filled: Node) -> None:
    assert len((await filled.read(STATION)).rows) == 6
    for subject in (DISTRICT, NOBODY):
        with pytest.raises(Forbidden):
            await filled.read(subject)
    with pytest.raises(Unauthenticated):
        await filled.read("")
    with pytest.raises(NotFound):
        await filled.read(STEWARD, name="products/none")


# ----------------------------------------------------------------------------------------------------------- contracts


async def test_a_field_outside_the_contract_is_refused_with_its_name_and_a_terminated_contract_altogether(
    sf: Node,
) -> None:
    await sf.hear(contract("device", "day", "mean"))
    await sf.hear(rows_written(ROW), **FROM_BEIJING)
    with pytest.raises(Forbidden) as caught:
        await sf.read(STEWARD, "day", "latitude", name=HELD)
    assert caught.value.reason == Reason.FIELD_NOT_IN_CONTRACT
    assert caught.value.metadata == {"field": "latitude", "contract": "contracts/c1"}
    with calling_as(STEWARD):
        (listed,) = (await sf.stub.ListProducts(pb.ListProductsRequest())).products
    assert (listed.name, listed.node, listed.rows) == (HELD, "beijing", 1)
    with pytest.raises(Forbidden):
        await sf.read(DISTRICT, name=HELD)
    await sf.hear(contract("device", "day", "mean", state=federation_pb2.CONTRACT_STATE_TERMINATED))
    with pytest.raises(WrongState) as ended:
        await sf.read(STEWARD, name=HELD)
    assert ended.value.reason == Reason.CONTRACT_NOT_ACTIVE


async def test_a_partners_product_cannot_be_put(sf: Node) -> None:
    await sf.hear(contract("device", "day", "mean"))
    with pytest.raises(WrongState) as caught:
        await sf.put(product(name=HELD, zone="sf"))
    assert caught.value.reason == Reason.PRODUCT_NOT_OWN


def given(*fields: str, masking: pb.Masking.ValueType = pb.MASKING_UNSPECIFIED) -> list[pb.FieldTerms]:
    return [pb.FieldTerms(field=name, masking=masking) for name in fields]


async def check(node: Node, fields: Sequence[pb.FieldTerms], *, version: int = 1, subject: str = SERVICE) -> list[str]:
    request = pb.CheckTermsRequest(product=NAME, version=version, fields=fields)
    with calling_as(subject):
        answer = await node.stub.CheckTerms(request)
    assert list(answer.key_fields) == ["device", "day"]
    return [f"{one.field} {one.reason}" for one in answer.refusals]


async def test_terms_are_checked_for_federation_only(beijing: Node) -> None:
    await beijing.put()
    assert await check(beijing, given("device", "day", "mean")) == []
    assert await check(beijing, given("device", "mean", "keeper", "last_reading", "x"), version=2) == [
        " PRODUCT_VERSION_DIFFERS",
        "keeper PERSONAL_NOT_MASKED",
        "last_reading FIELD_CORE",
        "x FIELD_UNKNOWN",
        "day KEY_FIELD_MISSING",
    ]
    for subject in (ADMIN, STEWARD):
        with pytest.raises(Forbidden):
            await check(beijing, given("device"), subject=subject)
    with calling_as(SERVICE):
        request = pb.CheckTermsRequest(product=NAME, version=1, fields=given("device", "day", "latitude"))
        assert (await beijing.stub.CheckTerms(request)).needs_approver
        request.product = "products/none"
        with pytest.raises(NotFound):
            await beijing.stub.CheckTerms(request)


async def test_rows_for_a_contract_are_projected_and_masked(filled: Node) -> None:
    fields = [
        *given("device", masking=pb.MASKING_HASH),
        *given("day", "mean"),
        *given("station", masking=pb.MASKING_DROP),
        pb.FieldTerms(field="keeper", masking=pb.MASKING_TRUNCATE, keep=1),
    ]
    request = pb.ReadForContractRequest(product=NAME, version=1, fields=fields, salt=b"s", where={"day": "2017-01-02"})
    with calling_as(SERVICE):
        answer = await filled.stub.ReadForContract(request)
        first = from_struct(answer.rows[0])
        hidden = hashlib.sha256(b"s" + canonical.dumps("zones/beijing/devices/a")).hexdigest()
        assert first == {"device": hidden, "day": "2017-01-02", "mean": 20, "keeper": "o"}
        assert len(answer.rows) == 2
        request.page_size = 1
        page = await filled.stub.ReadForContract(request)
        request.page_token = page.next_page_token
        assert (await filled.stub.ReadForContract(request)).next_page_token == ""
    with calling_as(ADMIN), pytest.raises(Forbidden):
        await filled.stub.ReadForContract(request)


async def test_terms_that_do_not_fit_give_no_rows(filled: Node) -> None:
    def asked(*fields: pb.FieldTerms, version: int = 1, **where: str) -> pb.ReadForContractRequest:
        return pb.ReadForContractRequest(product=NAME, version=version, fields=fields, where=where)

    for request, error, reason in (
        (asked(*given("day"), version=2), WrongState, Reason.PRODUCT_VERSION_DIFFERS),
        (asked(*given("day", "nothing")), Invalid, Reason.FIELD_NOT_IN_PRODUCT),
        (asked(*given("day", "last_reading")), Forbidden, Reason.FIELD_ABOVE_CLEARANCE),
        (asked(*given("day"), mean="1"), Forbidden, Reason.FIELD_NOT_IN_CONTRACT),
        (asked(*given("day", masking=pb.MASKING_HASH), day="2017-01-01"), Forbidden, Reason.FIELD_NOT_IN_CONTRACT),
    ):
        with calling_as(SERVICE), pytest.raises(error) as caught:
            await filled.stub.ReadForContract(request)
        assert caught.value.reason == reason
