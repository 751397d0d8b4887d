"""Service items, applications and certificates: pure rules, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from libs.errors import Forbidden, Reason, WrongState

VALID_DAYS_DEFAULT = 365


@dataclass(frozen=True, slots=True)
class ServiceItem:
    """Something that people and firms can apply for. `code` is the last part of its name."""

    code: str
    title: str
    department: str
    main_item: str
    task_type: str

    @property
    def name(self) -> str:
        return f"serviceItems/{self.code}"


class ApplicationState(StrEnum):
    SUBMITTED = "submitted"
    APPROVED = "approved"
    REFUSED = "refused"


class CertificateState(StrEnum):
    VALID = "valid"
    REVOKED = "revoked"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Application:
    id: str
    zone: str
    service_item: str
    service_item_title: str
    applicant: str
    subject_name: str
    form: Mapping[str, Any]
    state: ApplicationState
    submitted_at: datetime
    decided_at: datetime | None = None
    decided_by: str = ""
    decision_reason: str = ""
    certificate: str = ""

    @property
    def name(self) -> str:
        return f"applications/{self.id}"


@dataclass(frozen=True, slots=True)
class Certificate:
    id: str
    zone: str
    application: str
    service_item: str
    holder: str
    subject_name: str
    issued_at: datetime
    expires_at: datetime
    credential: str
    revoked_at: datetime | None = None
    revoked_by: str = ""
    revoked_reason: str = ""

    @property
    def name(self) -> str:
        return f"certificates/{self.id}"

    def state(self, now: datetime) -> CertificateState:
        """Return where it stands at `now`. Whether it has expired is computed, never stored."""
        if self.revoked_at is not None:
            return CertificateState.REVOKED
        return CertificateState.EXPIRED if now >= self.expires_at else CertificateState.VALID


def check_decidable(application: Application, decider: str) -> None:
    """Raise WrongState when it is decided already, and Forbidden when the decider would decide their own."""
    if application.applicant == decider:
        text = "nobody decides their own application"
        raise Forbidden(Reason.NOT_PERMITTED, text, permission="delivery.applications.decide")
    if application.state is not ApplicationState.SUBMITTED:
        text = f"{application.name} is {application.state} already"
        raise WrongState(Reason.WRONG_STATE, text, name=application.name, state=application.state)


def check_revocable(certificate: Certificate) -> None:
    """Raise WrongState when it is revoked already."""
    if certificate.revoked_at is not None:
        raise WrongState(Reason.CERTIFICATE_REVOKED, f"{certificate.name} is revoked already", name=certificate.name)


def validity(now: datetime, valid_days: int) -> tuple[datetime, datetime]:
    """Return start and end of a certificate's validity, in whole seconds as its credential writes them.

    `valid_days` 0 means VALID_DAYS_DEFAULT.
    """
    start = now.replace(microsecond=0)
    return start, start + timedelta(days=valid_days or VALID_DAYS_DEFAULT)


def subject_of(application: Application) -> dict[str, str]:
    """Return the claims of the certificate: for whom and for what, and nothing else of the application."""
    return {
        "name": application.subject_name,
        "serviceItem": application.service_item,
        "serviceItemTitle": application.service_item_title,
    }
