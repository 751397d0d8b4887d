"""Photos from the street: a crew sends them as they are and shows them for several walls; others look at them."""

import os
from collections.abc import Iterator
from secrets import token_hex
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from e2e.federation import Caller, Federation, Refused, until
from e2e.street import CREW, People, people_of

ZONE = "us-ca-sf-d10-potrero-hill"
# More than a request may have otherwise.
PHOTO = b"\xff\xd8\xff\xe0" + os.urandom(6 * 1024 * 1024)
CLIP = b"\x00\x00\x00\x18ftypmp42" + os.urandom(3 * 1024 * 1024)
NAMES = ("清理后.jpg", "after cleaning.jpg")


@pytest.fixture
def people(federation: Federation) -> Iterator[People]:
    street = {
        "admin": "node-admin",
        "officer": "duty-officer.potrero-hill",
        "dispatcher": "dispatcher.potrero-hill",
        "handler": "handler.potrero-hill.public-works",
    }
    with people_of(federation, city={"resident": "resident.01", "city": "supervisor.sf"}, street=street) as found:
        yield found


def test_a_crew_shows_what_it_did_at_several_walls_at_once(federation: Federation, people: People) -> None:
    walls = [_with_the_crew(people, words) for words in ("墙上有涂鸦", "Tags on the wall", "又一处涂鸦")]
    photos = [_sent(people["handler"], wall, name) for wall, name in zip(walls, NAMES, strict=False)]

    # Whoever may see the event sees the photo as it was taken, under the name that it had, and nothing runs of it.
    for photo, name in zip(photos, NAMES, strict=True):
        answer = people["officer"].http.get(f"/v1/{photo}/content")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
        assert answer.content == PHOTO
        assert answer.headers["content-disposition"].startswith("attachment;")
        assert quote(name, safe="") in answer.headers["content-disposition"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].endswith("sandbox")
    with federation.node("sf-potrero-hill").anonymous() as nobody:
        assert nobody.refused("GET", f"/v1/{photos[0]}/content").status == 401

    # Several walls are done together, each with its own photo; the one without is told so, in words, and stays.
    targets: list[dict[str, Any]] = [
        {"name": walls[0], "evidence": photos[:1]},
        {"name": walls[1], "evidence": photos[1:]},
        {"name": walls[2]},
    ]
    step = {"action": "dispose", "reason": "painted 已粉刷"}
    done = people["handler"].post("/v1/work:bulk", {"targets": targets, "advance": step})
    refused = {result["name"]: result["error"] for result in done["results"] if "error" in result}
    assert (done["done"], list(refused)) == (2, walls[2:])
    assert refused[walls[2]]["reason"] == "EVIDENCE_MISSING"
    assert "needs 1 photos, new ones; there are 0" in refused[walls[2]]["message"]
    shown = [people["officer"].get(f"/v1/{wall}/steps")["steps"][-1]["evidence"] for wall in walls[:2]]
    assert shown == [photos[:1], photos[1:]]


def test_a_film_is_looked_at_in_parts_and_a_page_is_no_photo(people: People) -> None:
    wall = _with_the_crew(people, "Tags on the wall")
    handler, officer = people["handler"], people["officer"]
    film = _sent(handler, wall, "现场 on site.mp4", CLIP)
    part = officer.http.get(f"/v1/{film}/content", headers={"range": "bytes=100-199"})
    assert (part.status_code, part.headers["content-type"], part.content) == (206, "video/mp4", CLIP[100:200])
    tag = part.headers["etag"]
    assert officer.http.get(f"/v1/{film}/content", headers={"if-none-match": tag}).status_code == 304

    for name, content in (("photo.jpg", b"<html><script>alert(1)</script>"), ("photo.svg", b"<svg onload='x'/>")):
        answer = _send(handler, wall, name, content)
        assert (answer.status_code, "is none of image/jpeg" in answer.json()["message"]) == (400, True)
    assert _send(handler, wall, "large.jpg", bytes(21 * 1024 * 1024)).status_code == 400
    assert _send(people["dispatcher"], wall, "photo.jpg", PHOTO).status_code == 201
    assert len(officer.get(f"/v1/{wall}/evidence")["evidence"]) == 2

    # The city hears of the wall and takes no photos of it: the street does.
    until("the city knows the wall", lambda: not people["city"].http.get(f"/v1/{wall}").is_error)
    elsewhere = _send(people["city"], wall, "photo.jpg", PHOTO)
    assert (elsewhere.status_code, elsewhere.json()["details"][0]["reason"]) == (400, "NOT_AUTHORITATIVE")
    assert _send(people["resident"], wall, "photo.jpg", PHOTO).status_code == 403


def test_the_city_opens_what_the_street_keeps_through_the_district(federation: Federation, people: People) -> None:
    wall = _with_the_crew(people, "墙上有涂鸦 Tags on the wall")
    photo = _sent(people["handler"], wall, NAMES[0])
    city = people["city"]
    until("the city knows the wall", lambda: not city.http.get(f"/v1/{wall}").is_error)
    seen = city.http.get(f"/v1/{photo}/content")
    assert (seen.status_code, seen.headers["content-type"], seen.content) == (200, "image/jpeg", PHOTO)
    assert quote(NAMES[0], safe="") in seen.headers["content-disposition"]
    assert people["resident"].refused("GET", f"/v1/{photo}/content").status == 403
    assert city.refused("GET", f"/v1/{wall}/evidence/none/content") == Refused(404, "EVIDENCE_NOT_FOUND")

    with federation.away("sf-d10"):
        until("the city says who is away", lambda: "sf-d10 is away since" in _refusal(city, photo))
        assert city.refused("GET", f"/v1/{photo}/content") == Refused(503, "PEER_AWAY")
        assert people["officer"].http.get(f"/v1/{photo}/content").content == PHOTO
    until("the photo again", lambda: not city.http.get(f"/v1/{photo}/content").is_error)

    # Who had it opened stands in the log of the street, too.
    with federation.node("sf-potrero-hill").signed_in("auditor.potrero-hill") as auditor:
        query = {"part": "federation", "resource": photo}
        # Entries are shown once they are sealed.
        entries = until("the audit entry", lambda: auditor.get("/v1/audit/entries", **query)["entries"])
    assert {entry["action"] for entry in entries} == {"federation.event_evidence.give"}
    detail = entries[0]["detail"]
    assert (detail["actor"], detail["peer"]) == ("people/supervisor.sf@sf", "sf-d10")


def test_the_status_page_says_in_both_languages_where_photos_are_kept(federation: Federation) -> None:
    with federation.node("sf-potrero-hill").anonymous() as anybody:
        # Pages are for people of this machine here.
        for language, words in (("en", "Evidence (folder)"), ("zh-CN", "证据存储（文件夹）")):
            assert words in anybody.http.get("/", params={"lang": language}).text
        found = anybody.get("/status.json")
    assert [line["ready"] for line in found["servers"] if line["name"] == "evidence_folder"] == [True]


def _with_the_crew(people: People, words: str) -> str:
    """A wall that the crew has, of a kind that wants a photo of what was done."""
    kind = f"eventTypes/wall-{token_hex(4)}"
    wanted = {
        "title": {"zh": "墙面涂鸦", "en": "Tagged wall"},
        "loop": "loops/seven-step",
        "deadline": {"minutes": 480, "aroundTheClock": True},
        "routes": [{"zone": ZONE, "organisation": CREW}],
        "evidence": [{"action": "dispose", "photos": 1}],
    }
    people["admin"].put(f"/v1/{kind}", wanted)
    opening = {"type": kind, "description": words, "place": {"address": f"{token_hex(6)} Street"}}
    event: str = people["officer"].post(f"/v1/zones/{ZONE}/events", opening)["event"]["name"]
    people["officer"].post(f"/v1/{event}:advance", {"action": "file"})
    people["dispatcher"].post(f"/v1/{event}:advance", {"action": "dispatch", "organisation": CREW})
    return event


def _send(caller: Caller, event: str, name: str, content: bytes) -> httpx.Response:
    return caller.http.post(f"/v1/{event}/evidence", params={"fileName": name}, content=content)


def _sent(caller: Caller, event: str, name: str, content: bytes = PHOTO) -> str:
    answer = _send(caller, event, name, content)
    assert answer.status_code == 201, answer.text
    evidence = answer.json()["evidence"]
    assert (evidence["fileName"], evidence["sizeBytes"]) == (name, str(len(content)))
    found: str = evidence["name"]
    return found


def _refusal(caller: Caller, photo: str) -> str:
    """What is said to somebody who does not get to see it, "" when it can be seen."""
    answer = caller.http.get(f"/v1/{photo}/content")
    return str(answer.json()["message"]) if answer.is_error else ""
