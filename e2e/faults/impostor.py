"""A hostile peer: it speaks the link protocol with the certificate and the keys of a real one, and lies.

It says nothing that the stolen keys would not let it say; what it may do with them is the question.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from e2e.faults.nodes import FaultNode
from quintet.federation.v1 import link_pb2, link_pb2_grpc
from services.federation.pki import key_name
from services.federation.signing import NodeSigner

ANSWER_TIMEOUT_S = 10.0
PROTOCOL = 1
Stream = grpc.aio.StreamStreamCall[link_pb2.ExchangeRequest, link_pb2.ExchangeResponse]


@dataclass(frozen=True)
class Loot:
    """What was stolen from a node: all that it needs to pass for it at one of its peers."""

    node: str
    peer: str
    address: str
    root: bytes
    certificate: bytes
    key: bytes
    signing_key: Ed25519PrivateKey


async def steal(node: FaultNode, peer: str) -> Loot:
    """Read it from the node's state folder and database."""
    secrets = node.process.config.secrets
    async with node.database() as database, database.acquire() as connection:
        row = await connection.fetchrow(
            "SELECT link_address, root_certificate, certificate FROM federation.peers WHERE node = $1", peer
        )
    if row is None:
        raise AssertionError(f"{node.id} does not know {peer}")
    return Loot(
        node=node.id,
        peer=peer,
        address=row["link_address"],
        root=row["root_certificate"].encode(),
        certificate=row["certificate"].encode(),
        key=secrets.read(key_name(row["certificate"])).encode(),
        signing_key=Ed25519PrivateKey.from_private_bytes(base64.b64decode(secrets.read("node-key"))),
    )


@dataclass(frozen=True)
class Answer:
    """What the peer said to a batch: the sequence that it acknowledged, or why it refused. Both empty: it hung up."""

    acknowledged: int = 0
    refused: str = ""


class Impostor:
    """One stream of the hostile peer, after both hellos."""

    def __init__(self, loot: Loot, stream: Stream, hello: link_pb2.Hello) -> None:
        """Use `call`. `hello` is what the peer said first."""
        self._loot = loot
        self._stream = stream
        self._positions = {position.lane: position for position in hello.lanes}
        self.epoch = hello.received_epoch
        self.signer = NodeSigner(loot.node, lambda: loot.signing_key)

    def next(self, lane: link_pb2.Lane.ValueType = link_pb2.LANE_FACTS) -> int:
        """The sequence that the peer expects next in a lane, as it said in its hello."""
        return self._positions[lane].received + 1

    def batch(self, envelopes: Sequence[link_pb2.Envelope | bytes], **lies: object) -> link_pb2.Batch:
        """An honest batch that goes on where the peer is, but for the fields given."""
        fields: dict[str, object] = {
            "sender": self._loot.node,
            "receiver": self._loot.peer,
            "epoch": self.epoch,
            "lane": link_pb2.LANE_FACTS,
            "first_sequence": self.next(),
            "envelopes": [one if isinstance(one, bytes) else one.SerializeToString() for one in envelopes],
        } | lies
        return link_pb2.Batch(**fields)  # type: ignore[arg-type]  # fields by name

    async def send(self, frame: link_pb2.Frame) -> Answer:
        """Send a frame and wait for what comes of it."""
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._stream.write(link_pb2.ExchangeRequest(frame=frame))
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                while isinstance(response := await self._stream.read(), link_pb2.ExchangeResponse):
                    match response.frame.WhichOneof("body"):
                        case "receipt":
                            receipt = link_pb2.Receipt.FromString(response.frame.receipt.receipt)
                            return Answer(acknowledged=receipt.sequence)
                        case "refusal":
                            return Answer(refused=response.frame.refusal.reason)
        return Answer()

    async def say(self, batch: link_pb2.Batch) -> Answer:
        """Sign a batch and send it."""
        return await self.send(link_pb2.Frame(batch=self.signer.batch(batch)))


@asynccontextmanager
async def call(loot: Loot, **lies: object) -> AsyncIterator[Impostor]:
    """Open a stream. The hello follows from what the peer says in its own, but for the fields given."""
    credentials = grpc.ssl_channel_credentials(loot.root, loot.key, loot.certificate)
    options = [("grpc.ssl_target_name_override", loot.peer), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.secure_channel(loot.address, credentials, options) as channel:
        stream = link_pb2_grpc.LinkServiceStub(channel).Exchange()
        response = await stream.read()
        if not isinstance(response, link_pb2.ExchangeResponse) or response.frame.WhichOneof("body") != "hello":
            raise AssertionError(f"{loot.peer} did not say hello, but {response}")
        heard = response.frame.hello
        await stream.write(link_pb2.ExchangeRequest(frame=link_pb2.Frame(hello=_hello(loot, heard, lies))))
        yield Impostor(loot, stream, heard)
        stream.cancel()


def _hello(loot: Loot, heard: link_pb2.Hello, lies: dict[str, object]) -> link_pb2.Hello:
    fields: dict[str, object] = {
        "node": loot.node,
        "protocol": PROTOCOL,
        "epoch": heard.received_epoch,
        "received_epoch": heard.epoch,
        "lanes": [
            link_pb2.LanePosition(
                lane=position.lane,
                received=position.acknowledged,
                received_chain=position.acknowledged_chain,
                last_assigned=position.received,
                acknowledged=position.received,
                acknowledged_chain=position.received_chain,
                credit=500,
            )
            for position in heard.lanes
        ],
    } | lies
    return link_pb2.Hello(**fields)  # type: ignore[arg-type]  # fields by name
