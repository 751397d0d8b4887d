"""The methods for tasks."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from libs import paging
from libs.access import current_caller
from libs.errors import Invalid, NotFound, Reason
from libs.ids import new_id
from quintet.collaboration.v1 import collaboration_pb2 as pb
from services.collaboration import directory_store, messages, store
from services.collaboration.model import Change, Task, TaskState, changed, require_part
from services.collaboration.service_parts import (
    PAGE_SIZE_DEFAULT,
    PAGE_SIZE_MAX,
    READ_CHANNELS,
    Context,
    Methods,
    channel_for,
    check_known,
    scope,
)

if TYPE_CHECKING:
    from libs.access import Caller
    from libs.db import Connection
    from libs.tx import Tx

CREATE = "collaboration.tasks.create"
READ = "collaboration.tasks.read"
UPDATE = "collaboration.tasks.update"


class TaskMethods(Methods):
    async def CreateTask(self, request: pb.CreateTaskRequest, _: Context) -> pb.CreateTaskResponse:
        caller = current_caller()

        async def create(tx: Tx) -> pb.CreateTaskResponse:
            event, zone = await self._subject(tx.conn, caller, request)
            require_part(caller, CREATE, zone=zone, event=event, organisations=[request.organisation])
            await check_known(tx.conn, [("organisation", request.organisation)])
            task = Task(
                id=new_id(),
                title=request.title,
                instruction=request.instruction,
                channel=request.channel,
                event=event,
                zone=zone,
                sub_order="",
                organisation=request.organisation,
                state=TaskState.OPEN,
                created_at=tx.now,
                due_at=messages.time_of(request.due_at) if request.HasField("due_at") else None,
            )
            await store.add_task(tx.conn, task)
            tx.publish(messages.task_changed(task, caller.subject), zone=zone, key=task.name)
            tx.audit(CREATE, task.name, organisation=task.organisation)
            return pb.CreateTaskResponse(task=messages.task_message(task))

        return await self._transactions.mutate(request, pb.CreateTaskResponse, create)

    async def GetTask(self, request: pb.GetTaskRequest, _: Context) -> pb.GetTaskResponse:
        caller = current_caller()
        task = await self._transactions.read(lambda conn: _task_for(conn, caller, READ, request.name))
        return pb.GetTaskResponse(task=messages.task_message(task))

    async def ListTasks(self, request: pb.ListTasksRequest, _: Context) -> pb.ListTasksResponse:
        seen = scope(current_caller(), READ)
        state = messages.state_of(request.state)
        of = f"tasks {state} {request.event}"
        after = paging.after(request.page_token, datetime, str, of=of)
        size = paging.size(request.page_size, default=PAGE_SIZE_DEFAULT, most=PAGE_SIZE_MAX)
        rows = await self._transactions.read(
            lambda conn: store.list_tasks(conn, seen, state, request.event, after, size + 1)
        )
        page, token = paging.page(rows, size, lambda row: (row.created_at, row.id), of=of)
        return pb.ListTasksResponse(tasks=[messages.task_message(row) for row in page], next_page_token=token)

    async def UpdateTask(self, request: pb.UpdateTaskRequest, _: Context) -> pb.UpdateTaskResponse:
        caller = current_caller()
        change = Change(messages.state_of(request.state), request.assignee, request.note, request.etag)

        async def update(tx: Tx) -> pb.UpdateTaskResponse:
            before = await _task_for(tx.conn, caller, UPDATE, request.name, lock=True)
            member = before.organisation in caller.grants.organisations
            after = changed(before, change, actor=caller.subject, member=member, now=tx.now)
            if after.assignee not in ("", before.assignee):
                await self._check_assignee(tx.conn, caller, after)
            if after is not before:
                await store.update_task(tx.conn, after)
                tx.publish(messages.task_changed(after, caller.subject), zone=after.zone, key=after.name)
            tx.audit(UPDATE, after.name, state=after.state, assignee=after.assignee, revision=after.revision)
            return pb.UpdateTaskResponse(task=messages.task_message(after))

        return await self._transactions.mutate(request, pb.UpdateTaskResponse, update)

    async def _subject(self, conn: Connection, caller: Caller, request: pb.CreateTaskRequest) -> tuple[str, str]:
        """Return event and zone of a task to be: those of its channel, else no event in the node's zone."""
        if not request.channel:
            return "", self._zone
        channel = await channel_for(conn, caller, READ_CHANNELS, request.channel)
        if request.organisation not in channel.organisations:
            raise Invalid("organisation", "must take part in the channel")
        return channel.event, channel.zone

    async def _check_assignee(self, conn: Connection, caller: Caller, task: Task) -> None:
        """Raise Invalid unless the assignee holds a post in the task's organisation.

        What the caller's own grants say is newer than the directory.
        """
        if task.assignee == caller.subject and task.organisation in caller.grants.organisations:
            return
        if not await directory_store.holds_post(conn, self._node, task.assignee, task.organisation):
            raise Invalid("assignee", f"holds no post in {task.organisation}")


async def _task_for(conn: Connection, caller: Caller, permission: str, name: str, *, lock: bool = False) -> Task:
    """Return a task of the caller's organisations. Raises NotFound and Forbidden."""
    task = await store.get_task(conn, name.removeprefix("tasks/"), lock=lock)
    if task is None:
        raise NotFound(Reason.TASK_NOT_FOUND, f"{name} does not exist", name=name)
    require_part(caller, permission, zone=task.zone, event=task.event, organisations=[task.organisation])
    return task
