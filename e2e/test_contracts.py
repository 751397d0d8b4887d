"""A contract between two cities: what it gives flows, anything else is refused with a reason, and it can end."""

from contextlib import ExitStack
from typing import Any

from e2e.federation import Caller, Federation, Refused, until

FIELDS = ("station", "day", "pm25_mean")
PURPOSE = "comparing the air of two cities"


def test_a_contract_gives_its_fields_and_no_others(federation: Federation) -> None:
    with ExitStack() as stack:
        consumer = stack.enter_context(federation.node("sf").signed_in("data-steward.sf"))
        provider = stack.enter_context(federation.node("beijing").signed_in("data-steward.bj"))
        contract = _negotiate(consumer, provider)

        rows = consumer.post(f"/v1/{contract}:query", {"purpose": PURPOSE, "pageSize": 3})["rows"]
        assert len(rows) == 3
        assert {tuple(sorted(row)) for row in rows} == {tuple(sorted(FIELDS))}

        outside = consumer.refused("POST", f"/v1/{contract}:query", {"fields": ["pm25_maximum"]})
        assert outside == Refused(403, "FIELD_NOT_IN_CONTRACT")
        other_purpose = consumer.refused("POST", f"/v1/{contract}:query", {"purpose": "advertising"})
        assert other_purpose == Refused(403, "PURPOSE_NOT_IN_CONTRACT")
        kept = consumer.get(f"/v1/{contract}/refusals")["refusals"]
        assert [refusal["reason"] for refusal in kept] == ["PURPOSE_NOT_IN_CONTRACT", "FIELD_NOT_IN_CONTRACT"]
        assert "pm25_maximum" in kept[1]["description"]
        assert kept[1]["actor"] == "people/data-steward.sf"

        provider.post(f"/v1/{contract}:terminate", {"reason": "the comparison is done"})
        _until_state(consumer, contract, "TERMINATED")
        ended = consumer.refused("POST", f"/v1/{contract}:query", {"fields": ["station"]})
        assert ended == Refused(400, "CONTRACT_NOT_ACTIVE")


def _negotiate(consumer: Caller, provider: Caller) -> str:
    """Requested, agreed, verified and then finalised; returns the contract's name."""
    offered = consumer.get("/v1/peers/beijing/products")["products"]
    product = next(product for product in offered if product["name"] == "products/pm25-daily")
    terms = {
        "product": product["name"],
        "productVersion": product["version"],
        "fields": [{"field": field} for field in FIELDS],
        "zone": "cn-110000",
        "purpose": PURPOSE,
    }
    requested = consumer.post("/v1/contracts:request", {"peer": "peers/beijing", "terms": terms})
    name: str = requested["contract"]["name"]
    _until_state(provider, name, "REQUESTED")
    provider.post(f"/v1/{name}:agree")
    _until_state(consumer, name, "AGREED")
    consumer.post(f"/v1/{name}:verify")
    for side in (consumer, provider):
        _until_state(side, name, "FINALIZED")
    return name


def _until_state(side: Caller, name: str, state: str) -> None:
    def reached() -> bool:
        listed: list[Any] = side.get("/v1/contracts", pageSize=500)["contracts"]
        return any(found["name"] == name and found["state"] == f"CONTRACT_STATE_{state}" for found in listed)

    until(f"{name} {state}", reached)
