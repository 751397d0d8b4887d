"""Passwords of people and secrets of programs: never kept, only checked."""

import asyncio
import hashlib
import hmac
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from libs.errors import Away, Reason

# RFC 9106, section 4, the second recommended option: 64 MiB and about 0.1 s of one core for each hash.
PARAMETERS = argon2.profiles.RFC_9106_LOW_MEMORY
# Each needs its 64 MiB at the same time.
HASHES_AT_ONCE = 2
HASHES_WAITING_MAX = 64

SECRET_BYTES = 32
_SHA256 = "sha256:"

T = TypeVar("T")


class Passwords:
    """Hashes and verifies in threads, a few at a time, so that sign-ins hold up nothing else."""

    def __init__(self, hasher: argon2.PasswordHasher | None = None) -> None:
        self._hasher = hasher or argon2.PasswordHasher.from_parameters(PARAMETERS)
        self._threads = ThreadPoolExecutor(HASHES_AT_ONCE, thread_name_prefix="argon2")
        self._waiting = 0
        # What an unknown login is checked against, so that it takes as long as a known one.
        self._nobody = self._hasher.hash(secrets.token_urlsafe(SECRET_BYTES))

    async def hash(self, password: str) -> str:
        """Return the argon2id hash of a password, with its salt and parameters. Raises Away (TOO_BUSY)."""
        return await self._run(lambda: self._hasher.hash(_normal(password)))

    async def verify(self, secret_hash: str, password: str) -> bool:
        """Say whether the password is the one. With "", nobody's hash, the same work is done. Raises Away."""
        same = await self._run(lambda: self._verify(secret_hash or self._nobody, _normal(password)))
        return same and secret_hash != ""

    def outdated(self, secret_hash: str) -> bool:
        """Say whether a hash that verified was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(secret_hash)

    def _verify(self, secret_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(secret_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= HASHES_WAITING_MAX:
            raise Away(Reason.TOO_BUSY, f"more than {HASHES_WAITING_MAX} sign-ins at once")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1


def _normal(password: str) -> str:
    """Return one form of what keyboards compose differently (RFC 8265, section 4.2)."""
    return unicodedata.normalize("NFC", password)


def new_secret() -> str:
    """Return a secret for a program: SECRET_BYTES of chance, so that a plain hash of it cannot be guessed back."""
    return secrets.token_urlsafe(SECRET_BYTES)


def secret_digest(secret: str) -> str:
    """Return what is kept of a program's secret."""
    return _SHA256 + hashlib.sha256(secret.encode()).hexdigest()


def verify_secret(secret_hash: str, secret: str) -> bool:
    """Say whether the secret is the one, in constant time; False for "" (nobody's hash)."""
    return hmac.compare_digest(secret_hash, secret_digest(secret))


def token_hash(token: str) -> bytes:
    """Return what is kept of a refresh token, and under what failures of a login are counted: SHA-256."""
    return hashlib.sha256(token.encode()).digest()
