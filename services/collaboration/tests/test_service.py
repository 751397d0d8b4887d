"""CollaborationService over a real channel: who works together on what, and who does not."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from libs.errors import AlreadyExists, Forbidden, Invalid, NotFound, Reason, Stale, Unauthenticated, WrongState
from libs.inbox import FactConsumer
from libs.testing import ConnectBus, eventually, running
from quintet.collaboration.v1 import collaboration_pb2 as pb
from services.collaboration.facts import handlers
from services.collaboration.tests.conftest import (
    COLLEAGUE,
    CREW_D6,
    DUTY_CENTRE,
    DUTY_OFFICER,
    GARDENER,
    RESIDENT,
    SERGEANT,
    Collaboration,
)
from services.collaboration.tests.samples import (
    D10,
    EVENT,
    HANDLER,
    PARKS,
    POLICE,
    PUBLIC_WORKS,
    ROOT,
    START,
    fact,
    joint_disposal,
    organisation_changed,
    stamp,
)


async def open_channel(
    of: Collaboration, *organisations: str, subject: str = HANDLER, event: str = EVENT, **fields: Any
) -> pb.Channel:
    request = pb.CreateChannelRequest(title="Fallen tree", event=event, organisations=organisations, **fields)
    return (await of.stub(subject).CreateChannel(request)).channel


async def post(of: Collaboration, channel: str, text: str, subject: str = HANDLER, **fields: Any) -> pb.Message:
    request = pb.PostMessageRequest(channel=channel, text=text, **fields)
    return (await of.stub(subject).PostMessage(request)).message


async def read(of: Collaboration, channel: str, subject: str = HANDLER) -> list[str]:
    response = await of.stub(subject).ListMessages(pb.ListMessagesRequest(channel=channel))
    return [message.text for message in response.messages]


async def give(of: Collaboration, organisation: str = PUBLIC_WORKS, subject: str = HANDLER, **fields: Any) -> pb.Task:
    given: dict[str, Any] = {"title": "Clear the street", "organisation": organisation}
    return (await of.stub(subject).CreateTask(pb.CreateTaskRequest(**(given | fields)))).task


async def update(of: Collaboration, name: str, subject: str = HANDLER, **fields: Any) -> pb.Task:
    return (await of.stub(subject).UpdateTask(pb.UpdateTaskRequest(name=name, **fields))).task


async def tasks(of: Collaboration, subject: str, **narrow: Any) -> list[str]:
    response = await of.stub(subject).ListTasks(pb.ListTasksRequest(**narrow))
    return [task.name for task in response.tasks]


async def channels(of: Collaboration, subject: str, **narrow: Any) -> list[str]:
    response = await of.stub(subject).ListChannels(pb.ListChannelsRequest(**narrow))
    return [channel.name for channel in response.channels]


# -------------------------------------------------------------------------------------------------------- the directory


async def test_the_directory_lists_departments_and_who_is_in_them(collaboration: Collaboration) -> None:
    await collaboration.tell(organisation_changed(PARKS, zone=D10))
    await collaboration.tell(organisation_changed(PARKS), node="beijing", received_from="beijing")
    stub = collaboration.stub(HANDLER)
    response = await stub.ListDirectory(pb.ListDirectoryRequest())
    found = [(entry.organisation, entry.node, [post.person for post in entry.posts]) for entry in response.entries]
    assert found == [
        (DUTY_CENTRE, "sf", []),
        (PARKS, "beijing", []),
        (PARKS, "sf", [GARDENER]),
        (POLICE, "sf", []),
        (PUBLIC_WORKS, "sf", [HANDLER, COLLEAGUE]),
    ]
    assert response.entries[4].posts[0].title.zh == "处置人员"
    below = await stub.ListDirectory(pb.ListDirectoryRequest(zone=D10))
    assert [(entry.organisation, entry.node) for entry in below.entries] == [(PARKS, "sf")]
    first = await stub.ListDirectory(pb.ListDirectoryRequest(page_size=3))
    rest = await stub.ListDirectory(pb.ListDirectoryRequest(page_size=3, page_token=first.next_page_token))
    assert [*first.entries, *rest.entries] == list(response.entries)


async def test_the_directory_is_for_staff(collaboration: Collaboration) -> None:
    with pytest.raises(Unauthenticated):
        await collaboration.stub().ListDirectory(pb.ListDirectoryRequest())
    with pytest.raises(Forbidden):
        await collaboration.stub(RESIDENT).ListDirectory(pb.ListDirectoryRequest())
    below = await collaboration.stub(DUTY_OFFICER).ListDirectory(pb.ListDirectoryRequest())
    assert list(below.entries) == [], "a duty officer of a district sees the district's"


# ------------------------------------------------------------------------------------------------ channels and messages


async def test_departments_talk_in_a_channel(collaboration: Collaboration) -> None:
    channel = await open_channel(collaboration, PUBLIC_WORKS, PARKS, PARKS)
    assert list(channel.organisations) == [PUBLIC_WORKS, PARKS]
    assert (channel.created_by, channel.created_at) == (HANDLER, stamp(START))
    message = await post(collaboration, channel.name, "On our way")
    assert message.name == f"{channel.name}/messages/1"
    await post(collaboration, channel.name, "树已移走", GARDENER)
    assert await read(collaboration, channel.name, GARDENER) == ["On our way", "树已移走"]
    facts = await collaboration.facts()
    assert [message.DESCRIPTOR.name for _, message in facts] == ["ChannelCreated", "MessagePosted", "MessagePosted"]
    assert {(envelope.zone, envelope.key) for envelope, _ in facts} == {(D10, channel.name)}
    assert [action for _, action, _ in await collaboration.audited()] == [
        "collaboration.channels.create",
        "collaboration.messages.post",
        "collaboration.messages.post",
    ]


async def test_others_do_not_listen_in(collaboration: Collaboration) -> None:
    channel = await open_channel(collaboration, PUBLIC_WORKS, PARKS)
    assert await channels(collaboration, GARDENER) == [channel.name]
    for outsider in (SERGEANT, CREW_D6):
        assert await channels(collaboration, outsider) == []
        with pytest.raises(Forbidden) as caught:
            await read(collaboration, channel.name, outsider)
        assert caught.value.reason == Reason.NOT_A_MEMBER
        with pytest.raises(Forbidden):
            await post(collaboration, channel.name, "hello", outsider)
    with pytest.raises(NotFound):
        await read(collaboration, "channels/none")


async def test_duty_officers_see_the_channels_of_their_zone(collaboration: Collaboration) -> None:
    here = await open_channel(collaboration, PUBLIC_WORKS)
    await open_channel(collaboration, PUBLIC_WORKS, event="zones/us-ca-sf-d6/events/e2")
    await open_channel(collaboration, PUBLIC_WORKS, event="")
    assert await channels(collaboration, DUTY_OFFICER) == [here.name]
    assert await read(collaboration, here.name, DUTY_OFFICER) == []
    with pytest.raises(Forbidden):
        await post(collaboration, here.name, "hello", DUTY_OFFICER)  # may look, not talk


async def test_a_channel_about_no_event_is_for_all_of_the_organisation(collaboration: Collaboration) -> None:
    channel = await open_channel(collaboration, PUBLIC_WORKS, subject=CREW_D6, event="")
    assert await channels(collaboration, HANDLER) == await channels(collaboration, CREW_D6) == [channel.name]
    await post(collaboration, channel.name, "Shift change at 6", CREW_D6)
    assert await read(collaboration, channel.name) == ["Shift change at 6"]


async def test_channels_are_opened_for_the_own_and_for_known_organisations(collaboration: Collaboration) -> None:
    with pytest.raises(Forbidden):
        await open_channel(collaboration, PARKS, POLICE)
    with pytest.raises(Forbidden) as caught:
        await open_channel(collaboration, PARKS, subject=DUTY_OFFICER)
    assert caught.value.reason == Reason.NOT_A_MEMBER
    await open_channel(collaboration, DUTY_CENTRE, PARKS, subject=DUTY_OFFICER)
    with pytest.raises(Forbidden):
        await open_channel(collaboration, PUBLIC_WORKS, subject=CREW_D6)  # the event is in another district
    with pytest.raises(Invalid) as unknown:
        await open_channel(collaboration, PUBLIC_WORKS, "organisations/none")
    assert unknown.value.violations == (("organisations[1]", "is not in the directory"),)


async def test_messages_come_in_pages_without_gaps(collaboration: Collaboration) -> None:
    channel = await open_channel(collaboration, PUBLIC_WORKS)
    texts = {f"message {n}" for n in range(7)}
    await asyncio.gather(*(post(collaboration, channel.name, text) for text in texts))
    seen: list[pb.Message] = []
    token = ""
    while True:
        request = pb.ListMessagesRequest(channel=channel.name, page_size=3, page_token=token)
        response = await collaboration.stub(HANDLER).ListMessages(request)
        seen += response.messages
        token = response.next_page_token
        if not token:
            break
    assert [message.name for message in seen] == [f"{channel.name}/messages/{n}" for n in range(1, 8)]
    assert {message.text for message in seen} == texts


async def test_a_message_sent_twice_is_written_once(collaboration: Collaboration) -> None:
    channel = await open_channel(collaboration, PUBLIC_WORKS)
    first = await post(collaboration, channel.name, "On our way", request_id="m-1")
    assert await post(collaboration, channel.name, "On our way", request_id="m-1") == first
    assert await read(collaboration, channel.name) == ["On our way"]
    with pytest.raises(AlreadyExists):
        await post(collaboration, channel.name, "Not yet", request_id="m-1")


async def test_channels_are_listed_by_event_and_in_pages(collaboration: Collaboration) -> None:
    names = [(await open_channel(collaboration, PUBLIC_WORKS)).name for _ in range(3)]
    await open_channel(collaboration, PUBLIC_WORKS, event="zones/us-ca-sf-d6/events/e2")
    stub = collaboration.stub(HANDLER)
    first = await stub.ListChannels(pb.ListChannelsRequest(event=EVENT, page_size=2))
    request = pb.ListChannelsRequest(event=EVENT, page_size=2, page_token=first.next_page_token)
    rest = await stub.ListChannels(request)
    assert [channel.name for channel in [*first.channels, *rest.channels]] == names[::-1]
    with pytest.raises(Invalid):
        await stub.ListChannels(pb.ListChannelsRequest(page_token=first.next_page_token))


# ---------------------------------------------------------------------------------------------------------------- tasks


async def test_a_task_is_given_taken_and_done(collaboration: Collaboration) -> None:
    due = stamp(START + timedelta(hours=2))
    task = await give(collaboration, instruction="All of it", due_at=due)
    assert (task.state, task.revision, task.due_at) == (pb.TASK_STATE_OPEN, 1, due)
    taken = await update(collaboration, task.name, COLLEAGUE, state=pb.TASK_STATE_IN_PROGRESS, etag=1)
    assert (taken.assignee, taken.revision) == (COLLEAGUE, 2)
    done = await update(collaboration, task.name, COLLEAGUE, state=pb.TASK_STATE_DONE, note="Cleared", etag=2)
    assert (done.state, done.note, done.done_at) == (pb.TASK_STATE_DONE, "Cleared", stamp(START))
    kept = await collaboration.stub(HANDLER).GetTask(pb.GetTaskRequest(name=task.name))
    assert kept.task == done
    facts = await collaboration.facts()
    assert [(message.task.revision, message.actor) for _, message in facts] == [
        (1, HANDLER),
        (2, COLLEAGUE),
        (3, COLLEAGUE),
    ]
    assert {(envelope.zone, envelope.key) for envelope, _ in facts} == {(ROOT, task.name)}
    with pytest.raises(WrongState):
        await update(collaboration, task.name, note="more")


async def test_two_who_take_a_task_at_once(collaboration: Collaboration) -> None:
    task = await give(collaboration)
    results = await asyncio.gather(
        *(
            update(collaboration, task.name, subject, state=pb.TASK_STATE_IN_PROGRESS, etag=1)
            for subject in (HANDLER, COLLEAGUE)
        ),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["Stale", "Task"]
    [stale] = [result for result in results if isinstance(result, Stale)]
    assert (stale.reason, stale.metadata["revision"]) == (Reason.ETAG_STALE, "2")


async def test_a_task_goes_to_people_of_its_organisation(collaboration: Collaboration) -> None:
    task = await give(collaboration)
    with pytest.raises(Invalid) as caught:
        await update(collaboration, task.name, assignee=GARDENER)
    assert caught.value.violations[0][0] == "assignee"
    assert (await update(collaboration, task.name, assignee=COLLEAGUE)).assignee == COLLEAGUE
    assert (await update(collaboration, task.name, CREW_D6, assignee=CREW_D6)).assignee == CREW_D6, (
        "the caller's own posts are known before the directory has them"
    )


async def test_an_end_needs_a_note(collaboration: Collaboration) -> None:
    task = await give(collaboration)
    with pytest.raises(Invalid) as caught:
        await update(collaboration, task.name, state=pb.TASK_STATE_DONE)
    assert caught.value.violations[0][0] == "note"


async def test_an_update_that_changes_nothing_states_nothing(collaboration: Collaboration) -> None:
    task = await give(collaboration)
    assert (await update(collaboration, task.name, state=pb.TASK_STATE_OPEN)).revision == 1
    assert len(await collaboration.facts()) == 1


async def test_tasks_are_their_organisations(collaboration: Collaboration) -> None:
    task = await give(collaboration)
    assert await tasks(collaboration, HANDLER) == await tasks(collaboration, CREW_D6) == [task.name]
    assert await tasks(collaboration, GARDENER) == []
    with pytest.raises(Forbidden):
        await collaboration.stub(GARDENER).GetTask(pb.GetTaskRequest(name=task.name))
    with pytest.raises(Forbidden):
        await update(collaboration, task.name, GARDENER, note="mine")
    with pytest.raises(Forbidden):
        await give(collaboration, PARKS)  # a handler gives tasks to the own organisation only
    with pytest.raises(NotFound):
        await update(collaboration, "tasks/none")


async def test_a_task_of_a_channel_is_for_one_that_takes_part(collaboration: Collaboration) -> None:
    channel = await open_channel(collaboration, PUBLIC_WORKS, PARKS)
    task = await give(collaboration, PARKS, GARDENER, channel=channel.name)
    assert (task.channel, task.event) == (channel.name, EVENT)
    assert await tasks(collaboration, DUTY_OFFICER) == [task.name], "a task about an event is in its zone"
    given = await give(collaboration, PUBLIC_WORKS, DUTY_OFFICER, channel=channel.name)
    assert await tasks(collaboration, DUTY_OFFICER, event=EVENT) == [given.name, task.name]
    with pytest.raises(Invalid) as caught:
        await give(collaboration, POLICE, DUTY_OFFICER, channel=channel.name)
    assert caught.value.violations[0][0] == "organisation"
    with pytest.raises(Forbidden):
        await give(collaboration, POLICE, SERGEANT, channel=channel.name)
    with pytest.raises(NotFound):
        await give(collaboration, channel="channels/none")


async def test_a_joint_disposal_comes_over_the_bus_and_is_done(collaboration: Collaboration, bus: ConnectBus) -> None:
    management = await bus("management")
    consumer = FactConsumer(collaboration.transactions, await bus("collaboration"), "collaboration", handlers())
    started = fact(joint_disposal(PUBLIC_WORKS, PARKS))
    elsewhere = fact(
        joint_disposal(PUBLIC_WORKS, POLICE, event="zones/us-ca-sf-d6/events/e9"), node="sf-d6", received_from="sf-d6"
    )

    async def arrived() -> bool:
        return bool(await tasks(collaboration, HANDLER, event=EVENT))

    async with running(consumer.run()):
        for each in (elsewhere, started, started):
            await management.publish(each)
        assert await eventually(arrived)
    [share] = await tasks(collaboration, HANDLER)
    assert await tasks(collaboration, GARDENER) != [share]
    [channel] = await channels(collaboration, GARDENER, event=EVENT)
    await post(collaboration, channel, "We bring the saw", GARDENER)
    assert await read(collaboration, channel) == ["We bring the saw"]
    with pytest.raises(WrongState):
        await update(collaboration, share, state=pb.TASK_STATE_CANCELLED, note="no time")
    await update(collaboration, share, state=pb.TASK_STATE_DONE, note="Cleared")
    envelope, message = (await collaboration.facts())[-1]
    assert (message.task.sub_order, message.task.event, message.task.state) == ("s4-0", EVENT, pb.TASK_STATE_DONE)
    assert (envelope.zone, message.actor) == (D10, HANDLER)
