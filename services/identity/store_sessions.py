"""Sessions, refresh tokens and failed sign-ins in the database; and what is needed to say what a subject may do."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from libs.db import Connection
from services.identity.model import Failures, Post


@dataclass(frozen=True, slots=True)
class Credential:
    """What a sign-in is checked against. `secret_hash` is "" for an account that cannot sign in."""

    account: str
    secret_hash: str
    disabled: bool


@dataclass(frozen=True, slots=True)
class Session:
    """A session as one of its refresh tokens finds it."""

    id: str
    account: str
    opened_at: datetime
    expires_at: datetime
    ended: bool
    disabled: bool
    token_used: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """What a subject's rights rest on; `zones` and `roles` are the versions of what they are read against."""

    known: bool
    disabled: bool
    session_holds: bool
    posts: tuple[Post, ...]
    zones: int
    roles: int


async def get_credential(conn: Connection, login: str, *, for_share: bool = False) -> Credential | None:
    """Return what a login is checked against; with `for_share` it does not change until the transaction ends."""
    row = await conn.fetchrow(
        f"SELECT name, secret_hash, disabled FROM accounts WHERE login = $1 {'FOR SHARE' if for_share else ''}", login
    )
    return Credential(row["name"], row["secret_hash"], row["disabled"]) if row else None


async def open_session(conn: Connection, session: str, account: str, now: datetime, expires_at: datetime) -> None:
    await conn.execute(
        "INSERT INTO sessions (id, account, opened_at, expires_at) VALUES ($1, $2, $3, $4)",
        UUID(session), account, now, expires_at,
    )  # fmt: skip


async def add_refresh_token(conn: Connection, session: str, token_hash: bytes, expires_at: datetime) -> None:
    """Make this the refresh token of the session, which now ends when the token does."""
    await conn.execute("INSERT INTO refresh_tokens (hash, session) VALUES ($1, $2)", token_hash, UUID(session))
    await conn.execute("UPDATE sessions SET expires_at = $2 WHERE id = $1", UUID(session), expires_at)


async def find_session(conn: Connection, token_hash: bytes) -> Session | None:
    """Return the session of a refresh token, locked together with the token until the transaction ends."""
    row = await conn.fetchrow(
        """SELECT s.id, s.account, s.opened_at, s.expires_at, s.ended_at, t.used_at, a.disabled
        FROM refresh_tokens t JOIN sessions s ON s.id = t.session JOIN accounts a ON a.name = s.account
        WHERE t.hash = $1 FOR UPDATE OF s, t""",
        token_hash,
    )
    if row is None:
        return None
    return Session(
        str(row["id"]),
        row["account"],
        row["opened_at"],
        row["expires_at"],
        row["ended_at"] is not None,
        row["disabled"],
        row["used_at"] is not None,
    )


async def use_refresh_token(conn: Connection, token_hash: bytes, now: datetime) -> None:
    await conn.execute("UPDATE refresh_tokens SET used_at = $2 WHERE hash = $1", token_hash, now)


async def forget_refresh_tokens(conn: Connection, session: str, used_before: datetime) -> None:
    query = "DELETE FROM refresh_tokens WHERE session = $1 AND used_at < $2"
    await conn.execute(query, UUID(session), used_before)


async def end_session(conn: Connection, session: str, account: str, now: datetime) -> bool:
    """End a session of the account and say whether it had been going on."""
    ended = await conn.fetchval(
        "UPDATE sessions SET ended_at = $3 WHERE id = $1 AND account = $2 AND ended_at IS NULL RETURNING true",
        uuid_or_none(session), account, now,
    )  # fmt: skip
    return bool(ended)


async def end_sessions(conn: Connection, account: str, now: datetime) -> int:
    """End all sessions of an account and return how many there were."""
    rows = await conn.fetch(
        "UPDATE sessions SET ended_at = $2 WHERE account = $1 AND ended_at IS NULL RETURNING id", account, now
    )
    return len(rows)


async def end_oldest_sessions(conn: Connection, account: str, keep: int, now: datetime) -> int:
    """End all but the `keep` latest sessions of an account and return how many there were."""
    rows = await conn.fetch(
        """UPDATE sessions SET ended_at = $3 WHERE id IN (
            SELECT id FROM sessions WHERE account = $1 AND ended_at IS NULL ORDER BY opened_at DESC, id DESC OFFSET $2
        ) RETURNING id""",
        account, keep, now,
    )  # fmt: skip
    return len(rows)


async def standing(conn: Connection, account: str, session: str, now: datetime) -> Standing:
    """Return what the account's rights rest on; without a session id none is asked for."""
    [row] = await conn.fetch(
        """SELECT a.name, a.disabled,
            EXISTS (SELECT FROM sessions s
                WHERE s.id = $2 AND s.account = a.name AND s.ended_at IS NULL AND s.expires_at > $3) AS session_holds,
            ARRAY(SELECT role FROM posts WHERE account = a.name ORDER BY place) AS roles,
            ARRAY(SELECT zone FROM posts WHERE account = a.name ORDER BY place) AS zones,
            ARRAY(SELECT coalesce(organisation, '') FROM posts WHERE account = a.name ORDER BY place) AS organisations,
            (SELECT version FROM versions WHERE name = 'zones') AS zones_version,
            (SELECT version FROM versions WHERE name = 'roles') AS roles_version
        FROM (VALUES (1)) AS one LEFT JOIN accounts a ON a.name = $1""",
        account, uuid_or_none(session), now,
    )  # fmt: skip
    posts = zip(row["roles"], row["zones"], row["organisations"], strict=True)
    return Standing(
        row["name"] is not None,
        bool(row["disabled"]),
        row["session_holds"] or not session,
        tuple(Post(*post) for post in posts),
        row["zones_version"],
        row["roles_version"],
    )


def uuid_or_none(text: str) -> UUID | None:
    """Return the UUID; None for text that is none, and that no session has as its id."""
    try:
        return UUID(text)
    except ValueError:
        return None


# ------------------------------------------------------------------------------------------------------ failed sign-ins


async def get_failures(conn: Connection, login_hash: bytes) -> Failures | None:
    row = await conn.fetchrow(
        "SELECT failures, last_at, locked_until FROM sign_in_failures WHERE login_hash = $1", login_hash
    )
    return Failures(row["failures"], row["last_at"], row["locked_until"]) if row else None


async def lock_failures(conn: Connection, login_hash: bytes) -> None:
    """Let no other transaction count failures of this login until the end of this one."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended(encode($1, 'hex'), 1))", login_hash)


async def save_failures(conn: Connection, login_hash: bytes, failures: Failures) -> None:
    await conn.execute(
        """INSERT INTO sign_in_failures (login_hash, failures, last_at, locked_until) VALUES ($1, $2, $3, $4)
        ON CONFLICT (login_hash) DO UPDATE SET failures = excluded.failures, last_at = excluded.last_at,
            locked_until = excluded.locked_until""",
        login_hash, failures.count, failures.last_at, failures.locked_until,
    )  # fmt: skip


async def clear_failures(conn: Connection, login_hash: bytes) -> None:
    await conn.execute("DELETE FROM sign_in_failures WHERE login_hash = $1", login_hash)


async def versions(conn: Connection) -> tuple[int, int]:
    """Return how often zones and roles have changed."""
    [row] = await conn.fetch(
        """SELECT (SELECT version FROM versions WHERE name = 'zones') AS zones,
            (SELECT version FROM versions WHERE name = 'roles') AS roles"""
    )
    return row["zones"], row["roles"]
