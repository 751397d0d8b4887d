"""The methods for the directory, channels and messages."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from libs import paging
from libs.access import current_caller
from libs.errors import Forbidden, Reason
from libs.ids import new_id
from quintet.collaboration.v1 import collaboration_pb2 as pb
from quintet.collaboration.v1.facts_pb2 import ChannelCreated, MessagePosted
from services.collaboration import directory_store, messages, store
from services.collaboration.model import Channel, require_part, zone_of
from services.collaboration.service_parts import (
    LONG_PAGE_SIZE_DEFAULT,
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
    from libs.db import Connection
    from libs.tx import Tx
    from services.collaboration.model import Message

READ_DIRECTORY = "collaboration.directory.read"
CREATE_CHANNELS = "collaboration.channels.create"
POST_MESSAGES = "collaboration.messages.post"


class ChannelMethods(Methods):
    async def ListDirectory(self, request: pb.ListDirectoryRequest, _: Context) -> pb.ListDirectoryResponse:
        visibility = current_caller().visibility(READ_DIRECTORY)
        zones = self._zones().codes(request.zone) if request.zone else None
        of = f"directory {request.zone}"
        after = paging.after(request.page_token, str, str, of=of)
        size = paging.size(request.page_size, default=LONG_PAGE_SIZE_DEFAULT, most=PAGE_SIZE_MAX)
        rows = await self._transactions.read(
            lambda conn: directory_store.list_entries(conn, visibility, zones, after, size + 1)
        )
        page, token = paging.page(rows, size, lambda row: (row.organisation.name, row.node), of=of)
        return pb.ListDirectoryResponse(entries=[messages.entry_message(row) for row in page], next_page_token=token)

    async def CreateChannel(self, request: pb.CreateChannelRequest, _: Context) -> pb.CreateChannelResponse:
        caller = current_caller()
        organisations = tuple(dict.fromkeys(request.organisations))
        zone = zone_of(request.event, self._zone)
        require_part(caller, CREATE_CHANNELS, zone=zone, event=request.event, organisations=organisations)
        if caller.grants.organisations.isdisjoint(organisations):
            text = "one of the organisations must be the caller's own"
            raise Forbidden(Reason.NOT_A_MEMBER, text, permission=CREATE_CHANNELS)

        async def create(tx: Tx) -> pb.CreateChannelResponse:
            fields = [(f"organisations[{index}]", name) for index, name in enumerate(request.organisations)]
            await check_known(tx.conn, fields)
            channel = Channel(new_id(), request.title, request.event, zone, organisations, tx.now, caller.subject)
            await store.add_channel(tx.conn, channel)
            message = messages.channel_message(channel)
            tx.publish(ChannelCreated(channel=message), zone=zone, key=channel.name)
            tx.audit(CREATE_CHANNELS, channel.name, event=channel.event)
            return pb.CreateChannelResponse(channel=message)

        return await self._transactions.mutate(request, pb.CreateChannelResponse, create)

    async def ListChannels(self, request: pb.ListChannelsRequest, _: Context) -> pb.ListChannelsResponse:
        seen = scope(current_caller(), READ_CHANNELS)
        of = f"channels {request.event}"
        after = paging.after(request.page_token, datetime, str, of=of)
        size = paging.size(request.page_size, default=PAGE_SIZE_DEFAULT, most=PAGE_SIZE_MAX)
        rows = await self._transactions.read(
            lambda conn: store.list_channels(conn, seen, request.event, after, size + 1)
        )
        page, token = paging.page(rows, size, lambda row: (row.created_at, row.id), of=of)
        return pb.ListChannelsResponse(channels=[messages.channel_message(row) for row in page], next_page_token=token)

    async def PostMessage(self, request: pb.PostMessageRequest, _: Context) -> pb.PostMessageResponse:
        caller = current_caller()

        async def post(tx: Tx) -> pb.PostMessageResponse:
            channel = await channel_for(tx.conn, caller, POST_MESSAGES, request.channel)
            kept = await store.add_message(tx.conn, channel.id, caller.subject, request.text, tx.now)
            message = messages.message_message(kept)
            tx.publish(MessagePosted(channel=channel.name, message=message), zone=channel.zone, key=channel.name)
            tx.audit(POST_MESSAGES, kept.name)
            return pb.PostMessageResponse(message=message)

        return await self._transactions.mutate(request, pb.PostMessageResponse, post)

    async def ListMessages(self, request: pb.ListMessagesRequest, _: Context) -> pb.ListMessagesResponse:
        caller = current_caller()
        of = f"messages {request.channel}"
        after = paging.after(request.page_token, int, of=of)
        size = paging.size(request.page_size, default=LONG_PAGE_SIZE_DEFAULT, most=PAGE_SIZE_MAX)

        async def read(conn: Connection) -> list[Message]:
            channel = await channel_for(conn, caller, READ_CHANNELS, request.channel)
            return await store.list_messages(conn, channel.id, after[0] if after else 0, size + 1)

        rows = await self._transactions.read(read)
        page, token = paging.page(rows, size, lambda row: (row.sequence,), of=of)
        return pb.ListMessagesResponse(messages=[messages.message_message(row) for row in page], next_page_token=token)
