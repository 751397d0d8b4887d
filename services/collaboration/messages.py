"""The wire's words for the directory, channels, messages and tasks."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from quintet.collaboration.v1 import collaboration_pb2 as pb
from quintet.collaboration.v1.facts_pb2 import TaskChanged
from quintet.common.v1.common_pb2 import LocalText as LocalTextMessage
from services.collaboration.model import Channel, Entry, LocalText, Message, Task, TaskState

_STATE = {state: pb.TaskState.Value(f"TASK_STATE_{state.name}") for state in TaskState}
_STATE_OF = {value: state for state, value in _STATE.items()}


def timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    made = Timestamp()
    made.FromDatetime(time)
    return made


def time_of(message: Timestamp) -> datetime:
    return message.ToDatetime(tzinfo=UTC)


def state_of(value: pb.TaskState.ValueType) -> TaskState | None:
    """Return the state; None for the unspecified one."""
    return _STATE_OF.get(value)


def text_of(message: LocalTextMessage) -> LocalText:
    return LocalText(message.zh, message.en)


def entry_message(entry: Entry) -> pb.DirectoryEntry:
    return pb.DirectoryEntry(
        organisation=entry.organisation.name,
        title=_text(entry.organisation.title),
        zone=entry.organisation.zone,
        node=entry.node,
        posts=[
            pb.DirectoryPost(
                person=holder.person,
                display_name=holder.display_name,
                title=_text(holder.title),
                zone=holder.zone,
            )
            for holder in entry.holders
        ],
    )


def channel_message(channel: Channel) -> pb.Channel:
    return pb.Channel(
        name=channel.name,
        title=channel.title,
        event=channel.event,
        organisations=channel.organisations,
        created_at=timestamp(channel.created_at),
        created_by=channel.created_by,
    )


def message_message(message: Message) -> pb.Message:
    return pb.Message(name=message.name, author=message.author, text=message.text, time=timestamp(message.time))


def task_message(task: Task) -> pb.Task:
    return pb.Task(
        name=task.name,
        title=task.title,
        instruction=task.instruction,
        channel=task.channel,
        event=task.event,
        sub_order=task.sub_order,
        organisation=task.organisation,
        assignee=task.assignee,
        state=_STATE[task.state],
        due_at=timestamp(task.due_at),
        note=task.note,
        created_at=timestamp(task.created_at),
        done_at=timestamp(task.done_at),
        revision=task.revision,
    )


def task_changed(task: Task, actor: str) -> TaskChanged:
    return TaskChanged(task=task_message(task), actor=actor)


def _text(text: LocalText) -> LocalTextMessage:
    return LocalTextMessage(zh=text.zh, en=text.en)
