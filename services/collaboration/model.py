"""Channels, messages and tasks: who takes part, and how a task may change. Pure rules, no I/O."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from libs import names
from libs.access import Caller, Scope
from libs.errors import Forbidden, Invalid, Reason, Stale, WrongState

EVENT_NAME = "zones/{zone}/events/{event}"


class TaskState(StrEnum):
    """Names as in the proto."""

    OPEN = "open"
    IN_PROGRESS = "in_progress"
    DONE = "done"
    CANCELLED = "cancelled"


# From which state a task may go to which; done and cancelled tasks stay as they are.
_TRANSITIONS = {
    TaskState.OPEN: {TaskState.IN_PROGRESS, TaskState.DONE, TaskState.CANCELLED},
    TaskState.IN_PROGRESS: {TaskState.OPEN, TaskState.DONE, TaskState.CANCELLED},
    TaskState.DONE: set(),
    TaskState.CANCELLED: set(),
}
_ENDS = frozenset({TaskState.DONE, TaskState.CANCELLED})


@dataclass(frozen=True, slots=True)
class LocalText:
    zh: str = ""
    en: str = ""


@dataclass(frozen=True, slots=True)
class Organisation:
    name: str
    title: LocalText
    zone: str


@dataclass(frozen=True, slots=True)
class Post:
    """What somebody is in an organisation; `role` as notices name it, "handler"."""

    organisation: str
    zone: str
    title: LocalText
    role: str


@dataclass(frozen=True, slots=True)
class Holder:
    """A post and who holds it."""

    person: str
    display_name: str
    title: LocalText
    zone: str


@dataclass(frozen=True, slots=True)
class Entry:
    """An organisation of the directory. `node` is the id of the node that it belongs to."""

    organisation: Organisation
    node: str
    holders: tuple[Holder, ...]


@dataclass(frozen=True, slots=True)
class Channel:
    """`zone` is the event's, or the node's for a channel about none."""

    id: str
    title: str
    event: str
    zone: str
    organisations: tuple[str, ...]
    created_at: datetime
    created_by: str

    @property
    def name(self) -> str:
        return f"channels/{self.id}"


@dataclass(frozen=True, slots=True)
class Message:
    """One message; `sequence` counts them from 1 in their channel."""

    channel: str
    sequence: int
    author: str
    text: str
    time: datetime

    @property
    def name(self) -> str:
        return f"channels/{self.channel}/messages/{self.sequence}"


@dataclass(frozen=True, slots=True)
class Task:
    """`channel`, `event`, `sub_order` and `directive` are empty for none; `zone` is as of channels."""

    id: str
    title: str
    instruction: str
    channel: str
    event: str
    zone: str
    sub_order: str
    organisation: str
    state: TaskState
    created_at: datetime
    due_at: datetime | None = None
    assignee: str = ""
    note: str = ""
    done_at: datetime | None = None
    revision: int = 1
    directive: str = ""

    @property
    def name(self) -> str:
        return f"tasks/{self.id}"


@dataclass(frozen=True, slots=True)
class Change:
    """What somebody wants of a task; None, "" and 0 leave things as they are."""

    state: TaskState | None
    assignee: str
    note: str
    etag: int


def zone_of(event: str, otherwise: str) -> str:
    """Return the zone of an event's name, and `otherwise` for no event. Raises Invalid."""
    return names.parse(event, EVENT_NAME, field="event")["zone"] if event else otherwise


def own_organisations(caller: Caller, permission: str) -> frozenset[str]:
    """Return the organisations for whose sake the caller holds the permission, wherever."""
    found = (grant for grant in caller.grants if grant.permission == permission)
    return frozenset(grant.organisation for grant in found if grant.scope is Scope.ORGANISATION and grant.organisation)


def takes_part(caller: Caller, permission: str, *, zone: str, event: str, organisations: Collection[str]) -> bool:
    """Say whether the permission holds for what belongs to these organisations.

    What is about an event is seen in the event's zone only. What is about none has no place: there the organisation
    alone decides, also for posts in a part of the node.
    """
    if caller.allows(permission, zone, organisations):
        return True
    return not event and not own_organisations(caller, permission).isdisjoint(organisations)


def require_part(
    caller: Caller,
    permission: str,
    *,
    zone: str,
    event: str,
    organisations: Collection[str],
) -> None:
    """Raise Forbidden unless the caller takes part."""
    if not takes_part(caller, permission, zone=zone, event=event, organisations=organisations):
        text = f"{permission} is not granted for {', '.join(sorted(organisations))}"
        raise Forbidden(Reason.NOT_A_MEMBER, text, permission=permission)


def changed(task: Task, change: Change, *, actor: str, member: bool, now: datetime) -> Task:
    """Return the task as it is after the change, the very same when nothing changes.

    `actor` wants the change; `member` says whether they hold a post in the task's organisation. Raises Stale for an
    etag that is not the task's revision, WrongState for a change that the state does not allow, and Invalid when an end
    comes without a note.
    """
    if change.etag and change.etag != task.revision:
        text = f"{task.name} is at revision {task.revision}"
        raise Stale(Reason.ETAG_STALE, text, name=task.name, revision=str(task.revision))
    state = change.state or task.state
    _check_transition(task, state)
    if state in _ENDS and not change.note:
        raise Invalid("note", f"is required to make a task {state}")
    assignee = change.assignee or task.assignee
    if state is TaskState.OPEN and task.state is TaskState.IN_PROGRESS:
        assignee = change.assignee  # given back: it waits for somebody else
    elif state is TaskState.IN_PROGRESS and not assignee and member:
        assignee = actor  # taken
    after = replace(
        task,
        state=state,
        assignee=assignee,
        note=change.note or task.note,
        done_at=now if state is TaskState.DONE else None,
    )
    return task if after == task else replace(after, revision=task.revision + 1)


def _check_transition(task: Task, state: TaskState) -> None:
    if task.state in _ENDS or (state is not task.state and state not in _TRANSITIONS[task.state]):
        text = f"{task.name} is {task.state} and cannot become {state}"
        raise WrongState(Reason.WRONG_STATE, text, name=task.name, state=task.state)
    if state is TaskState.CANCELLED and task.sub_order:
        # The event could then never be disposed of: its share would be open for ever.
        text = f"{task.name} is a share of a joint disposal, which is done or given back"
        raise WrongState(Reason.WRONG_STATE, text, name=task.name, state=task.state)
