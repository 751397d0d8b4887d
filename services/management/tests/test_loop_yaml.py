"""Loop files: what is wrong with one is named by its line and key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.management.loop_yaml import LoopError, load_loops, parse_loop
from services.management.tests.samples import FOLDER, SEVEN

if TYPE_CHECKING:
    from pathlib import Path

TEXT = (FOLDER / "loops" / "seven-step.yaml").read_text()

SHORT = """
name: loops/three-step
title: {zh: 三步闭环, en: Three steps}
initial: discovered
states: [discovered, disposed, evaluated]
open_states: [discovered]
actions:
  - action: dispose
    title: {zh: 处置, en: Dispose}
    from: [discovered]
    to: disposed
    permission: management.events.dispose
  - action: evaluate
    title: {zh: 评价, en: Evaluate}
    from: [disposed]
    to: evaluated
    permission: management.events.evaluate
"""


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def test_the_seven_steps() -> None:
    assert SEVEN.initial == "collected"
    assert SEVEN.allowed("dispatched") == ("dispose", "return", "void")
    assert SEVEN.allowed("evaluated") == ()
    assert {action.permission for action in SEVEN.actions if not action.on_request_only} == {
        f"management.events.{verb}" for verb in ("file", "dispatch", "dispose", "verify", "evaluate", "void")
    }


def test_a_short_loop_is_a_file_too() -> None:
    loop = parse_loop(SHORT, "short.yaml")
    assert loop.states == ("discovered", "disposed", "evaluated")
    assert loop.joint_states == ()


@pytest.mark.parametrize(
    ("before", "after", "at", "problem"),
    [
        ("to: filed", "to: nowhere", "to: nowhere", "actions[0].to: 'nowhere' is not one of the states"),
        ("from: [filed]", "from: [filled]", "from: [filled]", "actions[1].from[0]: 'filled' is not one of the states"),
        ("initial: collected", "initial: closed", "initial: closed", "initial: 'closed' must be one of the open"),
        ("fed_back]", "lost]", "open_states: [", "open_states[4]: 'lost' is not one of the states"),
        ("voided]", "voided, lost]", "states: [", "states: 'lost' cannot be reached from 'collected'"),
        ("voided]", "voided, filed]", "states: [", "states[8]: 'filed' stands in the list twice"),
        ("action: verify", "action: dispose", "action: dispose\n    title: {zh: 核", "'dispose' is declared in line"),
        ("action: verify", "action: merge", "action: merge", "'merge' is a step of every event"),
        ("needs_reason: true", "needs_reason: maybe", "needs_reason: maybe", "must be true or false"),
        ("    to: closed\n", "", "action: verify", "actions[4].to: is required"),
        (
            "permission: management.events.file",
            "permission: all",
            "permission: all",
            "'all' must be one of management.events.advance, ",
        ),
        ("joint_states:", "joint_sates:", "joint_sates:", "joint_sates: is not a known key"),
        (
            "to: disposed",
            "to: disposed\n    to: disposed",
            "to: disposed\n    perm",
            "actions[2].to: stands here twice",
        ),
        ("title: {zh: 立案, en: File}", "title: 立案", "title: 立案", "actions[0].title: must be a mapping"),
        ("open_states: [collected", "open_states: [[1], collected", "open_states", "open_states[0]: must be text"),
        ("name: loops/seven-step", "name: seven", "name: seven", "name: 'seven' must match"),
        ("title: {zh: 七步闭环, en: Seven-step loop}", "title: {zh: 七步闭环", "initial", "file:"),
    ],
)
def test_faults_are_named(before: str, after: str, at: str, problem: str) -> None:
    text = TEXT.replace(before, after, 1)
    with pytest.raises(LoopError) as caught:
        parse_loop(text, "x.yaml")
    found = [each for each in caught.value.problems if problem in each]
    assert found, caught.value.problems
    if not problem.startswith("file"):
        assert found[0].startswith(f"x.yaml:{line_of(text, at)}: ")


def test_an_event_can_always_be_closed() -> None:
    dead_end = SHORT.replace("states: [discovered,", "states: [discovered, stuck,", 1)
    dead_end = dead_end.replace("open_states: [discovered]", "open_states: [discovered, stuck]")
    title = "title: {zh: 等, en: Wait}"
    dead_end += f"  - {{action: wait, {title}, from: [discovered], to: stuck, permission: management.events.file}}\n"
    with pytest.raises(LoopError, match="an event that is 'stuck' can never be closed"):
        parse_loop(dead_end, "x.yaml")


@pytest.mark.parametrize("text", ["", "[]", "a", "1: 2", "name: {}", "x: &x [*x]", "\0"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(LoopError):
        parse_loop(text, "x.yaml")


def test_all_files_of_a_folder_are_checked_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SHORT)
    (tmp_path / "b.yaml").write_text(SHORT)
    (tmp_path / "c.yaml").write_text("a")
    with pytest.raises(LoopError) as caught:
        load_loops(tmp_path)
    assert [each.partition(":")[0] for each in caught.value.problems] == ["b.yaml", "c.yaml"]
