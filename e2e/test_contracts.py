"""A contract between two cities: what it gives flows, anything else is refused with a reason, and it can end."""

from contextlib import ExitStack

from e2e.contracts import FIELDS, negotiate, until_state
from e2e.federation import Federation, Refused

PURPOSE = "comparing the air of two cities"


def test_a_contract_gives_its_fields_and_no_others(federation: Federation) -> None:
    with ExitStack() as stack:
        consumer = stack.enter_context(federation.node("sf").signed_in("data-steward.sf"))
        provider = stack.enter_context(federation.node("beijing").signed_in("data-steward.bj"))
        contract = negotiate(consumer, provider, PURPOSE, zone="cn-110000")

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
        until_state(consumer, contract, "TERMINATED")
        ended = consumer.refused("POST", f"/v1/{contract}:query", {"fields": ["station"]})
        assert ended == Refused(400, "CONTRACT_NOT_ACTIVE")
