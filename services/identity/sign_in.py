"""Sessions: credentials in, tokens out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

import structlog
from prometheus_client import Counter

from libs.db import Connection
from libs.errors import Away, Exhausted, Reason, Unauthenticated
from libs.ids import new_id
from libs.tx import Transactions, Tx
from quintet.identity.v1.facts_pb2 import AccessChanged
from services.identity import store_accounts, store_sessions
from services.identity.keys import SigningKeys, access_token
from services.identity.model import (
    REFRESH_TOKEN_LIFE_S,
    SERVICE_ACCOUNTS,
    failed_again,
    locked_s,
    session_expires_at,
)
from services.identity.passwords import Passwords, new_secret, token_hash, verify_secret
from services.identity.store_sessions import Credential

# Sign-ins with the same login go one by one; so many may wait.
SAME_LOGIN_WAITING_MAX = 50
# Of one account at a time; the oldest ends when another is opened.
SESSIONS_PER_ACCOUNT_MAX = 1000

SIGN_INS = Counter("quintet_identity_sign_ins", "Attempts to sign in.", ["outcome"])

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Issued:
    """What a session hands out."""

    subject: str
    expires_at: datetime
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)


class Sessions:
    """Opens, refreshes and ends sessions."""

    def __init__(self, transactions: Transactions, passwords: Passwords, keys: SigningKeys, root: str) -> None:
        """`root` is the code of the node's own zone."""
        self._transactions = transactions
        self._passwords = passwords
        self._keys = keys
        self._root = root
        self._logins = _OneByOne()

    async def open(self, login: str, password: str) -> Issued:
        """Open a session.

        Raises Unauthenticated (CREDENTIALS_WRONG) for an unknown login as for a wrong password and a disabled account,
        Exhausted (LOGIN_LOCKED) after several failures, whether or not the login exists, and Away.
        """
        login_hash = token_hash(login)
        # One by one, or many guesses at once would all be made before the first failure is counted.
        async with self._logins.turn(login):
            credential = await self._transactions.read(partial(self._admit, login=login, login_hash=login_hash))
            right = await self._verify(login, password, credential)
            if not right or credential is None or credential.disabled:
                await self._transactions.run(partial(_count_failure, login_hash=login_hash, credential=credential))
                raise _wrong()
            session, refresh_token = new_id(), new_secret()
            work = partial(_open, login=login, login_hash=login_hash, checked=credential, session=session)
            if not await self._transactions.run(partial(work, refresh_token=refresh_token, root=self._root)):
                raise _wrong()
        await self._renew_hash(credential, password)
        SIGN_INS.labels("opened").inc()
        return self._issue(credential.account, session, refresh_token)

    async def refresh(self, refresh_token: str) -> Issued:
        """Exchange a refresh token for new tokens.

        Raises Unauthenticated: REFRESH_TOKEN_USED when it was used before (somebody has a copy: the session has ended
        for both), TOKEN_EXPIRED, TOKEN_INVALID when it is none of ours, and SESSION_ENDED.
        """
        following = new_secret()
        work = partial(_refresh, refresh_token=refresh_token, following=following, root=self._root)
        outcome = await self._transactions.run(work)
        if isinstance(outcome, Reason):
            SIGN_INS.labels(outcome.value.lower()).inc()
            raise Unauthenticated(outcome, "the refresh token does not hold: sign in again")
        subject, session = outcome
        return self._issue(subject, session, following)

    async def end(self, subject: str, session: str) -> None:
        """End a session of the subject; nothing happens when it has ended already."""

        async def work(tx: Tx) -> None:
            if await store_sessions.end_session(tx.conn, session, subject, tx.now):
                tx.publish(AccessChanged(subject=subject), zone=self._root, key=subject)
                tx.audit("identity.sessions.end", subject, session=session)

        await self._transactions.run(work)

    async def _admit(self, conn: Connection, login: str, login_hash: bytes) -> Credential | None:
        """Return what to check against. Raises Exhausted while the login is locked."""
        failures = await store_sessions.get_failures(conn, login_hash)
        wait_s = locked_s(failures, self._transactions.clock.now())
        if wait_s:
            SIGN_INS.labels("locked").inc()
            text = f"too many failures: the login is locked for another {wait_s} s"
            raise Exhausted(Reason.LOGIN_LOCKED, text, retry_after_s=str(wait_s))
        return await store_sessions.get_credential(conn, login)

    async def _verify(self, login: str, password: str, credential: Credential | None) -> bool:
        """Check the password, with the same effort whether or not there is such a login."""
        kept = credential.secret_hash if credential is not None else ""
        if login.startswith(SERVICE_ACCOUNTS):
            return verify_secret(kept, password)
        return await self._passwords.verify(kept, password)

    async def _renew_hash(self, credential: Credential, password: str) -> None:
        """Hash again with today's parameters, now that the password is at hand."""
        if credential.account.startswith(SERVICE_ACCOUNTS) or not self._passwords.outdated(credential.secret_hash):
            return
        renewed = await self._passwords.hash(password)
        await self._transactions.run(
            lambda tx: store_accounts.replace_secret_hash(
                tx.conn, credential.account, before=credential.secret_hash, after=renewed
            )
        )

    def _issue(self, subject: str, session: str, refresh_token: str) -> Issued:
        now = self._transactions.clock.now()
        token, expires_at = access_token(self._keys.current(), self._transactions.node, subject, session, now)
        return Issued(subject, expires_at, token, refresh_token)


def _wrong() -> Unauthenticated:
    SIGN_INS.labels("wrong").inc()
    return Unauthenticated(Reason.CREDENTIALS_WRONG, "the login or the password is wrong")


async def _count_failure(tx: Tx, login_hash: bytes, credential: Credential | None) -> None:
    await store_sessions.lock_failures(tx.conn, login_hash)
    failures = failed_again(await store_sessions.get_failures(tx.conn, login_hash), tx.now)
    await store_sessions.save_failures(tx.conn, login_hash, failures)
    if failures.locked_until is not None:
        known = credential.account if credential is not None else ""
        log.warning("identity.login_locked", account=known, failures=failures.count)
        tx.audit("identity.logins.lock", known, failures=failures.count)


async def _open(
    tx: Tx, login: str, login_hash: bytes, checked: Credential, session: str, refresh_token: str, root: str
) -> bool:
    """Open the session unless the account is not what was checked any more."""
    if await store_sessions.get_credential(tx.conn, login, for_share=True) != checked:
        return False
    await store_sessions.clear_failures(tx.conn, login_hash)
    if await store_sessions.end_oldest_sessions(tx.conn, checked.account, SESSIONS_PER_ACCOUNT_MAX - 1, tx.now):
        tx.publish(AccessChanged(subject=checked.account), zone=root, key=checked.account)
    expires_at = session_expires_at(tx.now, tx.now)
    await store_sessions.open_session(tx.conn, session, checked.account, tx.now, expires_at)
    await store_sessions.add_refresh_token(tx.conn, session, token_hash(refresh_token), expires_at)
    tx.audit("identity.sessions.open", checked.account, session=session)
    return True


async def _refresh(tx: Tx, refresh_token: str, following: str, root: str) -> tuple[str, str] | Reason:
    """Return the subject and the session, or why not: an error here would roll back the end of a stolen session."""
    used = token_hash(refresh_token)
    session = await store_sessions.find_session(tx.conn, used)
    if session is None:
        return Reason.TOKEN_INVALID
    if session.ended or session.disabled:
        return Reason.SESSION_ENDED
    if session.token_used:
        await store_sessions.end_session(tx.conn, session.id, session.account, tx.now)
        tx.publish(AccessChanged(subject=session.account), zone=root, key=session.account)
        tx.audit("identity.sessions.end", session.account, session=session.id, reason="a refresh token came twice")
        log.warning("identity.refresh_token_reused", account=session.account, session=session.id)
        return Reason.REFRESH_TOKEN_USED
    if session.expires_at <= tx.now:
        return Reason.TOKEN_EXPIRED
    await store_sessions.use_refresh_token(tx.conn, used, tx.now)
    # What would have run out by now betrays nobody any more.
    await store_sessions.forget_refresh_tokens(tx.conn, session.id, tx.now - timedelta(seconds=REFRESH_TOKEN_LIFE_S))
    expires_at = session_expires_at(session.opened_at, tx.now)
    await store_sessions.add_refresh_token(tx.conn, session.id, token_hash(following), expires_at)
    return session.account, session.id


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class _OneByOne:
    """Lets those with the same key in one after the other."""

    def __init__(self) -> None:
        self._turns: dict[str, _Turn] = {}

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[None]:
        """Wait for the others with this key. Raises Away (TOO_BUSY) when too many wait."""
        turn = self._turns.setdefault(key, _Turn())
        if turn.users > SAME_LOGIN_WAITING_MAX:
            raise Away(Reason.TOO_BUSY, f"more than {SAME_LOGIN_WAITING_MAX} sign-ins with this login at once")
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[key]
