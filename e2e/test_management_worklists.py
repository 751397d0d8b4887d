"""Work lists at a street: two handlers take work up, hand it on and finish it; the dispatcher watches it live."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import count
from secrets import token_hex
from typing import Any

from e2e.federation import Caller, Federation, Gateway, Refused, until

STREET = "zones/us-ca-sf-d10-potrero-hill"
ZONE = STREET.removeprefix("zones/")
CREW = "organisations/potrero-hill.public-works"
ONE = "handler.potrero-hill.public-works"
WATCH_READ_TIMEOUT_S = 60.0
_numbers = count(1)


def test_two_handlers_share_the_work_and_the_dispatcher_sees_it_live(federation: Federation) -> None:
    street = federation.node("sf-potrero-hill")
    with ExitStack() as stack:
        officer, dispatcher, one, two = [
            stack.enter_context(street.signed_in(*login))
            for login in (
                ("duty-officer.potrero-hill",), ("dispatcher.potrero-hill",), (ONE,), _colleague(street, CREW),
            )
        ]  # fmt: skip
        unassigned = {"inbox": "WORK_INBOX_UNASSIGNED", "filter.types": "eventTypes/graffiti"}
        before = _count(one, "WORK_INBOX_UNASSIGNED")
        stream = stack.enter_context(_watching(dispatcher, **{"filter.organisations": CREW}))
        walls = [_open(officer, words) for words in ("墙上有涂鸦", "Tags on the wall", "又一处涂鸦")]
        for wall in walls:
            officer.post(f"/v1/{wall}:advance", {"action": "file"})
            dispatcher.post(f"/v1/{wall}:advance", {"action": "dispatch", "organisation": CREW})
        _told(stream, *(("ADDED", wall) for wall in walls))

        # Both find the same free work, and one of them gets it.
        for handler in (one, two):
            assert set(walls) <= set(_names(handler, **unassigned))
        assert _count(one, "WORK_INBOX_UNASSIGNED") == before + len(walls)
        one.post(f"/v1/{walls[0]}:claim")
        assert two.refused("POST", f"/v1/{walls[0]}:claim") == Refused(400, "ALREADY_ASSIGNED")
        _told(stream, ("CHANGED", walls[0]))
        assert walls[0] in _names(one, inbox="WORK_INBOX_MINE")
        assert walls[0] not in _names(two, **unassigned)

        # A shift ends: what one has goes to the other, who takes the rest, too.
        handed = one.post(f"/v1/{walls[0]}:transfer", {"to": f"people/{_login(two)}", "reason": "my shift ends"})
        assert handed["event"]["assignee"] == f"people/{_login(two)}"
        claimed = two.post("/v1/work:bulk", {"targets": [{"name": wall} for wall in walls], "claim": {}})
        assert claimed["done"] == len(walls)
        assert set(walls) <= set(_names(two, inbox="WORK_INBOX_MINE"))
        assert not set(walls) & set(_names(one, **unassigned))

        # Done together, one by one: who has seen an older revision is told so, the others are through.
        targets = [{"name": walls[0], "etag": 1}, {"name": walls[1]}, {"name": walls[2]}]
        done = two.post("/v1/work:bulk", {"targets": targets, "advance": {"action": "dispose", "reason": "painted"}})
        refused = {result["name"]: result["error"]["reason"] for result in done["results"] if "error" in result}
        assert (done["done"], refused) == (2, {walls[0]: "ETAG_STALE"})
        two.post(
            "/v1/work:bulk", {"targets": targets[1:], "advance": {"action": "feed_back", "answer": "干净了 Clean"}}
        )
        with street.signed_in("verifier.potrero-hill") as verifier:
            two_of_them = {"targets": targets[1:], "advance": {"action": "verify", "reason": "seen"}}
            assert verifier.post("/v1/work:bulk", two_of_them)["done"] == len(walls) - 1
        _told(stream, ("REMOVED", walls[1]), ("REMOVED", walls[2]))
        steps = dispatcher.get(f"/v1/{walls[0]}/steps")["steps"]
        assert [step["action"] for step in steps] == ["open", "file", "dispatch", "claim", "transfer"]


def test_titles_are_found_in_both_languages(federation: Federation) -> None:
    street = federation.node("sf-potrero-hill")
    with street.signed_in("duty-officer.potrero-hill") as officer, street.signed_in("dispatcher.potrero-hill") as other:
        chinese, english = _open(officer, "墙上有涂鸦"), _open(officer, "Tags on the wall")
        title = {"zh": "新来的涂鸦", "en": "New graffiti"}
        saved = {"title": title, "parent": STREET, "filter": {"title": "涂鸦"}, "inbox": "WORK_INBOX_ROLE"}
        name = "people/duty-officer.potrero-hill/savedFilters/graffiti"
        officer.put(f"/v1/{name}", {"savedFilter": {**saved, "name": name}})
        (kept,) = [each for each in officer.get("/v1/savedFilters")["savedFilters"] if each["name"] == name]
        assert kept["title"] == title
        assert name not in {each["name"] for each in other.get("/v1/savedFilters")["savedFilters"]}

        found = _names(officer, inbox=kept["inbox"], **{"filter.title": kept["filter"]["title"]})
        assert chinese in found
        assert english not in found
        assert english in _names(officer, inbox="WORK_INBOX_ROLE", **{"filter.title": "GRAFFITI"})
        # Filing is the officer's work, not the dispatcher's.
        assert not {chinese, english} & set(_names(other, inbox="WORK_INBOX_ROLE"))


def test_what_must_go_on_first_comes_first(federation: Federation) -> None:
    street = federation.node("sf-potrero-hill")
    with street.signed_in("duty-officer.potrero-hill") as officer, street.signed_in("dispatcher.potrero-hill") as other:
        collected, filed = _open(officer, "墙上有涂鸦"), _open(officer, "Tags on the wall")
        officer.post(f"/v1/{filed}:advance", {"action": "file"})
        items = _items(other, order="WORK_ORDER_STEP_DUE")
        due = [datetime.fromisoformat(item["event"].get("stepDueAt") or "9999-01-01T00:00:00Z") for item in items]
        assert due == sorted(due)
        # Filing is due in two hours of work and dispatching in four, whatever the whole events have.
        names = [item["event"]["name"] for item in items]
        assert names.index(collected) < names.index(filed)


def test_who_leaves_the_crew_leaves_the_work(federation: Federation) -> None:
    street = federation.node("sf-potrero-hill")
    login, password = _colleague(street, CREW)
    with ExitStack() as stack:
        officer, dispatcher, admin = [
            stack.enter_context(street.signed_in(who))
            for who in ("duty-officer.potrero-hill", "dispatcher.potrero-hill", "node-admin")
        ]
        wall = _open(officer, "Tags on the wall")
        officer.post(f"/v1/{wall}:advance", {"action": "file"})
        dispatcher.post(f"/v1/{wall}:advance", {"action": "dispatch", "organisation": CREW})
        refused = dispatcher.refused("POST", f"/v1/{wall}:assign", {"assignee": "people/verifier.potrero-hill"})
        assert refused == Refused(403, "ASSIGNEE_NOT_ENTITLED")
        dispatcher.post(f"/v1/{wall}:assign", {"assignee": f"people/{login}", "reason": "is near"})
        with street.signed_in(login, password) as handler, _watching(handler) as stream:
            assert wall in _names(handler, inbox="WORK_INBOX_MINE")
            admin.put(f"/v1/people/{login}", {"person": {"login": login, "posts": []}})
            _end(stream)
        until("free work", lambda: not officer.get(f"/v1/{wall}")["event"]["assignee"])
        why = dispatcher.get(f"/v1/{wall}/steps")["steps"][-1]["explanation"]["text"]
        assert f"people/{login} 已不在 {CREW} 任职" in why["zh"]
        assert f"people/{login} holds no post in {CREW}" in why["en"]


def test_the_city_sees_who_has_what_at_the_street(federation: Federation) -> None:
    street = federation.node("sf-potrero-hill")
    with (
        street.signed_in("duty-officer.potrero-hill") as officer,
        federation.node("sf").signed_in("dispatcher.sf") as city,
    ):
        event = _open(officer, "Tags on the wall")
        officer.post(f"/v1/{event}:claim")

        def seen() -> Any:
            items = _items(city, **{"filter.mirrored": True, "filter.assignee": "people/duty-officer.potrero-hill"})
            return next((item for item in items if item["event"]["name"] == event), None)

        assert until("the city's copy", seen)["actions"] == []
        assert event not in _names(city)


# ------------------------------------------------------------------------------------------------------------- in steps


def _open(officer: Caller, words: str) -> str:
    place = {"address": f"{next(_numbers)} {token_hex(4)} Avenue"}
    body = {"type": "eventTypes/graffiti", "description": words, "place": place}
    name: str = officer.post(f"/v1/{STREET}/events", body)["event"]["name"]
    return name


def _colleague(street: Gateway, organisation: str) -> tuple[str, str]:
    """A second handler of an organisation: login and password."""
    login, password = f"handler.{token_hex(4)}", token_hex(16)
    post = {"role": "roles/handler", "zone": ZONE, "organisation": organisation}
    with street.signed_in("node-admin") as admin:
        admin.put(f"/v1/people/{login}", {"person": {"login": login, "posts": [post]}, "password": password})
    return login, password


def _login(caller: Caller) -> str:
    name: str = caller.get("/v1/profile")["person"]["name"]
    return name.removeprefix("people/")


def _items(caller: Caller, **query: Any) -> list[Any]:
    """All pages of a list; each is short, so that there are several."""
    items: list[Any] = []
    token = ""
    while True:
        page = caller.get(f"/v1/{STREET}/work", pageSize=20, pageToken=token, **query)
        items += page["items"]
        token = page["nextPageToken"]
        if not token:
            return items


def _names(caller: Caller, **query: Any) -> list[str]:
    return [item["event"]["name"] for item in _items(caller, **query)]


def _count(caller: Caller, inbox: str) -> int:
    counts = caller.get(f"/v1/{STREET}/work:count", inboxes=inbox)["counts"][0]
    assert int(counts["total"]) == len(_names(caller, inbox=inbox))
    return int(counts["total"])


Stream = Iterator[Any]


@contextmanager
def _watching(caller: Caller, **query: Any) -> Iterator[Stream]:
    """The changes of a list from now on, one JSON object per line."""
    call = caller.http.stream("GET", f"/v1/{STREET}/work:watch", params=query, timeout=WATCH_READ_TIMEOUT_S)
    with call as answer:
        assert answer.is_success, answer.read()
        stream = map(json.loads, answer.iter_lines())
        assert int(next(stream)["watchToken"])
        yield stream


def _told(stream: Stream, *changes: tuple[str, str]) -> None:
    """Read until all of these changes were told."""
    left = set(changes)
    while left:
        said = next(stream)["changes"]
        left -= {(change["kind"].removeprefix("WORK_CHANGE_KIND_"), change["name"]) for change in said}


def _end(stream: Stream) -> None:
    """Read to the end, which must come by itself."""
    for _ in stream:
        pass
