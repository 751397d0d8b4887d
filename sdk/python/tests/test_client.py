"""The client against a real gRPC server that answers as a node would."""

import importlib
import pkgutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

import quintet
from quintet.identity.v1 import identity_pb2
from quintet_sdk import Client, QuintetError, Violation, new_request_id
from quintet_sdk._client import _target

# grpc's own class takes no parameters at run time, only its types do.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


@dataclass
class Node:
    """What the server knows: the tokens that it takes, and how long new ones live."""

    life: timedelta = timedelta(minutes=15)
    good: set[str] = field(default_factory=set)
    refresh: str = ""
    made: int = 0
    deadlines_s: list[float | None] = field(default_factory=list)

    def tokens(self) -> identity_pb2.Tokens:
        self.made += 1
        token, self.refresh = f"access-{self.made}", f"refresh-{self.made}"
        self.good.add(token)
        tokens = identity_pb2.Tokens(access_token=token, refresh_token=self.refresh)
        tokens.expires_at.FromDatetime(datetime.now(UTC) + self.life)
        return tokens


async def refuse(context: Context, code: grpc.StatusCode, *details: Any) -> None:
    status = status_pb2.Status(code=code.value[0], message="refused")
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    await context.abort(code, "refused")


async def authorise(node: Node, context: Context) -> None:
    given = dict(context.invocation_metadata() or ()).get("authorization", "")
    if str(given).removeprefix("Bearer ") not in node.good:
        await refuse(context, grpc.StatusCode.UNAUTHENTICATED)


def identity(node: Node) -> grpc.GenericRpcHandler:
    async def sign_in(request: identity_pb2.SignInRequest, context: Context) -> identity_pb2.SignInResponse:
        if request.password != "right":
            await refuse(
                context,
                grpc.StatusCode.INVALID_ARGUMENT,
                error_details_pb2.ErrorInfo(reason="INVALID", domain="quintet", metadata={"login": request.login}),
                error_details_pb2.BadRequest(
                    field_violations=[
                        error_details_pb2.BadRequest.FieldViolation(field="password", description="required")
                    ]
                ),
            )
        return identity_pb2.SignInResponse(tokens=node.tokens(), subject=f"people/{request.login}")

    async def refresh(
        request: identity_pb2.RefreshSessionRequest, context: Context
    ) -> identity_pb2.RefreshSessionResponse:
        if request.refresh_token != node.refresh:
            await refuse(context, grpc.StatusCode.UNAUTHENTICATED)
        return identity_pb2.RefreshSessionResponse(tokens=node.tokens())

    async def profile(_: Any, context: Context) -> identity_pb2.GetProfileResponse:
        node.deadlines_s.append(context.time_remaining())
        await authorise(node, context)
        return identity_pb2.GetProfileResponse(subject="people/somebody")

    async def sign_out(_: Any, context: Context) -> identity_pb2.SignOutResponse:
        await authorise(node, context)
        node.good.clear()
        return identity_pb2.SignOutResponse()

    return service(
        "quintet.identity.v1.IdentityService",
        SignIn=(sign_in, identity_pb2.SignInRequest),
        RefreshSession=(refresh, identity_pb2.RefreshSessionRequest),
        GetProfile=(profile, identity_pb2.GetProfileRequest),
        SignOut=(sign_out, identity_pb2.SignOutRequest),
    )


def service(name: str, **methods: tuple[Callable[..., Awaitable[Any]], type[Any]]) -> grpc.GenericRpcHandler:
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        method: grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=request.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
        for method, (answer, request) in methods.items()
    }
    return grpc.method_handlers_generic_handler(name, handlers)


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
async def client(node: Node) -> AsyncIterator[Client]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((identity(node),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with Client(f"http://127.0.0.1:{port}") as connected:
        yield connected
    await server.stop(None)


async def test_a_session_carries_its_token(client: Client) -> None:
    assert await client.sign_in("resident.01", "right") == "people/resident.01"
    assert (await client.identity.GetProfile(identity_pb2.GetProfileRequest())).subject == "people/somebody"


async def test_every_call_has_a_deadline(client: Client, node: Node) -> None:
    await client.sign_in("resident.01", "right")
    await client.identity.GetProfile(identity_pb2.GetProfileRequest())
    await client.identity.GetProfile(identity_pb2.GetProfileRequest(), timeout=5)
    assert node.deadlines_s == [pytest.approx(30, abs=2), pytest.approx(5, abs=2)]


async def test_a_token_that_ends_soon_is_renewed_before_the_call(client: Client, node: Node) -> None:
    node.life = timedelta(seconds=1)
    await client.sign_in("resident.01", "right")
    node.good.clear()
    await client.identity.GetProfile(identity_pb2.GetProfileRequest())
    assert node.made == 2


async def test_a_refused_token_is_renewed_once_for_all_calls_at_a_time(client: Client, node: Node) -> None:
    await client.sign_in("resident.01", "right")
    node.good.clear()
    calls = [client.identity.GetProfile(identity_pb2.GetProfileRequest()) for _ in range(5)]
    for call in calls:
        assert (await call).subject == "people/somebody"
    assert node.made == 2


async def test_a_session_that_cannot_be_renewed_ends(client: Client, node: Node) -> None:
    await client.sign_in("resident.01", "right")
    node.good.clear()
    node.refresh = "used by somebody else"
    for _ in range(2):
        with pytest.raises(QuintetError) as caught:
            await client.identity.GetProfile(identity_pb2.GetProfileRequest())
        assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED
    assert node.made == 1


async def test_sign_out_ends_the_session(client: Client, node: Node) -> None:
    await client.sign_in("resident.01", "right")
    await client.sign_out()
    await client.sign_out()
    assert node.good == set()
    with pytest.raises(QuintetError):
        await client.identity.GetProfile(identity_pb2.GetProfileRequest())


async def test_an_error_says_its_reason_and_the_fields(client: Client) -> None:
    with pytest.raises(QuintetError) as caught:
        await client.sign_in("resident.01", "")
    error = caught.value
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID")
    assert error.metadata == {"login": "resident.01"}
    assert error.violations == (Violation("password", "required"),)
    assert str(error) == "INVALID_ARGUMENT INVALID: refused"
    assert not error.retryable


async def test_a_node_that_is_away_invites_a_retry() -> None:
    async with Client("127.0.0.1:1") as client:
        with pytest.raises(QuintetError) as caught:
            await client.sign_in("resident.01", "right")
        assert caught.value.retryable


def test_request_ids_differ() -> None:
    assert new_request_id() != new_request_id()


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("127.0.0.1:8080", ("127.0.0.1:8080", False)),
        ("http://127.0.0.1:8080", ("127.0.0.1:8080", False)),
        ("https://node.example", ("node.example:443", True)),
        ("http://node.example/", ("node.example:80", False)),
    ],
)
def test_addresses(address: str, target: tuple[str, bool]) -> None:
    assert _target(address) == target


def test_other_addresses_are_refused() -> None:
    with pytest.raises(ValueError, match="neither"):
        Client("ftp://node.example")


async def test_every_public_service_has_an_attribute() -> None:
    packages = [quintet.__name__, *(found.name for found in pkgutil.walk_packages(quintet.__path__, "quintet."))]
    modules = [importlib.import_module(name) for name in packages if name.endswith("_pb2_grpc")]
    offered = {name for module in modules for name in vars(module) if name.endswith("ServiceStub")}
    # Audit and dead letters are for the node's own services; membership and link are spoken between nodes.
    offered -= {"AuditServiceStub", "DeadLetterServiceStub", "MembershipServiceStub", "LinkServiceStub"}
    async with Client("127.0.0.1:1") as client:
        assert {type(value).__name__ for value in vars(client).values()} >= offered
