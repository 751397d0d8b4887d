"""Applications and certificates in PostgreSQL."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from services.delivery.applications_model import Application, ApplicationState, Certificate

if TYPE_CHECKING:
    from datetime import datetime

    from libs.access import Visibility
    from libs.db import Connection, Record

_APPLICATION = """id, zone, service_item, service_item_title, applicant, subject_name, form, state, submitted_at,
    decided_at, decided_by, decision_reason, certificate"""
_CERTIFICATE = """id, zone, application, service_item, holder, subject_name, issued_at, expires_at, credential,
    revoked_at, revoked_by, revoked_reason"""


async def add(conn: Connection, application: Application) -> None:
    await conn.execute(
        """INSERT INTO applications (id, zone, service_item, service_item_title, applicant, subject_name, form, state,
            submitted_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)""",
        application.id, application.zone, application.service_item, application.service_item_title,
        application.applicant, application.subject_name, json.dumps(application.form), application.state,
        application.submitted_at,
    )  # fmt: skip


async def get(conn: Connection, application_id: str, *, lock: bool = False) -> Application | None:
    """Return an application; with `lock` held until the end of the transaction."""
    row = await conn.fetchrow(
        f"SELECT {_APPLICATION} FROM applications WHERE id = $1 {'FOR UPDATE' if lock else ''}", application_id
    )
    return _application(row) if row else None


async def list_applications(
    conn: Connection,
    visibility: Visibility,
    state: ApplicationState | None,
    after: tuple[datetime, str] | None,
    limit: int,
) -> list[Application]:
    """Return the newest applications that may be seen, from behind `after` = (submitted_at, id) on, at most `limit`."""
    condition, values = visibility.clause(1, zone="zone", owner="applicant")
    conditions = [condition]

    def parameter(value: object) -> str:
        values.append(value)
        return f"${len(values)}"

    if state is not None:
        conditions.append(f"state = {parameter(state)}")
    if after is not None:
        time, last_id = parameter(after[0]), parameter(after[1])
        conditions.append(f"(submitted_at, id) < ({time}::timestamptz, {last_id}::text)")
    rows = await conn.fetch(
        f"""SELECT {_APPLICATION} FROM applications WHERE {" AND ".join(conditions)}
        ORDER BY submitted_at DESC, id DESC LIMIT {parameter(limit)}""",
        *values,
    )
    return [_application(row) for row in rows]


async def decide(conn: Connection, application: Application) -> None:
    """Write the outcome of an application that is locked."""
    await conn.execute(
        """UPDATE applications SET state = $2, decided_at = $3, decided_by = $4, decision_reason = $5, certificate = $6
        WHERE id = $1""",
        application.id, application.state, application.decided_at, application.decided_by,
        application.decision_reason, application.certificate,
    )  # fmt: skip


async def add_certificate(conn: Connection, certificate: Certificate) -> None:
    await conn.execute(
        """INSERT INTO certificates (id, zone, application, service_item, holder, subject_name, issued_at, expires_at,
            credential)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)""",
        certificate.id, certificate.zone, certificate.application, certificate.service_item, certificate.holder,
        certificate.subject_name, certificate.issued_at, certificate.expires_at, certificate.credential,
    )  # fmt: skip


async def get_certificate(conn: Connection, certificate_id: str, *, lock: bool = False) -> Certificate | None:
    """Return a certificate; with `lock` held until the end of the transaction."""
    row = await conn.fetchrow(
        f"SELECT {_CERTIFICATE} FROM certificates WHERE id = $1 {'FOR UPDATE' if lock else ''}", certificate_id
    )
    return Certificate(**dict(row)) if row else None


async def revoke(conn: Connection, certificate: Certificate) -> None:
    """Write the revocation of a certificate that is locked."""
    await conn.execute(
        "UPDATE certificates SET revoked_at = $2, revoked_by = $3, revoked_reason = $4 WHERE id = $1",
        certificate.id,
        certificate.revoked_at,
        certificate.revoked_by,
        certificate.revoked_reason,
    )


def _application(row: Record) -> Application:
    values: dict[str, Any] = dict(row)
    values["form"] = json.loads(values["form"])
    values["state"] = ApplicationState(values["state"])
    return Application(**values)
