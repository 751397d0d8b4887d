"""Answers of the adapters that are no pages: errors, as the services and the edge answer them."""

from google.protobuf.json_format import MessageToDict
from starlette.responses import JSONResponse, Response

from libs.errors import DOMAIN, DomainError, to_status

# The HTTP status that the edge answers for a code of google.rpc, when it transcodes.
_STATUS = {1: 499, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 12: 501, 14: 503, 16: 401}
_FAULT_STATUS = 500


def refusal(status: int, code: int, reason: str, message: str) -> Response:
    """A google.rpc.Status with an ErrorInfo."""
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": DOMAIN}
    return JSONResponse({"code": code, "message": message, "details": [info]}, status_code=status)


def refused(error: DomainError) -> Response:
    """What the service answered, as the edge would pass it on."""
    status = to_status(error)
    return JSONResponse(MessageToDict(status), status_code=_STATUS.get(status.code, _FAULT_STATUS))
