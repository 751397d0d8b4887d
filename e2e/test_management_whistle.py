"""The street blows the whistle (吹哨报到): crews of three tiers are called, come or do not, and are rated."""

from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from e2e.federation import Caller, Federation, Refused, until

STREET = "zones/us-ca-sf-d10-potrero-hill"
OF_STREET = "organisations/potrero-hill.sewer"
OF_DISTRICT = "organisations/d10.public-works"
OF_CITY = "organisations/public-works"
PLACE = {"latitude": 37.7575, "longitude": -122.3995}
NEAR = {"latitude": 37.7580, "longitude": -122.3995}
FAR = {"latitude": 37.7700, "longitude": -122.3995}


def test_crews_of_three_tiers_report_in_at_the_place(federation: Federation) -> None:
    with ExitStack() as stack:
        officer, own, district, city, supervisor = (
            stack.enter_context(federation.node(node).signed_in(login))
            for node, login in (
                ("sf-potrero-hill", "duty-officer.potrero-hill"),
                ("sf-potrero-hill", "handler.potrero-hill.sewer"),
                ("sf-d10", "handler.d10.public-works"),
                ("sf", "handler.public-works"),
                ("sf", "supervisor.sf"),
            )
        )
        event = _open(officer)
        whistle = _blow(officer, event, [OF_STREET, OF_DISTRICT, OF_CITY], minutes=30)
        assert _states(whistle) == {OF_STREET: "CALLED", OF_DISTRICT: "CALLED", OF_CITY: "CALLED"}
        name = whistle["name"]
        _the_streets_own_crew_comes(own, name)
        for crew, organisation in ((district, OF_DISTRICT), (city, OF_CITY)):
            _a_crew_from_above_comes(crew, organisation, name)
        everybody = {OF_STREET: "ON_SITE", OF_DISTRICT: "ON_SITE", OF_CITY: "ON_SITE"}
        until("all on site", lambda: _states(officer.get(f"/v1/{name}")["whistle"]) == everybody)
        here = officer.get(f"/v1/{name}")["whistle"]["summons"]
        assert [(each["reportedBy"], each["lateMin"]) for each in here] == [
            ("people/handler.potrero-hill.sewer", 0),
            ("people/handler.d10.public-works", 0),
            ("people/handler.public-works", 0),
        ]
        _ended_and_rated(officer, supervisor, name)
        steps = officer.get(f"/v1/{event}/steps")["steps"]
        assert [step["action"] for step in steps] == ["open", "blow_whistle", "finish_whistle"]


def test_who_does_not_come_is_reminded_and_told_of(federation: Federation) -> None:
    street = federation.node("sf-potrero-hill")
    with (
        street.signed_in("duty-officer.potrero-hill") as officer,
        street.signed_in("handler.potrero-hill.sewer") as crew,
    ):
        whistle = _blow(officer, "", [OF_STREET], minutes=0.25)
        name = whistle["name"]
        assert whistle["remindAt"] < whistle["reportBy"]

        def summons() -> Any:
            return officer.get(f"/v1/{name}")["whistle"]["summons"][0]

        until("the reminder", lambda: summons().get("remindedAt"))
        until("the escalation", lambda: summons().get("escalatedAt"))
        assert summons()["state"] == "SUMMONS_STATE_OVERDUE"
        waiting = officer.get(f"/v1/{STREET}/whistles", state="WHISTLE_STATE_BLOWN")
        assert waiting["waiting"] >= 1
        # Late is better than never, and shown.
        late = crew.post(f"/v1/{name}:reportIn", {"organisation": OF_STREET, "position": PLACE})["whistle"]
        assert late["summons"][0]["lateMin"] >= 1
        officer.post(f"/v1/{name}:finish", {"outcome": "done"})


# ------------------------------------------------------------------------------------------------------------- in steps


def _the_streets_own_crew_comes(own: Caller, name: str) -> None:
    """It stands in the wrong place first."""
    far = {"organisation": OF_STREET, "position": FAR}
    assert own.refused("POST", f"/v1/{name}:reportIn", far) == Refused(400, "NOT_ON_SITE")
    own.post(f"/v1/{name}:reportIn", {"organisation": OF_STREET, "position": NEAR, "note": "到了 here"})


def _a_crew_from_above_comes(crew: Caller, organisation: str, name: str) -> None:
    """Its tier hears of the call, and it reports in at its own node."""
    listed = until("the call above", partial(_listed, crew, name))
    assert listed["instruction"] == "路面塌陷，请到场处置 The road has sunk: come"
    for_others = {"organisation": OF_STREET, "position": PLACE}
    assert crew.refused("POST", f"/v1/{name}:reportIn", for_others) == Refused(403, "NOT_PERMITTED")
    crew.post(f"/v1/{name}:reportIn", {"organisation": organisation, "position": PLACE})


def _ended_and_rated(officer: Caller, supervisor: Caller, name: str) -> None:
    """The street ends it and rates each; the supervisor of the city sees the ratings."""
    officer.post(f"/v1/{name}:finish", {"outcome": "已回填 Filled"})
    for organisation, score, solved in ((OF_STREET, 5, True), (OF_DISTRICT, 4, True), (OF_CITY, 2, False)):
        rating = {"organisation": organisation, "score": score, "solved": solved, "note": "评价 rated"}
        officer.post(f"/v1/{name}:rate", rating)
    again = {"organisation": OF_CITY, "score": 5}
    assert officer.refused("POST", f"/v1/{name}:rate", again) == Refused(409, "ALREADY_RATED")

    def rated() -> Any:
        found = _listed(supervisor, name)
        return found and [(each["score"], each["solved"]) for each in found["summons"]]

    until("the ratings in the city", lambda: rated() == [(5, True), (4, True), (2, False)])
    assert supervisor.refused("POST", f"/v1/{name}:finish", {"outcome": "x"}) == Refused(403, "NOT_PERMITTED")


def _open(officer: Caller) -> str:
    body = {
        "type": "eventTypes/street-defect",
        "description": "路面塌陷 The road has sunk",
        "place": {"point": PLACE, "address": "18th and Arkansas"},
    }
    name: str = officer.post(f"/v1/{STREET}/events", body)["event"]["name"]
    return name


def _blow(officer: Caller, event: str, organisations: list[str], *, minutes: float) -> Any:
    body = {
        "place": {"point": PLACE, "address": "18th and Arkansas"},
        "organisations": organisations,
        "instruction": "路面塌陷，请到场处置 The road has sunk: come",
        "event": event,
        "reportBy": (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat(),
    }
    return officer.post(f"/v1/{STREET}/whistles", body)["whistle"]


def _listed(caller: Caller, name: str) -> Any:
    """The whistle as somebody above finds it in their list; None while it is not there."""
    found = caller.get(f"/v1/{STREET}/whistles", pageSize=500)["whistles"]
    return next((whistle for whistle in found if whistle["name"] == name), None)


def _states(whistle: Any) -> dict[str, str]:
    return {each["organisation"]: each["state"].removeprefix("SUMMONS_STATE_") for each in whistle["summons"]}
