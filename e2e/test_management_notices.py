"""A late event is brought before those who must see it: at its own tier, and two tiers up."""

from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

from e2e.federation import Caller, Federation, Refused, until

STREET = "sf-potrero-hill"
ZONE = "zones/us-ca-sf-d10-potrero-hill"
TYPE = "eventTypes/blocked-hydrant"


def test_a_late_event_reaches_the_supervisors_of_its_tier_and_of_the_city(federation: Federation) -> None:
    with ExitStack() as stack:
        street, city = federation.node(STREET), federation.node("sf")
        admin = stack.enter_context(street.signed_in("node-admin"))
        officer = stack.enter_context(street.signed_in("duty-officer.potrero-hill"))
        supervisor = stack.enter_context(street.signed_in("supervisor.potrero-hill"))
        above = stack.enter_context(city.signed_in("supervisor.sf"))
        handler = stack.enter_context(street.signed_in("handler.potrero-hill.public-works"))

        _hydrants_are_due_within_a_minute(admin)
        seen_at = datetime.now(UTC) - timedelta(hours=2)
        event = officer.post(f"/v1/{ZONE}/events", _hydrant(seen_at))["event"]["name"]

        reminded = _told(officer, event, "NOTICE_KIND_REMINDER")
        assert "deadline of “" in reminded["text"]["en"]
        assert reminded["text"]["en"].endswith("; it is late.")
        assert "业务时限已于" in reminded["text"]["zh"]
        assert not reminded.get("urgent")
        brought = _told(supervisor, event, "NOTICE_KIND_ESCALATION")
        assert brought["urgent"]
        assert "it is brought before you" in brought["text"]["en"]
        assert "按类型的升级规则提请处理" in brought["text"]["zh"]
        elsewhere = _told(above, event, "NOTICE_KIND_ESCALATION")
        assert elsewhere["node"] == STREET

        assert handler.refused("POST", f"/v1/{brought['name']}:acknowledge") == Refused(404, "NOTICE_NOT_FOUND")
        waiting = int(supervisor.get("/v1/notices")["urgent"])
        acknowledged = supervisor.post(f"/v1/{brought['name']}:acknowledge")["notice"]
        assert acknowledged["acknowledgedBy"] == "people/supervisor.potrero-hill"
        assert int(supervisor.get("/v1/notices").get("urgent", 0)) == waiting - 1
        assert not _told(above, event, "NOTICE_KIND_ESCALATION").get("acknowledgedAt")


def _hydrants_are_due_within_a_minute(admin: Caller) -> None:
    admin.put(
        f"/v1/{TYPE}",
        {
            "title": {"zh": "消火栓被占压", "en": "Blocked hydrant"},
            "deadline": {"minutes": 1, "aroundTheClock": True},
            "reminders": [{"clock": "CLOCK_KIND_BUSINESS", "offsetMin": 1, "role": "duty_officer"}],
            "escalations": [
                {"clock": "CLOCK_KIND_BUSINESS", "afterMin": 2, "role": "supervisor", "tier": f"ESCALATION_TIER_{tier}"}
                for tier in ("ZONE", "ABOVE")
            ],
        },
    )


def _hydrant(occurred_at: datetime) -> dict[str, Any]:
    return {
        "type": TYPE,
        "description": f"a delivery van stands on the hydrant {token_hex(4)}",
        "place": {"address": f"{token_hex(6)} Street"},
        "occurredAt": occurred_at.isoformat(),
    }


def _told(caller: Caller, event: str, kind: str) -> Any:
    def look() -> Any:
        notices = caller.get("/v1/notices")["notices"]
        return next((found for found in notices if (found["subject"], found["kind"]) == (event, kind)), None)

    return until(f"{kind} for {event}", look)
