"""The state machine of contracts, what is signed, and what contracts let through."""

from datetime import UTC, datetime

import pytest

from libs.errors import Invalid
from libs.zones import ZoneRecord, ZoneTree
from quintet.delivery.v1 import delivery_pb2
from quintet.delivery.v1 import facts_pb2 as delivery_facts
from quintet.federation.v1 import federation_pb2 as pb
from quintet.sharing.v1 import sharing_pb2
from services.federation import known_facts
from services.federation import terms as contract_terms
from services.federation.terms import ActiveContract

TREE = ZoneTree(
    [ZoneRecord("city"), ZoneRecord("d10", "city"), ZoneRecord("hill", "d10"), ZoneRecord("d6", "city")], root="city"
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def charter(zone: str = "d10") -> ActiveContract:
    terms = contract_terms.default_charter(zone)
    return ActiveContract("contracts/c", pb.CONTRACT_KIND_CHARTER, "d10-node", "city-node", "d10-node", terms, b"h")


def exchange_terms() -> pb.Terms:
    return pb.Terms(
        product="products/p",
        product_version=1,
        purpose="study",
        fields=[sharing_pb2.FieldTerms(field="day"), sharing_pb2.FieldTerms(field="mean")],
    )


def test_the_agreement_covers_every_term() -> None:
    contract = pb.Contract(name="contracts/1", provider="p", consumer="c", terms=exchange_terms())
    before = contract_terms.agreement_hash(contract)
    assert before == contract_terms.agreement_hash(contract)
    contract.terms.quota_rows_per_day = 5
    assert contract_terms.agreement_hash(contract) != before
    # What is not agreed may change without a new signature.
    contract.terms.quota_rows_per_day = 0
    contract.state = pb.CONTRACT_STATE_FINALIZED
    contract.reason = "x"
    assert contract_terms.agreement_hash(contract) == before


def test_exchange_terms_name_every_fault() -> None:
    terms = pb.Terms(fields=[sharing_pb2.FieldTerms(field="a"), sharing_pb2.FieldTerms(field="a")], salt=b"x")
    with pytest.raises(Invalid) as caught:
        contract_terms.check_exchange(terms)
    fields = {field for field, _ in caught.value.violations}
    assert fields == {"terms.product", "terms.productVersion", "terms.fields", "terms.salt"}
    contract_terms.check_exchange(exchange_terms())


def test_a_charter_lets_facts_go_their_own_way_only() -> None:
    contract = charter()
    assert contract.fact_terms("quintet.management.v1.EventOpened", "d10-node") is not None
    assert contract.fact_terms("quintet.management.v1.EventOpened", "city-node") is None
    assert contract.fact_terms("quintet.delivery.v1.RequestFiled", "city-node") is not None
    assert contract.fact_terms("quintet.identity.v1.AccessChanged", "d10-node") is None


def test_down_goes_only_what_is_known_to_belong_there() -> None:
    contract = charter()
    for zone, down in (("d10", True), ("hill", True), ("d6", False), ("nobody-knows", False)):
        assert contract.may_give(TREE, zone, contract.provider) is down
    assert contract.may_give(TREE, "nobody-knows", contract.consumer)  # a child may divide its zone further
    assert not contract.may_give(TREE, "d6", contract.consumer)


def test_a_charter_covers_its_zone_and_what_lies_below() -> None:
    contract = charter()
    assert contract.covers(TREE, "d10")
    assert contract.covers(TREE, "hill")
    assert not contract.covers(TREE, "d6")
    assert not contract.covers(TREE, "city")


def test_validity_bounds_a_contract() -> None:
    contract = charter()
    assert contract.in_time(NOW)
    contract = charter()
    contract.terms.valid_from.FromDatetime(datetime(2026, 2, 1))  # noqa: DTZ001 - protobuf takes it as UTC
    assert not contract.in_time(NOW)
    contract = charter()
    contract.terms.valid_until.FromDatetime(datetime(2026, 1, 1))  # noqa: DTZ001
    assert not contract.in_time(NOW)


def test_dropped_fields_are_not_visible() -> None:
    terms = exchange_terms()
    terms.fields.append(sharing_pb2.FieldTerms(field="secret", masking=sharing_pb2.MASKING_DROP))
    contract = ActiveContract("contracts/c", pb.CONTRACT_KIND_EXCHANGE, "p", "p", "c", terms, b"h")
    assert contract.fields() == {"day", "mean"}


def test_masked_paths_are_cleared_and_the_rest_stays() -> None:
    request = delivery_pb2.Request(name="zones/z/requests/1", reporter="people/r", contact="r@example.org")
    fact = delivery_facts.RequestFiled(request=request)
    contract_terms.clear_masked(fact, ["request.reporter", "request.contact", "request.nothing", "other.path"])
    assert fact.request.name == "zones/z/requests/1"
    assert fact.request.reporter == ""
    assert fact.request.contact == ""


def test_every_fact_of_the_default_charter_can_be_read_by_this_service_alone() -> None:
    for fact in contract_terms.default_charter("d10").facts:
        message = known_facts.TYPES[fact.type]()
        for path in fact.masked:
            first, second = path.split(".")
            assert second in getattr(message, first).DESCRIPTOR.fields_by_name


def test_the_default_charter_leaves_the_reporter_at_home() -> None:
    terms = contract_terms.default_charter("d10")
    filed = next(fact for fact in terms.facts if fact.type.endswith("RequestFiled"))
    assert set(filed.masked) == {"request.reporter", "request.contact"}


def test_terms_with_a_filter_are_understood() -> None:
    terms = pb.Terms(product="products/p", product_version=1, purpose="study")
    terms.fields.add(field="day")
    terms.filter.where["kind"] = "given"
    contract_terms.check(pb.CONTRACT_KIND_EXCHANGE, terms)
