"""A contract between two cities: what it gives flows, anything else is refused with a reason, and it can end."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from e2e.contracts import FIELDS, negotiate, until_state
from e2e.federation import Caller, Federation, Refused, until

PURPOSE = "comparing the air of two cities"
STREAMED_ROWS = 50
PAGED_ROWS = 70


def test_a_contract_gives_its_fields_and_no_others(federation: Federation) -> None:
    with ExitStack() as stack:
        consumer = stack.enter_context(federation.node("sf").signed_in("data-steward.sf"))
        provider = stack.enter_context(federation.node("beijing").signed_in("data-steward.bj"))
        contract = negotiate(consumer, provider, PURPOSE, zone="cn-110000")

        rows = consumer.post(f"/v1/{contract}:query", {"purpose": PURPOSE, "pageSize": 3})["rows"]
        assert len(rows) == 3
        assert {tuple(sorted(row)) for row in rows} == {tuple(sorted(FIELDS))}

        streamed = list(_streamed(consumer, contract))
        assert len(streamed) > 1
        assert [bool(page.get("nextPageToken")) for page in streamed] == [True] * (len(streamed) - 1) + [False]
        assert [row for page in streamed for row in page["rows"]] == _paged(consumer, contract)

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


def test_what_the_consumer_says_is_gone_is_what_it_was_given(federation: Federation) -> None:
    """The consumer deletes when the contract ends and proves it; the provider finds its own figures in the proof."""
    with ExitStack() as stack:
        consumer = stack.enter_context(federation.node("sf").signed_in("data-steward.sf"))
        provider = stack.enter_context(federation.node("beijing").signed_in("data-steward.bj"))
        contract = negotiate(consumer, provider, PURPOSE, zone="cn-110000")

        def delivered() -> int:
            sent, received = (
                int(side.get(f"/v1/{contract}")["contract"].get(of, 0))
                for side, of in ((provider, "rowsSent"), (consumer, "rowsReceived"))
            )
            return sent if sent == received else 0

        rows = int(until("rows at the consumer", delivered))
        provider.post(f"/v1/{contract}:terminate", {"reason": "the comparison is done"})

        def checked() -> Any:
            proofs = provider.get(f"/v1/{contract}/deletionProofs")["proofs"]
            return proofs if {proof["check"] for proof in proofs} == {"DELETION_CHECK_MATCHES"} else None

        proofs = until("the proof to be checked", checked)
        assert sum(int(day["rows"]) for proof in proofs for day in proof["days"]) == rows
        assert {proof["reason"] for proof in proofs} == {"TERMINATED"}
        assert {day["contract"] for proof in proofs for day in proof["days"]} == {contract}
        own = consumer.get(f"/v1/{contract}/deletionProofs")["proofs"]
        assert [proof["proof"] for proof in own] == [proof["proof"] for proof in proofs]
        assert {proof["check"] for proof in own} == {"DELETION_CHECK_UNSPECIFIED"}


def _streamed(consumer: Caller, contract: str) -> Iterator[Any]:
    """The pages of the whole answer as they come from the other city, one JSON object per line."""
    with consumer.http.stream("POST", f"/v1/{contract}:stream", json={"pageSize": STREAMED_ROWS}) as answer:
        assert answer.is_success, answer.read()
        yield from map(json.loads, answer.iter_lines())


def _paged(consumer: Caller, contract: str) -> list[Any]:
    rows: list[Any] = []
    token = ""
    while True:
        page = consumer.post(f"/v1/{contract}:query", {"pageSize": PAGED_ROWS, "pageToken": token})
        rows += page["rows"]
        token = page.get("nextPageToken", "")
        if not token:
            return rows
