from dataclasses import dataclass
from typing import Self

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

_DETAILS_KEY = "grpc-status-details-bin"
_RETRYABLE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED})


@dataclass(frozen=True)
class Violation:
    """One field that breaks a rule: its path in the request, and the rule in words."""

    field: str
    rule: str


class QuintetError(Exception):
    """A node refused a call or could not answer it.

    `reason` is stable and meant for programs ("EVENT_NOT_FOUND"); it is empty when the gateway answered in the
    service's stead. `violations` names the fields that break a rule when `code` is INVALID_ARGUMENT.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: str = "",
        metadata: dict[str, str] | None = None,
        violations: tuple[Violation, ...] = (),
    ) -> None:
        super().__init__(f"{code.name}{f' {reason}' if reason else ''}: {message}")
        self.code = code
        self.message = message
        self.reason = reason
        self.metadata = metadata or {}
        self.violations = violations

    @property
    def retryable(self) -> bool:
        """Whether the same call, with the same `request_id`, may succeed a little later."""
        return self.code in _RETRYABLE

    @classmethod
    def of(cls, error: grpc.aio.AioRpcError) -> Self:
        """Reads the google.rpc.Status that a failed call carries."""
        reason, metadata, violations = "", dict[str, str](), list[Violation]()
        for detail in _status(error).details:
            info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
            if detail.Unpack(info):
                reason, metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(bad_request):
                violations += [Violation(found.field, found.description) for found in bad_request.field_violations]
        return cls(error.code(), error.details() or "", reason=reason, metadata=metadata, violations=tuple(violations))


def _status(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:  # not ours; code and text are all there is
                break
    return status_pb2.Status()
