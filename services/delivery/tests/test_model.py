"""The rules of requests, applications and certificates."""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from libs.errors import AlreadyExists, Forbidden, Invalid, WrongState
from libs.zones import Resolution
from services.delivery import applications_model, model
from services.delivery.applications_model import Application, ApplicationState, Certificate, CertificateState
from services.delivery.model import Status, Step
from services.delivery.tests.samples import PUBLIC_WORKS, RESIDENT, START, request

APPLICATION = Application(
    id="a1",
    zone="us-ca-sf",
    service_item="serviceItems/x",
    service_item_title="Street performance permit",
    applicant=RESIDENT,
    subject_name="Resident 01",
    form={"address": "secret"},
    state=ApplicationState.SUBMITTED,
    submitted_at=START,
)
CERTIFICATE = Certificate(
    id="c1",
    zone="us-ca-sf",
    application="a1",
    service_item="serviceItems/x",
    holder=RESIDENT,
    subject_name="Resident 01",
    issued_at=START,
    expires_at=START + timedelta(days=1),
    credential="",
)


@pytest.mark.parametrize(
    ("event_status", "status"),
    [
        ("collected", Status.ACCEPTED),
        ("filed", Status.ACCEPTED),
        ("dispatched", Status.IN_PROGRESS),
        ("disposed", Status.IN_PROGRESS),
        ("fed_back", Status.ANSWERED),
        ("closed", Status.CLOSED),
        ("evaluated", Status.CLOSED),
        ("voided", Status.REJECTED),
        ("a state of another loop", Status.ACCEPTED),
    ],
)
def test_what_a_reporter_sees_of_an_event(event_status: str, status: Status) -> None:
    assert model.status_of(event_status) is status


def test_a_number_names_the_node_and_the_day() -> None:
    assert model.number_of("sf-d10", date(2026, 11, 21), lambda alphabet: alphabet[-1]) == "SF-D10-20261121-ZZZZZZ"


def test_a_request_is_of_now_or_of_the_past() -> None:
    assert model.reported_at(None, START) == START
    assert model.reported_at(START - timedelta(days=4000), START) == START - timedelta(days=4000)
    assert model.reported_at(START + timedelta(seconds=5), START) == START, "a device's clock may be a little ahead"
    with pytest.raises(Invalid, match="reportedAt"):
        model.reported_at(START + timedelta(minutes=5), START)


def test_a_zone_that_rests_on_little_is_flagged() -> None:
    sure = Resolution("us-ca-sf-d10", 0.95, "zone_hint '10' is us-ca-sf-d10")
    guess = Resolution("us-ca-sf-d10", 0.5, "address mentions it")
    assert model.flags_of(sure) == ()
    assert [flag.code for flag in model.flags_of(guess)] == ["ZONE_UNCERTAIN"]


def test_only_a_rejection_passes_its_reason_on() -> None:
    assert model.note_of("dispatched", "", "sent to the wrong desk before") == ""
    assert model.note_of("voided", "", "not a matter of the city") == "not a matter of the city"
    assert model.note_of("fed_back", "The light was replaced", "done") == "The light was replaced"


def test_a_reporter_sees_the_steps_since_the_event_stands_for_the_request() -> None:
    linked = request(
        linked_at=START + timedelta(hours=3),
        linked_revision=3,
        linked_status="in_progress",
        linked_event_status="dispatched",
        linked_organisation=PUBLIC_WORKS,
    )
    steps = [
        Step(5, Status.ANSWERED, "fed_back", PUBLIC_WORKS, "Done", START + timedelta(hours=5)),
        Step(2, Status.IN_PROGRESS, "dispatched", PUBLIC_WORKS, "", START + timedelta(hours=2)),
        Step(4, Status.IN_PROGRESS, "disposed", PUBLIC_WORKS, "", START + timedelta(hours=4)),
    ]
    seen = model.steps_seen(linked, steps)
    assert [(step.status, step.event_status) for step in seen] == [
        (Status.RECEIVED, ""),
        (Status.IN_PROGRESS, "dispatched"),
        (Status.IN_PROGRESS, "disposed"),
        (Status.ANSWERED, "fed_back"),
    ]
    assert [step.status for step in model.steps_seen(request(), [])] == [Status.RECEIVED]


def test_answered_and_closed_requests_are_rated_once() -> None:
    model.check_ratable(request(status=Status.ANSWERED))
    model.check_ratable(request(status=Status.CLOSED))
    for status in (Status.RECEIVED, Status.ACCEPTED, Status.IN_PROGRESS, Status.REJECTED):
        with pytest.raises(WrongState):
            model.check_ratable(request(status=status))
    with pytest.raises(AlreadyExists):
        model.check_ratable(request(status=Status.CLOSED, rating=5))


def test_applications_are_decided_once_and_by_somebody_else() -> None:
    applications_model.check_decidable(APPLICATION, "people/service-officer")
    with pytest.raises(Forbidden):
        applications_model.check_decidable(APPLICATION, RESIDENT)
    for state in (ApplicationState.APPROVED, ApplicationState.REFUSED):
        with pytest.raises(WrongState):
            applications_model.check_decidable(replace(APPLICATION, state=state), "people/service-officer")


def test_a_certificate_says_no_more_than_for_whom_and_what() -> None:
    assert applications_model.subject_of(APPLICATION) == {
        "name": "Resident 01",
        "serviceItem": "serviceItems/x",
        "serviceItemTitle": "Street performance permit",
    }


def test_the_state_of_a_certificate() -> None:
    assert CERTIFICATE.state(START) is CertificateState.VALID
    assert CERTIFICATE.state(START + timedelta(days=1)) is CertificateState.EXPIRED
    revoked = replace(CERTIFICATE, revoked_at=START)
    assert revoked.state(START + timedelta(days=1)) is CertificateState.REVOKED
    applications_model.check_revocable(CERTIFICATE)
    with pytest.raises(WrongState):
        applications_model.check_revocable(revoked)


def test_validity_is_in_whole_seconds_and_a_year_by_default() -> None:
    start, end = applications_model.validity(START + timedelta(microseconds=5), 0)
    assert (start, end - start) == (START, timedelta(days=365))
    assert applications_model.validity(START, 7)[1] == START + timedelta(days=7)
