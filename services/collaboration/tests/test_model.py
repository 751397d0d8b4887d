"""Who takes part, and how a task may change."""

from datetime import timedelta

import pytest

from libs.access import Grant, Scope
from libs.errors import Forbidden, Invalid, Stale, WrongState
from services.collaboration import model
from services.collaboration.model import Change, Task, TaskState
from services.collaboration.tests.samples import (
    D10,
    EVENT,
    HANDLER,
    PARKS,
    PUBLIC_WORKS,
    ROOT,
    START,
    caller,
    member,
    task,
)

READ = "collaboration.tasks.read"
LATER = START + timedelta(hours=1)


def change(
    before: Task,
    state: TaskState | None = None,
    *,
    assignee: str = "",
    note: str = "",
    etag: int = 0,
    member: bool = True,
) -> Task:
    return model.changed(before, Change(state, assignee, note, etag), actor=HANDLER, member=member, now=LATER)


def test_members_take_part_in_their_zones() -> None:
    everywhere, below = member(READ, PUBLIC_WORKS), member(READ, PUBLIC_WORKS, "us-ca-sf-d6")
    about_d10 = {"zone": D10, "event": EVENT, "organisations": [PUBLIC_WORKS, PARKS]}
    assert model.takes_part(everywhere, READ, **about_d10)  # type: ignore[arg-type]
    assert not model.takes_part(below, READ, **about_d10)  # type: ignore[arg-type]
    assert not model.takes_part(everywhere, "collaboration.tasks.update", **about_d10)  # type: ignore[arg-type]
    assert not model.takes_part(everywhere, READ, zone=D10, event=EVENT, organisations=[PARKS])


def test_what_is_about_no_event_is_a_matter_of_the_organisation_alone() -> None:
    below = member(READ, PUBLIC_WORKS, "us-ca-sf-d6")
    assert model.takes_part(below, READ, zone=ROOT, event="", organisations=[PUBLIC_WORKS])
    assert not model.takes_part(below, READ, zone=ROOT, event="", organisations=[PARKS])


def test_zone_roles_see_everything_of_their_zone() -> None:
    officer = caller("people/duty-officer.d10", Grant(READ, Scope.ZONE, D10))
    assert model.takes_part(officer, READ, zone=D10, event=EVENT, organisations=[PARKS])
    assert not model.takes_part(officer, READ, zone=ROOT, event="", organisations=[PARKS])
    with pytest.raises(Forbidden):
        model.require_part(officer, READ, zone=ROOT, event="", organisations=[PARKS])


def test_the_zone_of_an_event() -> None:
    assert model.zone_of(EVENT, ROOT) == D10
    assert model.zone_of("", ROOT) == ROOT
    with pytest.raises(Invalid):
        model.zone_of("events/1", ROOT)


def test_a_task_is_taken_and_done() -> None:
    taken = change(task(), TaskState.IN_PROGRESS)
    assert (taken.state, taken.assignee, taken.revision) == (TaskState.IN_PROGRESS, HANDLER, 2)
    done = change(taken, TaskState.DONE, note="Cleared")
    assert (done.state, done.note, done.done_at, done.revision) == (TaskState.DONE, "Cleared", LATER, 3)


def test_somebody_outside_does_not_take_a_task_by_starting_it() -> None:
    assert change(task(), TaskState.IN_PROGRESS, member=False).assignee == ""
    assert change(task(), TaskState.IN_PROGRESS, assignee="people/other").assignee == "people/other"


def test_a_task_given_back_waits_for_somebody_else() -> None:
    taken = task(state=TaskState.IN_PROGRESS, assignee=HANDLER)
    assert change(taken, TaskState.OPEN).assignee == ""
    assert change(taken, TaskState.OPEN, assignee="people/other").assignee == "people/other"


def test_an_end_needs_a_note() -> None:
    for end in (TaskState.DONE, TaskState.CANCELLED):
        with pytest.raises(Invalid, match="note"):
            change(task(), end)
        assert change(task(), end, note="why").state is end


@pytest.mark.parametrize("end", [TaskState.DONE, TaskState.CANCELLED])
@pytest.mark.parametrize("state", [None, *TaskState])
def test_nothing_changes_after_the_end(end: TaskState, state: TaskState | None) -> None:
    with pytest.raises(WrongState):
        change(task(state=end), state, note="more")


def test_a_share_of_a_joint_disposal_is_not_cancelled() -> None:
    with pytest.raises(WrongState):
        change(task(sub_order="s1"), TaskState.CANCELLED, note="no time")
    assert change(task(sub_order="s1"), TaskState.DONE, note="done").state is TaskState.DONE


def test_a_stale_etag_is_refused_first() -> None:
    with pytest.raises(Stale):
        change(task(revision=2, state=TaskState.DONE), TaskState.DONE, note="x", etag=1)
    assert change(task(revision=2), note="x", etag=2).revision == 3


def test_no_change_is_no_revision() -> None:
    before = task(note="same")
    assert change(before) is before
    assert change(before, TaskState.OPEN, note="same") is before
