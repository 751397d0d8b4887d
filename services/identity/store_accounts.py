"""People, programs, their posts and the node's own roles in the database."""

from collections.abc import Iterable, Sequence

from libs.access import Scope, Visibility
from libs.db import Connection, Record, violations
from libs.errors import AlreadyExists, Reason
from services.identity.model import PEOPLE, Account, Post, Role, RoleGrant, Text

_ACCOUNT = "SELECT name, login, display_name, title_zh, title_en, disabled FROM accounts"
_POSTS = """
SELECT account, role, zone, coalesce(organisation, '') AS organisation, title_zh, title_en
FROM posts WHERE account = ANY($1::text[]) ORDER BY account, place
"""


async def get_account(conn: Connection, name: str, *, for_update: bool = False) -> Account | None:
    """Return an account with its posts; with `for_update` nobody else changes it until the transaction ends."""
    row = await conn.fetchrow(f"{_ACCOUNT} WHERE name = $1 {'FOR UPDATE' if for_update else ''}", name)
    return (await _accounts(conn, [row]))[0] if row else None


async def lock_name(conn: Connection, name: str) -> None:
    """Let no other transaction create an account of this name at the same time: a row to lock is not there yet."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('identity.account ' || $1, 0))", name)


async def list_people(conn: Connection, visible: Visibility, *, after: str, limit: int) -> list[Account]:
    """Return the visible people by name, from the one after `after`: those with a post in a visible place."""
    where, values = visible.clause(3, zone="p.zone", organisation="p.organisation", owner="p.account")
    if not visible.everything:
        where = f"EXISTS (SELECT FROM posts p WHERE p.account = accounts.name AND {where})"
    rows = await conn.fetch(
        f"{_ACCOUNT} WHERE name > $1 AND name LIKE '{PEOPLE}%' AND {where} ORDER BY name LIMIT $2",
        after or PEOPLE, limit, *values,
    )  # fmt: skip
    return await _accounts(conn, rows)


async def count_people(conn: Connection) -> int:
    count: int = await conn.fetchval(f"SELECT count(*) FROM accounts WHERE name LIKE '{PEOPLE}%'")
    return count


async def save_account(conn: Connection, account: Account) -> None:
    """Write an account and its posts. Raises AlreadyExists when another account has the login."""
    taken = AlreadyExists(Reason.LOGIN_TAKEN, f"the login {account.login} is taken", login=account.login)
    with violations({"accounts_login_key": taken}):
        await conn.execute(
            """INSERT INTO accounts (name, login, display_name, title_zh, title_en, disabled)
            VALUES ($1, $2, $3, $4, $5, $6)
            ON CONFLICT (name) DO UPDATE SET login = excluded.login, display_name = excluded.display_name,
                title_zh = excluded.title_zh, title_en = excluded.title_en, disabled = excluded.disabled""",
            account.name, account.login, account.display_name, account.title.zh, account.title.en, account.disabled,
        )  # fmt: skip
    await conn.execute("DELETE FROM posts WHERE account = $1", account.name)
    await conn.executemany(
        """INSERT INTO posts (account, place, role, zone, organisation, title_zh, title_en)
        VALUES ($1, $2, $3, $4, nullif($5, ''), $6, $7)""",
        [
            (account.name, place, post.role, post.zone, post.organisation, post.title.zh, post.title.en)
            for place, post in enumerate(account.posts)
        ],
    )


async def save_secret_hash(conn: Connection, name: str, secret_hash: str) -> None:
    await conn.execute("UPDATE accounts SET secret_hash = $2 WHERE name = $1", name, secret_hash)


async def replace_secret_hash(conn: Connection, name: str, *, before: str, after: str) -> None:
    """Write `after` unless the hash is not `before` any more."""
    await conn.execute("UPDATE accounts SET secret_hash = $3 WHERE name = $1 AND secret_hash = $2", name, before, after)


async def get_secret_hash(conn: Connection, name: str) -> str:
    """Return the hash, "" for an account that cannot sign in or does not exist."""
    return await conn.fetchval("SELECT secret_hash FROM accounts WHERE name = $1", name) or ""


async def _accounts(conn: Connection, rows: Iterable[Record]) -> list[Account]:
    rows = list(rows)
    posts: dict[str, list[Post]] = {row["name"]: [] for row in rows}
    for row in await conn.fetch(_POSTS, list(posts)):
        title = Text(row["title_zh"], row["title_en"])
        posts[row["account"]].append(Post(row["role"], row["zone"], row["organisation"], title))
    return [
        Account(
            row["name"],
            row["login"],
            row["display_name"],
            Text(row["title_zh"], row["title_en"]),
            tuple(posts[row["name"]]),
            row["disabled"],
        )
        for row in rows
    ]


# --------------------------------------------------------------------------------------------------------------- roles


async def lock_roles(conn: Connection) -> None:
    """Let no other transaction change the roles until the end of this one: what one gives depends on others."""
    await conn.execute("LOCK TABLE roles IN SHARE ROW EXCLUSIVE MODE")


async def all_roles(conn: Connection) -> list[Role]:
    """Return the node's own roles by id."""
    rows = await conn.fetch(
        """SELECT id, title_zh, title_en, inherits,
            ARRAY(SELECT permission FROM role_grants WHERE role = id ORDER BY permission, scope) AS permissions,
            ARRAY(SELECT scope FROM role_grants WHERE role = id ORDER BY permission, scope) AS scopes
        FROM roles ORDER BY id"""
    )
    return [
        Role(
            row["id"],
            Text(row["title_zh"], row["title_en"]),
            _grants(row["permissions"], row["scopes"]),
            tuple(row["inherits"]),
        )
        for row in rows
    ]


async def save_role(conn: Connection, role: Role) -> None:
    await conn.execute(
        """INSERT INTO roles (id, title_zh, title_en, inherits) VALUES ($1, $2, $3, $4)
        ON CONFLICT (id) DO UPDATE SET title_zh = excluded.title_zh, title_en = excluded.title_en,
            inherits = excluded.inherits""",
        role.id, role.title.zh, role.title.en, list(role.inherits),
    )  # fmt: skip
    await conn.execute("DELETE FROM role_grants WHERE role = $1", role.id)
    await conn.execute(
        "INSERT INTO role_grants (role, permission, scope) SELECT $1, * FROM unnest($2::text[], $3::text[])",
        role.id,
        [grant.permission for grant in role.grants],
        [grant.scope.value for grant in role.grants],
    )
    await conn.execute("UPDATE versions SET version = version + 1 WHERE name = 'roles'")


def _grants(permissions: Sequence[str], scopes: Sequence[str]) -> tuple[RoleGrant, ...]:
    return tuple(RoleGrant(name, Scope(scope)) for name, scope in zip(permissions, scopes, strict=True))
