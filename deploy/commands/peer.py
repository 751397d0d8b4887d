"""`quintet peer`: the peers of a node, and the steps of a membership, through the node's public API."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.commands.common import (
    EXIT_DONE,
    EXIT_NO,
    EXIT_RETRY,
    Commands,
    UsageError,
    add_sign_in,
    read_password,
    read_text,
)

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from quintet.federation.v1 import federation_pb2 as pb
    from quintet_sdk import Client

PAGE_SIZE = 500
JOIN_TIMEOUT_S = 30.0
FINGERPRINT = "the root fingerprint as the other's people said it, by telephone or on paper: 64 hex digits"
INVITE = """Invites a node, for one use. The invitation is printed as JSON, for the other node to join with; tell its
people the rootFingerprint in it by another way."""
JOIN = """Asks to join the node that wrote an invitation. This node's own root fingerprint is printed: tell it to the
other's people by another way, who compare it when they approve."""
# What is done for a reason, and what the node says of it.
REASONED = {
    "reject": "turn away a node that has asked to join",
    "suspend": "stop the exchange with a peer, for now",
    "resume": "go on with a peer that was suspended",
    "leave": "end this node's own membership with its parent or a partner",
    "expel": "end the membership of a child or a partner",
    "revoke": "make all certificates of a peer worthless; two people have to approve it again",
}

Ask = Callable[["Client", argparse.Namespace], Awaitable[int]]


def add(commands: Commands) -> None:
    parser = commands.add_parser("peer", help="see and change which nodes this one is joined with")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")

    def verb(name: str, ask: Ask, about: str, description: str = "", *, node: bool = True) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = verbs.add_parser(
            name, help=about, description=description or f"{about[0].upper()}{about[1:]}.", allow_abbrev=False
        )
        add_sign_in(made, required=True)
        if node:
            made.add_argument("node", metavar="NODE", help="the id of the other node")
        made.set_defaults(run=_run, ask=ask)
        return made

    verb("list", _list, "list the peers, one a line", node=False)
    verb("show", _show, "print all that is known of a peer, as JSON")
    invite = verb("invite", _invite, "invite a node to join", INVITE)
    invite.add_argument("--kind", choices=("child", "partner"), required=True, help="what it is to be to this node")
    invite.add_argument("--zone", default="", help="the code of the zone that a child is given")
    join = verb("join", _join, "join a node that has invited this one", JOIN, node=False)
    join.add_argument("invitation", type=Path, metavar="FILE", help="the invitation, - for standard input")
    join.add_argument("--fingerprint", required=True, metavar="HEX", help=FINGERPRINT)
    approve = verb("approve", _approve, "approve a node that has asked to join, as one of two people")
    approve.add_argument("--fingerprint", required=True, metavar="HEX", help=FINGERPRINT)
    for name, about in REASONED.items():
        verb(name, _reasoned, about).add_argument("--reason", required=True, help="kept, and told to the peer")
        verbs.choices[name].set_defaults(verb=name)


def _run(options: argparse.Namespace) -> int:
    from quintet_sdk import QuintetError

    if str(options.password_file) == str(getattr(options, "invitation", "")) == "-":
        raise UsageError("the password and the invitation cannot both come from standard input")
    password = read_password(options.password_file)
    try:
        return asyncio.run(_signed_in(options, password))
    except QuintetError as error:
        print(error, file=sys.stderr)
        return EXIT_RETRY if error.retryable else EXIT_NO


async def _signed_in(options: argparse.Namespace, password: str) -> int:
    from quintet_sdk import Client

    async with Client(options.url) as client:
        await client.sign_in(options.login, password)
        try:
            return int(await options.ask(client, options))
        finally:
            await client.sign_out()


async def _list(client: "Client", _: argparse.Namespace) -> int:
    from quintet.federation.v1 import federation_pb2 as pb

    token = ""
    while True:
        page = await client.federation.ListPeers(pb.ListPeersRequest(page_size=PAGE_SIZE, page_token=token))
        for peer in page.peers:
            print(_line(peer))
        token = page.next_page_token
        if not token:
            return EXIT_DONE


def _line(peer: "pb.Peer") -> str:
    from quintet.federation.v1 import federation_pb2 as pb

    kind = pb.PeerKind.Name(peer.kind).removeprefix("PEER_KIND_").lower()
    state = pb.PeerState.Name(peer.state).removeprefix("PEER_STATE_").lower()
    link = "connected" if peer.connected else "away"
    return f"{peer.node:<20} {kind:<8} {state:<10} {link:<9} {peer.backlog} waiting {' '.join(peer.alarms)}".rstrip()


async def _show(client: "Client", options: argparse.Namespace) -> int:
    from quintet.federation.v1 import federation_pb2 as pb

    return _print((await client.federation.GetPeer(pb.GetPeerRequest(name=f"peers/{options.node}"))).peer)


async def _invite(client: "Client", options: argparse.Namespace) -> int:
    from quintet.federation.v1 import federation_pb2 as pb

    kind = pb.PeerKind.Value(f"PEER_KIND_{options.kind.upper()}")
    request = pb.CreateInvitationRequest(node=options.node, kind=kind, zone=options.zone)
    return _print((await client.federation.CreateInvitation(request)).invitation)


async def _join(client: "Client", options: argparse.Namespace) -> int:
    from google.protobuf import json_format

    from quintet.federation.v1 import federation_pb2 as pb

    try:
        invitation = json_format.Parse(read_text(options.invitation), pb.Invitation())
    except json_format.ParseError as error:
        raise UsageError(f"{options.invitation} holds no invitation: {error}") from error
    request = pb.JoinPeerRequest(invitation=invitation, root_fingerprint_confirmed=options.fingerprint)
    print((await client.federation.JoinPeer(request, timeout=JOIN_TIMEOUT_S)).root_fingerprint)
    return EXIT_DONE


async def _approve(client: "Client", options: argparse.Namespace) -> int:
    from quintet.federation.v1 import federation_pb2 as pb

    request = pb.ApprovePeerRequest(name=f"peers/{options.node}", root_fingerprint=options.fingerprint)
    return _told((await client.federation.ApprovePeer(request)).peer)


async def _reasoned(client: "Client", options: argparse.Namespace) -> int:
    from quintet.federation.v1 import federation_pb2 as pb

    federation = client.federation
    steps: dict[str, tuple[Any, Any]] = {
        "reject": (federation.RejectPeer, pb.RejectPeerRequest),
        "suspend": (federation.SuspendPeer, pb.SuspendPeerRequest),
        "resume": (federation.ResumePeer, pb.ResumePeerRequest),
        "leave": (federation.LeavePeer, pb.LeavePeerRequest),
        "expel": (federation.ExpelPeer, pb.ExpelPeerRequest),
        "revoke": (federation.RevokeCertificate, pb.RevokeCertificateRequest),
    }
    step, request = steps[options.verb]
    return _told((await step(request(name=f"peers/{options.node}", reason=options.reason))).peer)


def _told(peer: "pb.Peer") -> int:
    print(_line(peer))
    return EXIT_DONE


def _print(message: "Message") -> int:
    from google.protobuf import json_format

    print(json_format.MessageToJson(message))
    return EXIT_DONE
