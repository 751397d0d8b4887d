"""Reference data: a platform team writes a loop and a type, a crew shows what it did, and a change waits for nobody."""

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from secrets import token_hex
from typing import Any

import pytest
import yaml

from demo.settings import ROOT
from e2e.federation import Caller, Federation, Refused, until

STREET = "zones/us-ca-sf-d10-potrero-hill"
ZONE = STREET.removeprefix("zones/")
CREW = "organisations/potrero-hill.public-works"
HANDLER, OFFICER = "handler.potrero-hill.public-works", "duty-officer.potrero-hill"
LOOP = (ROOT / "docs" / "examples" / "management" / "loops" / "fallen-tree.yaml").read_text()
PHOTO = b"\xff\xd8\xff\xe0" + b"a tree lies on the road " * 100_000
RECEIPT = b"%PDF-1.7\n" + b"two tons of wood\n" * 50
_numbers = count(1)


@pytest.fixture
def callers(federation: Federation) -> Iterator[dict[str, Caller]]:
    """The people of one street: who writes its rules, who opens events, who handles them, and who only looks on."""
    street = federation.node("sf-potrero-hill")
    with ExitStack() as stack:
        people = {
            "admin": "node-admin",
            "officer": OFFICER,
            "handler": HANDLER,
            "dispatcher": "dispatcher.potrero-hill",
        }
        yield {role: stack.enter_context(street.signed_in(login)) for role, login in people.items()}


def test_a_loop_is_written_and_its_mistakes_are_named_by_line(callers: dict[str, Caller]) -> None:
    admin = callers["admin"]
    broken = LOOP.replace("to: cleared", "to: cleaned").replace(
        "[reported, made_safe]\n# In these several", "[]\n# In these several"
    )
    answer = admin.http.post("/v1/loops", json={"definition": broken})
    assert answer.status_code == 400
    faults = [each["description"] for each in _violations(answer.json())]
    line = broken[: broken.index("to: cleaned")].count("\n") + 1
    assert f"line {line}: actions[1].to: 'cleaned' is not one of the states" in faults
    assert any("open_states: must be a list of at least one item" in fault for fault in faults)
    # Who handles events does not write their rules.
    assert callers["officer"].refused("POST", "/v1/loops", {"definition": LOOP}).status == 403

    loop, _ = _loop_and_type(admin)
    for role in ("officer", "handler"):
        found = callers[role].get(f"/v1/{loop}")["loop"]
        assert found["title"] == {"zh": "倒伏树木处置流程", "en": "Fallen tree"}
        assert [(action["title"]["zh"], action["title"]["en"]) for action in found["actions"][:2]] == [
            ("设围挡", "Make safe"), ("清运", "Clear away"),
        ]  # fmt: skip


def test_a_crew_shows_what_it_did(callers: dict[str, Caller]) -> None:
    officer, handler = callers["officer"], callers["handler"]
    _, kind = _loop_and_type(callers["admin"], evidence=[{"action": "clear", "evidence": 2, "photos": 1}])
    event = _open(officer, kind, "树倒在路上，堵住了 24 街")
    opened = officer.get(f"/v1/{event}")["event"]
    assert (opened["status"], opened["organisation"]) == ("reported", CREW)
    assert opened["title"].startswith("倒伏树木")

    # Nobody believes that it is safe without a photo.
    advance = f"/v1/{event}:advance"
    assert handler.refused("POST", advance, {"action": "make_safe"}) == Refused(400, "EVIDENCE_MISSING")
    script = handler.post(f"/v1/{event}/uploads", {"fileName": "photo.jpg", "sizeBytes": 8})["upload"]["name"]
    handler.post(f"/v1/{script}:part", {"number": 1, "content": b64encode(b"<script>").decode()})
    assert handler.refused("POST", f"/v1/{script}:finish", {}).status == 400

    safe = _upload(handler, event, "现场照片.jpg", PHOTO)
    handler.post(advance, {"action": "make_safe", "evidence": [safe]})
    # The same photo does not show that the tree is gone, and the type wants to know where the wood went.
    assert handler.refused("POST", advance, {"action": "clear", "evidence": [safe]}) == Refused(400, "EVIDENCE_MISSING")
    gone = [_upload(handler, event, "after.jpg", PHOTO[:-1]), _upload(handler, event, "收据.pdf", RECEIPT)]
    done = handler.post(advance, {"action": "clear", "evidence": gone, "answer": "已清运 Cleared"})["event"]
    assert (done["status"], done["answer"]) == ("cleared", "已清运 Cleared")

    steps = officer.get(f"/v1/{event}/steps")["steps"]
    assert [step["evidence"] for step in steps] == [[], [safe], gone]
    kept = officer.get(f"/v1/{event}/evidence")["evidence"]
    assert [(each["fileName"], each["mediaType"]) for each in kept] == [
        ("现场照片.jpg", "image/jpeg"), ("after.jpg", "image/jpeg"), ("收据.pdf", "application/pdf"),
    ]  # fmt: skip
    assert _download(officer, safe) == PHOTO


def test_evidence_is_for_who_may_read_the_event(federation: Federation, callers: dict[str, Caller]) -> None:
    _, kind = _loop_and_type(callers["admin"])
    event = _open(callers["officer"], kind, "A tree fell on the fence")
    photo = _upload(callers["handler"], event, "fence.jpg", PHOTO)
    with federation.node("sf").signed_in("resident.01") as resident:
        assert resident.refused("GET", f"/v1/{photo}").status in {403, 404}
    callers["handler"].post(f"/v1/{event}:advance", {"action": "make_safe", "evidence": [photo]})
    # The city is told that there is a photo, which stays in the street and is fetched for who opens it.
    with federation.node("sf").signed_in("dispatcher.sf") as city:
        steps = until("the step at the city", lambda: _steps(city, event, 2))
        assert steps[-1]["evidence"] == [photo]
        assert _download(city, photo) == PHOTO
        assert city.get(f"/v1/{event}/evidence").get("evidence", []) == []


def test_a_change_does_not_touch_events_in_flight(callers: dict[str, Caller]) -> None:
    admin, officer, handler = callers["admin"], callers["officer"], callers["handler"]
    loop, kind = _loop_and_type(admin)
    before = _open(officer, kind, "A tree leans over the pavement")

    # From now on nobody needs to show anything, and a tree is cleared away at once.
    text = admin.get(f"/v1/{loop}")["definition"].replace("    needs_photos: 1\n", "")
    text = text.replace("from: [made_safe]\n    to: cleared", "from: [reported, made_safe]\n    to: cleared")
    assert admin.post("/v1/loops", {"definition": text})["loop"]["version"] == 2
    changed = admin.get(f"/v1/{kind}")["eventType"] | {"deadline": {"minutes": 30, "aroundTheClock": True}}
    assert admin.put(f"/v1/{kind}", changed)["eventType"]["version"] == 2
    after = _open(officer, kind, "又一棵树倒了")

    events = {name: officer.get(f"/v1/{name}")["event"] for name in (before, after)}
    assert [(events[name]["loopVersion"], events[name]["typeVersion"]) for name in (before, after)] == [(1, 1), (2, 2)]
    assert handler.refused("POST", f"/v1/{before}:advance", {"action": "clear"}).reason == "WRONG_STATE"
    assert handler.post(f"/v1/{after}:advance", {"action": "clear"})["event"]["status"] == "cleared"
    assert handler.refused("POST", f"/v1/{before}:advance", {"action": "make_safe"}).reason == "EVIDENCE_MISSING"
    photo = _upload(handler, before, "leaning.jpg", PHOTO)
    shown = handler.post(f"/v1/{before}:advance", {"action": "make_safe", "evidence": [photo]})
    assert shown["event"]["status"] == "made_safe"

    # Both versions can still be read.
    assert admin.get(f"/v1/{loop}", version=1)["definition"] != text
    assert admin.get(f"/v1/{kind}", version=1)["eventType"]["deadline"]["minutes"] == 480
    versions = admin.get(f"/v1/{kind}/versions")["versions"]
    assert [(each["eventType"]["version"], each["changedBy"]) for each in versions] == [
        (2, "people/node-admin"), (1, "people/node-admin"),
    ]  # fmt: skip


def test_a_type_of_component_says_what_can_be_reported_of_it(callers: dict[str, Caller]) -> None:
    admin, officer = callers["admin"], callers["officer"]
    _, kind = _loop_and_type(admin)
    name = f"componentTypes/tree-{token_hex(4)}"
    wanted = {
        "title": {"zh": "行道树", "en": "Street tree"},
        "code": "0402",
        "majorClass": {"code": "04", "title": {"zh": "园林绿化类", "en": "Parks and trees"}},
        "owners": [{"zone": ZONE, "organisation": CREW}],
        "eventTypes": [kind],
    }
    assert admin.put(f"/v1/{name}", wanted)["componentType"]["version"] == 1
    (found,) = officer.get("/v1/componentTypes", eventType=kind)["componentTypes"]
    assert (found["name"], found["title"], found["owners"]) == (name, wanted["title"], wanted["owners"])


# ------------------------------------------------------------------------------------------------------------- in steps


def _loop_and_type(admin: Caller, **more: Any) -> tuple[str, str]:
    """The example's loop and type under names of their own."""
    number = token_hex(4)
    loop, kind = f"loops/fallen-tree-{number}", f"eventTypes/fallen-tree-{number}"
    put = admin.post("/v1/loops", {"definition": LOOP.replace("loops/fallen-tree", loop)})
    assert (put["changed"], put["loop"]["name"], put["loop"]["version"]) == (True, loop, 1)
    assert [action["action"] for action in put["loop"]["actions"]] == [
        each["action"] for each in yaml.safe_load(LOOP)["actions"]
    ]
    wanted = {
        "title": {"zh": "倒伏树木", "en": "Fallen tree"},
        "loop": loop,
        "deadline": {"minutes": 480, "aroundTheClock": True},
        "routes": [{"zone": ZONE, "organisation": CREW}],
    } | more
    assert admin.put(f"/v1/{kind}", wanted)["eventType"]["version"] == 1
    return loop, kind


def _open(officer: Caller, kind: str, words: str) -> str:
    body = {"type": kind, "description": words, "place": {"address": f"{next(_numbers)} {token_hex(4)} Street"}}
    name: str = officer.post(f"/v1/{STREET}/events", body)["event"]["name"]
    return name


def _upload(caller: Caller, event: str, file_name: str, content: bytes) -> str:
    """Send a file part by part, as the node wants it."""
    upload = caller.post(f"/v1/{event}/uploads", {"fileName": file_name, "sizeBytes": len(content)})["upload"]
    size = int(upload["partBytes"])
    for number in range(1, upload["parts"] + 1):
        part = content[(number - 1) * size : number * size]
        caller.post(f"/v1/{upload['name']}:part", {"number": number, "content": b64encode(part).decode()})
    evidence = caller.post(f"/v1/{upload['name']}:finish", {})["evidence"]
    assert b64decode(evidence["sha256"]) == hashlib.sha256(content).digest()
    name: str = evidence["name"]
    return name


def _download(caller: Caller, name: str) -> bytes:
    answer = caller.http.get(f"/v1/{name}").raise_for_status()
    parts = [json.loads(line) for line in answer.text.splitlines() if line]
    assert parts[0]["evidence"]["name"] == name
    return b"".join(b64decode(part["content"]) for part in parts)


def _steps(caller: Caller, event: str, least: int) -> Any:
    if caller.http.get(f"/v1/{event}").is_error:
        return None
    steps = caller.get(f"/v1/{event}/steps")["steps"]
    return steps if len(steps) >= least else None


def _violations(answer: Any) -> Any:
    return next(detail["fieldViolations"] for detail in answer["details"] if "fieldViolations" in detail)
