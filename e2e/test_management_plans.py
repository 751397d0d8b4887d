"""A contingency plan: declared, activated by a warning, run by its owners, stood down, and replayed."""

from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

from e2e.federation import Caller, Federation, Refused, until

# The city itself handles this district. The plan is one that the demo's files declare.
DISTRICT = "us-ca-sf-d5"
PLAN = "plans/heavy-rain-iii"


def test_a_plan_answers_a_warning_and_is_replayed(federation: Federation) -> None:
    city = federation.node("sf")
    with ExitStack() as stack:
        admin, officer, works, sewers, leader = (
            stack.enter_context(city.signed_in(login))
            for login in (
                *("node-admin", "duty-officer.sf", "handler.public-works", "handler.puc-sewer"),
                "leader.sf",
            )
        )
        _a_circle_is_refused(admin)
        warning = _warn(officer)
        run = _activated_by_the_warning(leader, warning)
        _run_by_its_owners(works, sewers, run)
        _stood_down_and_replayed(officer, leader, run)


def test_a_district_does_its_steps_of_the_citys_plan(federation: Federation) -> None:
    city, district = federation.node("sf"), federation.node("sf-d10")
    with ExitStack() as stack:
        admin, officer, works = (
            stack.enter_context(city.signed_in(login))
            for login in ("node-admin", "duty-officer.sf", "handler.public-works")
        )
        below, crew = (
            stack.enter_context(district.signed_in(login)) for login in ("duty-officer.d10", "handler.d10.sewer")
        )
        run = _activated_across(admin, officer)
        order = _arrived(below, run)
        assert order["title"] == "启动水泵 / Start the pumps"
        assert "启动第十区全部水泵" in order["text"]
        assert "Start all pumps of the district" in order["text"]
        assert (order["organisation"], order["zone"]) == ("organisations/d10.sewer", "us-ca-sf-d10")

        # Taken up and answered in the district, seen in the city's plan; the city's own step starts behind it.
        below.post(f"/v1/{order['name']}:acknowledge")
        taken = _step_when(officer, run, "pumps", lambda step: step.get("acknowledgedAt"))
        assert (taken["state"], taken["acknowledgedBy"]) == ("PLAN_STEP_STATE_RUNNING", "people/duty-officer.d10")
        crew.post(f"/v1/{order['name']}:answer", {"answer": "水泵已启动 Both pumps run"})
        done = _step_when(officer, run, "pumps", lambda step: step["state"] == "PLAN_STEP_STATE_DONE")
        assert (done["actor"], done["note"]) == ("people/handler.d10.sewer", "水泵已启动 Both pumps run")
        _step_when(officer, run, "report", lambda step: step["state"] == "PLAN_STEP_STATE_RUNNING")

        # Stood down, what the district still has to do is taken back there.
        second = _arrived(below, run, "patrol")
        officer.post(f"/v1/{run}:standDown", {"reason": "the rain is over"})
        state = "DIRECTIVE_STATE_CANCELLED"
        until("taken back", lambda: below.get(f"/v1/{second['name']}")["directive"]["state"] == state)
        changes = officer.get(f"/v1/{run}:replay")["changes"]
        kinds = [change["kind"].removeprefix("PLAN_CHANGE_KIND_") for change in changes if change["step"] == "pumps"]
        assert kinds == ["DIRECTED", "ACKNOWLEDGED", "DONE"]
        assert works.refused("POST", f"/v1/{run}:finishStep", {"step": "report", "note": "x"}).status == 400


# ------------------------------------------------------------------------------------------------------------- in steps


def _activated_across(admin: Caller, officer: Caller) -> str:
    """A plan of the city with two steps for a district, which the duty officer puts into action."""

    def step(name: str, zh: str, en: str, **more: Any) -> dict[str, Any]:
        said = {"title": {"zh": zh, "en": en}, "organisation": "organisations/public-works", "deadlineMinutes": 60}
        return {"id": name, "instruction": {"zh": zh, "en": en}, **said, **more}

    below = {"zone": "us-ca-sf-d10", "organisation": "organisations/d10.sewer"}
    instruction = {"zh": "启动第十区全部水泵", "en": "Start all pumps of the district"}
    plan = {
        "name": "plans/rain-across-tiers",
        "title": {"zh": "跨层级暴雨预案", "en": "Heavy rain across tiers"},
        "level": "LEVEL_III",
        "steps": [
            step("pumps", "启动水泵", "Start the pumps", **below | {"instruction": instruction}),
            step("patrol", "巡查低洼处", "Patrol low places", **below),
            step("report", "汇总上报", "Report", after=["pumps"]),
        ],
    }
    admin.put(f"/v1/{plan['name']}", plan)
    activated = officer.post("/v1/zones/us-ca-sf/planRuns", {"plan": plan["name"], "reason": "暴雨 heavy rain"})
    name: str = activated["run"]["name"]
    return name


def _arrived(below: Caller, run: str, step: str = "pumps") -> Any:
    """The directive of a step, as soon as the district has it."""

    def look() -> Any:
        page = below.get("/v1/directives", direction="DIRECTIVE_DIRECTION_RECEIVED")["directives"]
        return next((each for each in page if each["subject"] == f"{run}/steps/{step}"), None)

    return until("the directive", look)


def _step_when(caller: Caller, run: str, step: str, done: Callable[[Any], Any]) -> Any:
    def look() -> Any:
        steps = caller.get(f"/v1/{run}")["run"]["steps"]
        found = next(each for each in steps if each["step"]["id"] == step)
        return found if done(found) else None

    return until(f"{step} as wanted", look)


def _a_circle_is_refused(admin: Caller) -> None:
    """Two steps that wait for each other would never start."""
    plan = admin.get(f"/v1/{PLAN}")["plan"]
    plan["steps"][0]["after"] = ["report"]
    answer = admin.http.put(f"/v1/{PLAN}", json=plan)
    violations = answer.json()["details"][1]["fieldViolations"]
    assert [(each["field"], "circle" in each["description"]) for each in violations] == [("plan.steps[0].after", True)]


def _warn(officer: Caller) -> str:
    """The duty officer warns of heavy rain; level III takes one person."""
    content = {
        "event": {"zh": "暴雨", "en": "Heavy rain"},
        "headline": {"zh": "暴雨黄色预警", "en": "Yellow warning of heavy rain"},
        "description": {"zh": "未来三小时有暴雨", "en": "Heavy rain in the next three hours"},
        "instruction": {"zh": "请勿进入地下通道", "en": "Keep out of underpasses"},
        "level": "LEVEL_III",
        "category": "WARNING_CATEGORY_MET",
        "audience": {"zones": [DISTRICT]},
        "expiresAt": (datetime.now(UTC) + timedelta(hours=3)).isoformat(),
    }
    drafted = officer.post(f"/v1/zones/{DISTRICT}/publicWarnings", {"content": content})["warning"]["name"]
    published = officer.post(f"/v1/{drafted}:publish")["warning"]
    assert published["state"] == "PUBLIC_WARNING_STATE_PUBLISHED"
    name: str = published["name"]
    return name


def _activated_by_the_warning(leader: Caller, warning: str) -> str:
    """The leader finds the plan in action, with the reason in both languages."""

    def look() -> Any:
        listed = leader.get("/v1/zones/us-ca-sf/planRuns")["runs"]
        return next((run for run in listed if run["warning"] == warning), None)

    run = until("the plan in action", look)
    assert run["title"] == {"zh": "暴雨三级应急预案", "en": "Heavy rain plan III"}
    assert "暴雨三级应急预案" in run["explanation"]["text"]["zh"]
    assert "Heavy rain plan III" in run["explanation"]["text"]["en"]
    assert _states(run) == {"watch-cellars": "RUNNING", "clear-drains": "RUNNING", "report": "WAITING"}
    name: str = run["name"]
    return name


def _run_by_its_owners(works: Caller, sewers: Caller, run: str) -> None:
    """Each organisation reports its own steps; the last one starts when the others are done."""
    finished = {"step": "clear-drains", "note": "eleven drains cleared"}
    assert works.refused("POST", f"/v1/{run}:finishStep", finished) == Refused(403, "NOT_PERMITTED")
    sewers.post(f"/v1/{run}:finishStep", finished)
    early = {"step": "report", "note": "too early"}
    assert works.refused("POST", f"/v1/{run}:finishStep", early) == Refused(400, "WRONG_STATE")
    after = works.post(f"/v1/{run}:finishStep", {"step": "watch-cellars", "note": "all dry"})["run"]
    assert _states(after) == {"watch-cellars": "DONE", "clear-drains": "DONE", "report": "RUNNING"}


def _stood_down_and_replayed(officer: Caller, leader: Caller, run: str) -> None:
    """It ends early; afterwards the leader sees how it stood when each thing happened."""
    officer.post(f"/v1/{run}:standDown", {"reason": "the rain passed north of us"})
    whole = leader.get(f"/v1/{run}:replay")
    changes = whole["changes"]
    assert [(change["kind"].removeprefix("PLAN_CHANGE_KIND_"), change["step"]) for change in changes] == [
        ("ACTIVATED", ""),
        ("DONE", "clear-drains"),
        ("DONE", "watch-cellars"),
        ("STOOD_DOWN", ""),
    ]
    slider = [_states(leader.get(f"/v1/{run}:replay", at=change["time"])["run"]) for change in changes]
    assert [state["report"] for state in slider] == ["WAITING", "WAITING", "RUNNING", "CANCELLED"]
    assert [state["clear-drains"] for state in slider] == ["RUNNING", "DONE", "DONE", "DONE"]
    assert whole["run"]["state"] == "PLAN_RUN_STATE_STOOD_DOWN"


def _states(run: Any) -> dict[str, str]:
    return {step["step"]["id"]: step["state"].removeprefix("PLAN_STEP_STATE_") for step in run["steps"]}
