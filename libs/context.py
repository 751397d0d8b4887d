"""What the code below a call may need to know of it, without every function passing it on."""

from contextvars import ContextVar

# Resource name of who calls, for audit entries and idempotency; "" outside of any call.
caller_subject: ContextVar[str] = ContextVar("caller_subject", default="")
# Full name of the RPC being served, "quintet.identity.v1.DirectoryService/PutZone"; "" outside of any call.
rpc_method: ContextVar[str] = ContextVar("rpc_method", default="")
# W3C trace context of the work being done; "" when there is none.
traceparent: ContextVar[str] = ContextVar("traceparent", default="")
# When the present call must be done, in seconds of the event loop's clock; infinite outside of any call.
deadline: ContextVar[float] = ContextVar("deadline", default=float("inf"))
