"""The errors that domain code raises, and what a caller of a service gets to see of them.

Domain code raises one of the classes below with a stable reason. The server's interceptor answers with `to_status`; the
client's channel turns that answer back into the same class with `from_status`.
"""

from collections.abc import Iterable, Sequence
from typing import ClassVar

import grpc
from google.protobuf.any_pb2 import Any as AnyProto
from google.rpc import code_pb2, error_details_pb2, status_pb2

from libs.reasons import Reason

__all__ = [
    "AlreadyExists",
    "Away",
    "DomainError",
    "Exhausted",
    "Forbidden",
    "Invalid",
    "NotFound",
    "Reason",
    "Stale",
    "TooLate",
    "Unauthenticated",
    "WrongState",
    "from_status",
    "to_status",
]

DOMAIN = "quintet"
DETAILS_KEY = "grpc-status-details-bin"  # the trailer that carries a google.rpc.Status
# gRPC carries errors in HTTP/2 trailers, which clients limit to 8 KiB in all: the message percent-encoded (three times
# its size when it is not ASCII) and the status, which holds the message again, in base64. So everything is clipped.
MESSAGE_BYTES_MAX = 400
METADATA_BYTES_MAX = 200
METADATA_ITEMS_MAX = 8
VIOLATIONS_MAX = 20
VIOLATIONS_BYTES_MAX = 3_000
FIELD_BYTES_MAX = 200
RULE_BYTES_MAX = 200


class DomainError(Exception):
    """An answer other than success that the caller can act on. Raise one of the subclasses.

    The message is English and for developers; people are shown a text chosen by `reason`. Metadata values are for
    programs. Neither may hold secrets or personal data: both leave the node.
    """

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL

    def __init__(self, reason: Reason | str, message: str = "", **metadata: str) -> None:
        self.reason = str(reason)
        self.message = message or _spoken(self.reason, metadata)
        self.metadata = metadata
        super().__init__(self.message)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.reason}, {self.message!r})"


class Invalid(DomainError):
    """INVALID_ARGUMENT: fields of the request break a rule."""

    code = grpc.StatusCode.INVALID_ARGUMENT

    def __init__(self, field: str, rule: str, *, reason: Reason | str = Reason.FIELD_INVALID) -> None:
        """`field` is the path in JSON spelling ("place.latitude", "items[3].name"); `rule` says what is accepted."""
        self.violations: tuple[tuple[str, str], ...] = ((field, rule),)
        super().__init__(reason, f"{field}: {rule}" if field else rule)

    @classmethod
    def many(cls, violations: Sequence[tuple[str, str]], *, reason: Reason | str = Reason.FIELD_INVALID) -> "Invalid":
        """All that is wrong at once, at least one; the first VIOLATIONS_MAX are kept."""
        error = cls(*violations[0], reason=reason)
        error.violations = tuple(violations[:VIOLATIONS_MAX])
        error.message = "; ".join(f"{field}: {rule}" for field, rule in error.violations)
        error.args = (error.message,)
        return error


class Unauthenticated(DomainError):
    """UNAUTHENTICATED: no token, or one that does not hold."""

    code = grpc.StatusCode.UNAUTHENTICATED


class Forbidden(DomainError):
    """PERMISSION_DENIED: the caller lacks a right. Where existence is secret raise NotFound instead."""

    code = grpc.StatusCode.PERMISSION_DENIED


class NotFound(DomainError):
    """NOT_FOUND: there is no such thing, or the caller may not know of it."""

    code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(DomainError):
    """ALREADY_EXISTS: the name or request id is taken."""

    code = grpc.StatusCode.ALREADY_EXISTS


class WrongState(DomainError):
    """FAILED_PRECONDITION: not possible in the present state; trying again alone does not help."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class Stale(DomainError):
    """ABORTED: somebody else was quicker; read again and retry."""

    code = grpc.StatusCode.ABORTED


class Exhausted(DomainError):
    """RESOURCE_EXHAUSTED: a quota or size limit."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Away(DomainError):
    """UNAVAILABLE: something needed is away for now; retry later."""

    code = grpc.StatusCode.UNAVAILABLE


class TooLate(DomainError):
    """DEADLINE_EXCEEDED: the call's time ran out. The work may have been done all the same."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


_CLASSES: tuple[type[DomainError], ...] = (
    Unauthenticated, Forbidden, NotFound, AlreadyExists, WrongState, Stale, Exhausted, Away, TooLate,
)  # fmt: skip
_BY_CODE: dict[int, type[DomainError]] = {kind.code.value[0]: kind for kind in _CLASSES}


def to_status(error: DomainError) -> status_pb2.Status:
    """Return what the caller is told, within the size that trailers can carry.

    A `google.rpc.Status` with an ErrorInfo (domain "quintet"), and a BadRequest for Invalid.
    """
    info = error_details_pb2.ErrorInfo(domain=DOMAIN, reason=error.reason)
    for key, value in list(error.metadata.items())[:METADATA_ITEMS_MAX]:
        info.metadata[key] = _clip(str(value), METADATA_BYTES_MAX)
    details = [_packed(info)]
    if isinstance(error, Invalid):
        details.append(_packed(_bad_request(error.violations)))
    return status_pb2.Status(code=error.code.value[0], message=_clip(error.message, MESSAGE_BYTES_MAX), details=details)


def from_status(status: status_pb2.Status) -> DomainError | None:
    """Return the error that a Quintet service raised, or None when the status is not of Quintet's making."""
    info = error_details_pb2.ErrorInfo()
    request = error_details_pb2.BadRequest()
    for detail in status.details:
        if not detail.Unpack(info):
            detail.Unpack(request)
    if info.domain != DOMAIN:
        return None
    if status.code == code_pb2.INVALID_ARGUMENT:
        found = [(violation.field, violation.description) for violation in request.field_violations]
        return Invalid.many(found or [("", status.message)], reason=info.reason)
    kind = _BY_CODE.get(status.code)
    if kind is None:
        return None
    error = kind(info.reason, status.message)
    error.metadata = dict(info.metadata)
    return error


def _bad_request(violations: Iterable[tuple[str, str]]) -> error_details_pb2.BadRequest:
    request = error_details_pb2.BadRequest()
    for field, rule in violations:
        request.field_violations.add(field=_clip(field, FIELD_BYTES_MAX), description=_clip(rule, RULE_BYTES_MAX))
        if request.ByteSize() > VIOLATIONS_BYTES_MAX:
            del request.field_violations[-1]
            break
    return request


def _packed(message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest) -> AnyProto:
    packed = AnyProto()
    packed.Pack(message)
    return packed


def _clip(text: str, bytes_max: int) -> str:
    # A lone surrogate can come from a log line or a file name; it must not break the answer.
    data = text.encode("utf-8", "replace")
    if len(data) > bytes_max:
        data = data[: bytes_max - 3].decode("utf-8", "ignore").encode() + "…".encode()
    return data.decode()


def _spoken(reason: str, metadata: dict[str, str]) -> str:
    text = reason.replace("_", " ").lower()
    return f"{text}: {', '.join(metadata.values())}" if metadata else text
