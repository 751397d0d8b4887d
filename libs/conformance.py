"""What holds for every method of every service, checked from outside against a running server. For tests.

    assert await open_without_permission(address, services, nobody=token_of_somebody_without_rights) == []
    assert await broken_by_bad_input(address, services, token=token_of_an_administrator) == []

Each returns one line per fault. Everything is derived from the descriptors: a new method is covered when it is added.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Struct
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from libs import names
from libs.methods import STANDARD_SERVICES, access_of
from libs.rules import rules_of

CALL_TIMEOUT_S = 5.0
REFUSAL_TIMEOUT_S = 60.0  # a refusal comes at once, but for a machine that has much else to do
EXAMPLES = 30
ITEMS_MAX = 3
NESTING_MAX = 3
JSON_DEPTH = 30  # deeper than rules let pass
# Codes that say that we failed, not the caller.
OUR_FAULT = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS})

HOSTILE_TEXTS = (
    *("", " ", "\0", "a\0b", "x" * 5000, "'; DROP TABLE events; --", "%s%n", "{}", "\u202e", "\ufffe", "\r\n"),
    *("𐍈" * 50, "é" * 200, "../../etc", "zones/", "zones/-/events/-", "-1", "NaN", "null", "1e400", "<script>"),
)
HOSTILE_NUMBERS = (0, -1, 1, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 2**64 - 1, 2**32 - 1)
HOSTILE_FLOATS = (0.0, -0.0, float("nan"), float("inf"), float("-inf"), 1e308, -1e308, 5e-324, 90.1, 180.5)
HOSTILE_SECONDS = (0, -1, 2**62, -(2**62), 253_402_300_799, -62_135_596_800, 4_102_444_800)


@dataclass(frozen=True, slots=True)
class Target:
    """One method to call. `path` is "/quintet.identity.v1.DirectoryService/PutZone"."""

    path: str
    method: MethodDescriptor

    @property
    def arity(self) -> str:
        method = self.method
        return f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"


def targets(services: Iterable[ServiceDescriptor]) -> Iterator[Target]:
    """Yield the methods that a node's own port serves."""
    for service in services:
        if service.full_name not in STANDARD_SERVICES:
            for method in service.methods:
                access = access_of(method)
                if access is None or not access.peer:
                    yield Target(f"/{service.full_name}/{method.name}", method)


async def open_without_permission(address: str, services: Iterable[ServiceDescriptor], *, nobody: str) -> list[str]:
    """Call every method without a token, and with `nobody`, the token of a person who holds no permission at all.

    Returns the methods that answer otherwise than UNAUTHENTICATED and PERMISSION_DENIED. Methods that are declared
    public must not ask for a token.
    """
    faults: list[str] = []
    async with grpc.aio.insecure_channel(address) as channel:
        for target in targets(services):
            access = access_of(target.method)
            if access is None:
                faults.append(f"{target.path}: declares no access")
                continue
            anonymous = await _code(channel, target, b"", "", REFUSAL_TIMEOUT_S)
            if not access.public and anonymous is not grpc.StatusCode.UNAUTHENTICATED:
                faults.append(f"{target.path}: answers {anonymous.name} without a token")
            if access.public and anonymous is grpc.StatusCode.UNAUTHENTICATED:
                faults.append(f"{target.path}: is declared public and asks for a token")
            # Methods for everybody who is signed in are left out: one of them ends the session.
            code = await _code(channel, target, b"", nobody, REFUSAL_TIMEOUT_S) if access.permission else None
            if code not in {None, grpc.StatusCode.PERMISSION_DENIED}:
                faults.append(f"{target.path}: answers {code} to a person without {access.permission}")
    return faults


async def closed_to_people(address: str, services: Iterable[ServiceDescriptor], *, everything: str) -> list[str]:
    """Call every internal method with `everything`, the token of a person who holds every permission.

    Returns the methods that answer otherwise than PERMISSION_DENIED.
    """
    faults: list[str] = []
    async with grpc.aio.insecure_channel(address) as channel:
        for target in targets(services):
            access = access_of(target.method)
            if access is not None and access.internal:
                code = await _code(channel, target, b"", everything, REFUSAL_TIMEOUT_S)
                if code is not grpc.StatusCode.PERMISSION_DENIED:
                    faults.append(f"{target.path}: answers {code.name} to a person")
    return faults


async def broken_by_bad_input(
    address: str,
    services: Iterable[ServiceDescriptor],
    *,
    token: str,
    known: Mapping[str, Sequence[str]] | None = None,
    examples: int = EXAMPLES,
    skip: Sequence[str] = (),
) -> list[str]:
    """Send generated requests, hostile and half plausible, and bytes that are none, to every method but `skip`.

    `token` should hold every permission, so that what lies behind the checks is reached. `known` gives texts that exist
    in the system under test by field name ("zone", "name"), to get deeper. Returns the methods that answer INTERNAL,
    UNKNOWN or DATA_LOSS, each with the smallest request that does it.
    """
    faults: list[str] = []
    loop = asyncio.get_running_loop()
    async with grpc.aio.insecure_channel(address) as channel:
        for target in targets(services):
            if target.path in skip:
                continue

            def answer(data: bytes, asked: Target = target) -> grpc.StatusCode:
                call = _code(channel, asked, data, token)
                return asyncio.run_coroutine_threadsafe(call, loop).result(2 * CALL_TIMEOUT_S)

            data = requests(target.method.input_type, known or {}) | st.binary(max_size=100)
            # Hypothesis calls back synchronously: from a thread, while this loop serves.
            fault = await asyncio.to_thread(_falsify, data, answer, examples)
            if fault:
                faults.append(f"{target.path}: {fault}")
    return faults


def _falsify(data: "st.SearchStrategy[bytes]", answer: Any, examples: int) -> str:
    """Return the smallest request that is answered with a code of OUR_FAULT, "" when none was found."""
    found: list[str] = []

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(data)
    def attempt(request: bytes) -> None:
        code = answer(request)
        if code in OUR_FAULT:
            found.append(f"answers {code.name} to {request!r}")
            raise AssertionError(code.name)

    try:
        attempt()
    except AssertionError:
        return found[-1]
    return ""


async def _code(
    channel: grpc.aio.Channel, target: Target, data: bytes, token: str, timeout_s: float = CALL_TIMEOUT_S
) -> grpc.StatusCode:
    """Return the code of one call; of a call with many responses after the first."""
    options: dict[str, Any] = {
        "timeout": timeout_s,
        "metadata": (("authorization", f"Bearer {token}"),) if token else (),
    }
    start = getattr(channel, target.arity)(target.path)
    if not target.method.client_streaming:
        return await _ended(target, start(data, **options))
    call = start(**options)
    try:
        await call.write(data)
        await call.done_writing()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.InternalError):
        # Refused before the message was gone: grpc then gives the call a code of its own making, often INTERNAL.
        # Who writes nothing hears the server's.
        call.cancel()
        call = start(**options)
    return await _ended(target, call)


async def _ended(target: Target, call: Any) -> grpc.StatusCode:
    try:
        if target.method.server_streaming:
            await call.read()
            if not call.done():
                call.cancel()
                return grpc.StatusCode.OK
            return grpc.StatusCode(await call.code())
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


# ------------------------------------------------------------------------------------------------------------ requests

_INTEGERS: "st.SearchStrategy[Any]" = st.sampled_from(HOSTILE_NUMBERS) | st.integers(0, 100)
_FLOATS: "st.SearchStrategy[Any]" = st.sampled_from(HOSTILE_FLOATS) | st.floats(-200, 200)
_SCALARS: "dict[int, st.SearchStrategy[Any]]" = {
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_DOUBLE: _FLOATS,
    FieldDescriptor.CPPTYPE_FLOAT: _FLOATS,
    FieldDescriptor.CPPTYPE_STRING: st.binary(max_size=64),  # bytes fields: texts are made by their rules
}
# By index: strategies are printed, and some of the texts are long.
_HOSTILE = st.integers(0, len(HOSTILE_TEXTS) - 1).map(lambda index: HOSTILE_TEXTS[index])
_JSON = st.recursive(
    st.none() | st.booleans() | st.sampled_from(HOSTILE_FLOATS) | _HOSTILE,
    lambda below: st.lists(below, max_size=2) | st.dictionaries(_HOSTILE, below, max_size=2),
    max_leaves=8,
)


def requests(descriptor: Descriptor, known: Mapping[str, Sequence[str]]) -> "st.SearchStrategy[bytes]":
    """Return a strategy of serialised messages of a type: each field absent, as its rules want it, or hostile."""
    return _messages(descriptor, known, 0).map(lambda message: message.SerializeToString())


def _messages(descriptor: Descriptor, known: Mapping[str, Sequence[str]], depth: int) -> "st.SearchStrategy[Message]":
    kind = GetMessageClass(descriptor)
    if descriptor.full_name in {"google.protobuf.Timestamp", "google.protobuf.Duration"}:
        seconds, nanos = st.sampled_from(HOSTILE_SECONDS), st.sampled_from((0, 1, -1, 2**31 - 1))
        return st.builds(kind, seconds=seconds, nanos=nanos)
    if descriptor.full_name == "google.protobuf.Struct":
        return (st.dictionaries(st.text(max_size=5), _JSON, max_size=3) | st.builds(_deep)).map(_struct)
    if depth >= NESTING_MAX or descriptor.full_name.startswith("google.protobuf."):
        return st.just(kind())
    fields = {field.name: _field(field, known, depth) for field in descriptor.fields}
    return st.fixed_dictionaries({}, optional=fields).map(lambda values: _built(kind, values))


def _built(kind: type[Message], values: Mapping[str, Any]) -> Message:
    message = kind()
    for name, value in values.items():
        try:
            message.MergeFrom(kind(**{name: value}))
        except (ValueError, TypeError, OverflowError, UnicodeEncodeError):
            continue  # a value that this field cannot carry
    return message


def _deep() -> dict[str, Any]:
    made: dict[str, Any] = {}
    for _ in range(JSON_DEPTH):
        made = {"a": made}
    return made


def _struct(values: Mapping[str, Any]) -> Message:
    made = Struct()
    made.update(values)
    return made


def _field(field: FieldDescriptor, known: Mapping[str, Sequence[str]], depth: int) -> "st.SearchStrategy[Any]":
    below = field.message_type
    if below is not None and below.GetOptions().map_entry:
        keys = _value(below.fields_by_name["key"], known, depth)
        return st.dictionaries(keys, _value(below.fields_by_name["value"], known, depth), max_size=ITEMS_MAX)
    one = _value(field, known, depth)
    return st.lists(one, max_size=ITEMS_MAX) if field.is_repeated else one


def _value(field: FieldDescriptor, known: Mapping[str, Sequence[str]], depth: int) -> "st.SearchStrategy[Any]":
    if field.message_type is not None:
        return _messages(field.message_type, known, depth + 1)
    if field.enum_type is not None:
        return st.sampled_from([*field.enum_type.values_by_number, 9999, -1])
    if field.type == FieldDescriptor.TYPE_STRING:
        return _texts(field, known)
    return _SCALARS.get(field.cpp_type, _INTEGERS)


def _texts(field: FieldDescriptor, known: Mapping[str, Sequence[str]]) -> "st.SearchStrategy[str]":
    rules = rules_of(field)
    wanted: list[st.SearchStrategy[str]] = [_HOSTILE, st.text(max_size=20)]
    if rules.resource:
        wanted.append(st.from_regex(names.compiled(rules.resource), fullmatch=True))
    if rules.pattern:
        wanted.append(st.from_regex(rules.pattern, fullmatch=True))
    if known.get(field.name):
        wanted += [st.sampled_from(list(known[field.name]))] * 2
    return st.one_of(wanted)
