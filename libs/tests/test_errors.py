import base64
from urllib.parse import quote

import pytest
from google.rpc import error_details_pb2, status_pb2

from libs.errors import (
    VIOLATIONS_MAX,
    AlreadyExists,
    Away,
    DomainError,
    Exhausted,
    Forbidden,
    Invalid,
    NotFound,
    Reason,
    Stale,
    TooLate,
    Unauthenticated,
    WrongState,
    from_status,
    to_status,
)

KINDS = [Unauthenticated, Forbidden, NotFound, AlreadyExists, WrongState, Stale, Exhausted, Away, TooLate]
TRAILERS_BYTES_MAX = 8 * 1024


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_arrives_as_what_it_was(kind: type[DomainError]) -> None:
    sent = kind(Reason.EVENT_NOT_FOUND, "事件不存在", name="zones/a/events/1")
    got = from_status(to_status(sent))
    assert type(got) is kind
    assert (got.reason, got.message, got.metadata) == (sent.reason, sent.message, sent.metadata)


def test_invalid_names_every_field() -> None:
    sent = Invalid.many([("a.b", "is required"), ("c[0]", "is too long")])
    assert sent.message == "a.b: is required; c[0]: is too long"
    got = from_status(to_status(sent))
    assert isinstance(got, Invalid)
    assert got.violations == sent.violations
    assert got.reason == Reason.FIELD_INVALID


def test_a_message_is_made_when_none_is_given() -> None:
    assert str(NotFound(Reason.EVENT_NOT_FOUND, name="zones/a/events/1")) == "event not found: zones/a/events/1"


def test_reasons_of_newer_services_are_kept() -> None:
    got = from_status(to_status(NotFound("INVENTED_LATER")))
    assert got is not None
    assert got.reason == "INVENTED_LATER"


@pytest.mark.parametrize("text", ["x" * 10_000, "很长的字段" * 1_000, "\0\n" * 1_000])
def test_what_is_told_fits_into_trailers(text: str) -> None:
    for error in (Invalid.many([(text, text)] * 50), NotFound("REASON", text, **{f"key{i}": text for i in range(100)})):
        status = to_status(error)
        trailers = len(base64.b64encode(status.SerializeToString())) + len(quote(status.message, safe=" "))
        assert trailers < TRAILERS_BYTES_MAX - 1024, "there are other trailers"


def test_violations_are_bounded() -> None:
    assert len(Invalid.many([("a", "is required")] * 50).violations) == VIOLATIONS_MAX


def test_text_that_is_not_valid_does_not_break_the_answer() -> None:
    status = to_status(NotFound(Reason.EVENT_NOT_FOUND, "\ud800", name="\ud800" * 1000))
    assert status.message == "?"


def test_statuses_of_others_are_not_ours() -> None:
    assert from_status(status_pb2.Status(code=5, message="gone")) is None
    foreign = status_pb2.Status(code=5)
    foreign.details.add().Pack(error_details_pb2.ErrorInfo(domain="googleapis.com", reason="GONE"))
    assert from_status(foreign) is None
