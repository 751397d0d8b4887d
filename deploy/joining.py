"""Joining two nodes through their public API, as the people of both would."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from quintet.federation.v1 import federation_pb2 as pb
from quintet_sdk import Client

R = TypeVar("R")
T = TypeVar("T")
# Makes a call, as often as it takes.
Ask = Callable[[Callable[[R], Awaitable[T]], R], Awaitable[T]]


async def once(call: Callable[[R], Awaitable[T]], request: R) -> T:
    """Make a call one time."""
    return await call(request)


async def join(
    inviting: Client,
    approving: Sequence[Client],
    joining: Client,
    request: pb.CreateInvitationRequest,
    ask: Ask = once,  # type: ignore[type-arg]
) -> None:
    """Invite a node, let it ask, and let each of `approving`, who are signed in as different people, approve it.

    `ask` makes each call; give one that tries again where a node may be away. Returns when people have decided; the
    joining node finds out by itself.
    """
    invitation = (await ask(inviting.federation.CreateInvitation, request)).invitation
    asked = pb.JoinPeerRequest(invitation=invitation, root_fingerprint_confirmed=invitation.root_fingerprint)
    joined = await ask(joining.federation.JoinPeer, asked)
    for client in approving:
        approval = pb.ApprovePeerRequest(
            name=f"peers/{request.node}",
            root_fingerprint=joined.root_fingerprint,
            request_id=f"approve-{invitation.expires_at.seconds}-{invitation.expires_at.nanos}",
        )
        await ask(client.federation.ApprovePeer, approval)
