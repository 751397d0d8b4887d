"""One event for two crews (联合处置): each its share, done one after the other, and one answer for who reported it."""

from collections.abc import Iterator
from typing import Any

import pytest

from e2e.federation import Caller, Federation, Refused, until
from e2e.street import CREW, People, people_of, with_the_crew

LEAD, SECOND = CREW, "organisations/potrero-hill.sewer"


@pytest.fixture
def people(federation: Federation) -> Iterator[People]:
    logins = {
        "officer": "duty-officer.potrero-hill",
        "dispatcher": "dispatcher.potrero-hill",
        "lead": "handler.potrero-hill.public-works",
        "second": "handler.potrero-hill.sewer",
        "verifier": "verifier.potrero-hill",
    }
    with people_of(federation, city={"resident": "resident.01"}, street=logins) as found:
        yield found


@pytest.mark.parametrize(
    "words",
    [("the pavement has sunk above the sewer", "The sewer is sealed and the pavement level."),
     ("下水道上方的人行道塌陷", "下水道已修复，路面已平整。")],
    ids=["en", "zh"],
)  # fmt: skip
def test_two_crews_do_their_shares_and_the_resident_gets_one_answer(people: People, words: tuple[str, str]) -> None:
    said, answer = words
    request, event = with_the_crew(people, said)
    shares = [
        {"organisation": LEAD, "instruction": "level the pavement"},
        {"organisation": SECOND, "instruction": "seal the sewer"},
    ]
    joint = {"lead": LEAD, "subOrders": shares, "reason": "the cause lies below"}
    started = people["dispatcher"].post(f"/v1/{event}:startJointDisposal", joint)["event"]
    assert [(each["organisation"], each.get("lead", False)) for each in started["subOrders"]] == [
        (LEAD, True),
        (SECOND, False),
    ]
    early = people["lead"].refused("POST", f"/v1/{event}:advance", {"action": "dispose", "reason": "done here"})
    assert early == Refused(400, "SUB_ORDER_OPEN")

    # Each crew has its share as a task, and a channel to talk about it.
    for role, done in (("second", 1), ("lead", 2)):
        task = until(f"the task of {role}", lambda role=role: _task(people[role], event))  # type: ignore[misc]
        assert task["channel"].startswith("channels/")
        people[role].post(f"/v1/{task['name']}:update", {"state": "TASK_STATE_DONE", "note": "done"})
        until(f"{done} shares done", lambda done=done: _done(people["lead"], event) == done)  # type: ignore[misc]

    people["lead"].post(f"/v1/{event}:advance", {"action": "dispose", "reason": "both shares are done"})
    people["lead"].post(f"/v1/{event}:advance", {"action": "feed_back", "answer": answer})
    people["verifier"].post(f"/v1/{event}:advance", {"action": "verify", "reason": "seen on the spot"})
    seen = people["resident"].follow(request, lambda found: found.get("answer"))
    assert seen["answer"] == answer


# ------------------------------------------------------------------------------------------------------------- in steps


def _task(caller: Caller, event: str) -> Any:
    tasks = caller.get("/v1/tasks", event=event)["tasks"]
    return next((task for task in tasks if task["state"] == "TASK_STATE_OPEN"), None)


def _done(caller: Caller, event: str) -> int:
    shares = caller.get(f"/v1/{event}")["event"]["subOrders"]
    return sum(each.get("done", False) for each in shares)
