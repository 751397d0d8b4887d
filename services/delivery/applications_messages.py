"""The wire's words for service items, applications and certificates, and back."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from quintet.delivery.v1 import delivery_pb2 as pb
from quintet.delivery.v1.facts_pb2 import ApplicationDecided, CertificateIssued, CertificateRevoked
from services.delivery.applications_model import (
    Application,
    ApplicationState,
    Certificate,
    CertificateState,
    ServiceItem,
)
from services.delivery.messages import timestamp

_APPLICATION_STATE = {state: pb.ApplicationState.Value(f"APPLICATION_STATE_{state.name}") for state in ApplicationState}
_APPLICATION_STATE_OF = {value: state for state, value in _APPLICATION_STATE.items()}
CERTIFICATE_STATE = {state: pb.CertificateState.Value(f"CERTIFICATE_STATE_{state.name}") for state in CertificateState}
_DECISIONS = {pb.DECISION_APPROVE: ApplicationState.APPROVED, pb.DECISION_REFUSE: ApplicationState.REFUSED}


def item_of(message: pb.ServiceItem) -> ServiceItem:
    return ServiceItem(
        code=message.name.removeprefix("serviceItems/"),
        title=message.title,
        department=message.department,
        main_item=message.main_item,
        task_type=message.task_type,
    )


def item_message(item: ServiceItem) -> pb.ServiceItem:
    return pb.ServiceItem(
        name=item.name,
        title=item.title,
        department=item.department,
        main_item=item.main_item,
        task_type=item.task_type,
    )


def form_of(message: Struct) -> dict[str, Any]:
    """Return the answers of a form as JSON; numbers are doubles there."""
    return MessageToDict(message)


def struct(value: Mapping[str, Any]) -> Struct:
    made = Struct()
    made.update(value)
    return made


def outcome(decision: pb.Decision.ValueType) -> ApplicationState:
    """Return the state that a decision leads to; the rules have refused an unspecified one."""
    return _DECISIONS[decision]


def state_filter(value: pb.ApplicationState.ValueType) -> ApplicationState | None:
    return _APPLICATION_STATE_OF.get(value)


def application_message(application: Application) -> pb.Application:
    return pb.Application(
        name=application.name,
        service_item=application.service_item,
        service_item_title=application.service_item_title,
        applicant=application.applicant,
        subject_name=application.subject_name,
        form=struct(application.form),
        state=_APPLICATION_STATE[application.state],
        submitted_at=timestamp(application.submitted_at),
        decided_at=timestamp(application.decided_at),
        decided_by=application.decided_by,
        decision_reason=application.decision_reason,
        certificate=application.certificate,
    )


def certificate_message(certificate: Certificate, now: datetime) -> pb.Certificate:
    return pb.Certificate(
        name=certificate.name,
        service_item=certificate.service_item,
        holder=certificate.holder,
        subject_name=certificate.subject_name,
        state=CERTIFICATE_STATE[certificate.state(now)],
        issued_at=timestamp(certificate.issued_at),
        expires_at=timestamp(certificate.expires_at),
        credential=certificate.credential,
        revoked_reason=certificate.revoked_reason,
    )


def decided(application: Application) -> ApplicationDecided:
    return ApplicationDecided(
        application=application.name,
        service_item=application.service_item,
        state=_APPLICATION_STATE[application.state],
    )


def issued(certificate: Certificate) -> CertificateIssued:
    return CertificateIssued(certificate=certificate.name, service_item=certificate.service_item)


def revoked(certificate: Certificate) -> CertificateRevoked:
    return CertificateRevoked(certificate=certificate.name, reason=certificate.revoked_reason)
