"""The rules of questions between nodes: what a contract lets be asked, and what an answer may hold. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from libs import masking
from libs.errors import Away, DomainError, Exhausted, Forbidden, Invalid, NotFound, Reason, TooLate, WrongState
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from services.federation import rows

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from services.federation.terms import ActiveContract

# Of one answer; the caller's own remaining time counts when it is shorter.
ANSWER_TIMEOUT_MAX_S = 30.0
# Of all answers to one streamed question together.
STREAM_TIMEOUT_MAX_S = 600.0
PAGE_ROWS_DEFAULT = 100
PAGE_ROWS_MAX = 1000
# Answers of a stream that may be under way at a time: the next page is read while this one is used, and no more than
# this many pages are ever held at either end.
STREAM_CREDIT = 2
# What a peer says of who asks is kept, but not without end.
ACTOR_CHARS_MAX = 256
PURPOSE_NOT_IN_CONTRACT = "PURPOSE_NOT_IN_CONTRACT"


def check_query(
    contract: ActiveContract | None, asked: pb.QueryContractRequest, now: datetime, *, provider: str
) -> ActiveContract:
    """Hold a question against its contract, at either end. Raises Forbidden or WrongState with the reason."""
    if contract is None or not contract.in_time(now):
        raise WrongState(Reason.CONTRACT_NOT_ACTIVE, f"{asked.name} is not in force", contract=asked.name)
    if contract.provider != provider or contract.kind != pb.CONTRACT_KIND_EXCHANGE:
        raise WrongState(Reason.CONTRACT_NOT_ACTIVE, f"{asked.name} gives no rows of {provider}", contract=asked.name)
    visible = contract.fields()
    extra = _first_outside([*asked.fields, *asked.where], visible)
    if extra:
        text = f"field {extra} is not in {asked.name}; it gives {', '.join(sorted(visible))}"
        raise Forbidden(Reason.FIELD_NOT_IN_CONTRACT, text, field=extra, contract=asked.name)
    if contract.terms.HasField("aggregation") and asked.fields and set(asked.fields) != visible:
        raise Invalid("fields", "must be empty or all where rows are counted: other fields make other groups")
    if asked.purpose and asked.purpose != contract.terms.purpose:
        text = f"the purpose is not that of {asked.name}"
        raise Forbidden(PURPOSE_NOT_IN_CONTRACT, text, contract=asked.name)
    return contract


def check_answer(contract: ActiveContract, asked: pb.QueryContractRequest, answer: link_pb2.Answer) -> None:
    """Hold an answer against the contract and the question, at the consumer. Raises Forbidden with the reason."""
    allowed = contract.fields()
    if asked.fields:
        allowed &= frozenset(asked.fields)
    if contract.terms.HasField("aggregation"):
        allowed |= {contract.terms.aggregation.count_field}
    extra = next((name for row in answer.rows for name in row if name not in allowed), "")
    if extra:
        text = f"{contract.provider} answered with field {extra}, which is not in {asked.name} or was not asked for"
        raise Forbidden(Reason.FIELD_NOT_IN_CONTRACT, text, field=extra, contract=asked.name)
    try:
        refusal = rows.answered(contract, [masking.from_struct(row) for row in answer.rows])
    except ValueError:
        refusal = (Reason.FIELD_INVALID, "a number is not finite")
    if refusal is not None:
        reason, text = refusal
        raise Forbidden(
            reason, f"{contract.provider} answered what is not in {asked.name}: {text}", contract=asked.name
        )
    most = page_rows(asked)
    if len(answer.rows) > most:
        text = f"{contract.provider} answered with {len(answer.rows)} rows where at most {most} were asked for"
        raise Forbidden(Reason.QUOTA, text, contract=asked.name)


def page_rows(asked: pb.QueryContractRequest) -> int:
    """Return the most rows of one answer."""
    return min(asked.page_size or PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX)


def _first_outside(names: Iterable[str], visible: frozenset[str]) -> str:
    return next((name for name in names if name not in visible), "")


# ---------------------------------------------------------------------------------------------- errors on the wire


def refused(query: link_pb2.Query, error: DomainError) -> link_pb2.Answer:
    """Return the answer that says why there is none."""
    return link_pb2.Answer(id=query.id, code=error.code.value[0], reason=error.reason, message=error.message)


_ERRORS: dict[int, type[DomainError]] = {
    kind.code.value[0]: kind for kind in (Forbidden, NotFound, WrongState, Exhausted, Away, TooLate)
}


def error_of(answer: link_pb2.Answer) -> DomainError:
    """Return what the peer refused with, as if it had been raised here."""
    reason = answer.reason or grpc.StatusCode.UNKNOWN.name
    if answer.code == Invalid.code.value[0]:
        return Invalid("", answer.message, reason=reason)
    return _ERRORS.get(answer.code, Away)(reason, answer.message)
