"""Hashes of passwords and secrets."""

import asyncio

import argon2
import pytest
from argon2.profiles import CHEAPEST, RFC_9106_LOW_MEMORY

from libs.errors import Away, Reason
from services.identity import passwords
from services.identity.passwords import Passwords, new_secret, secret_digest, verify_secret


def test_the_parameters_are_those_of_the_rfc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the other tests use cheap ones
    assert passwords.PARAMETERS == RFC_9106_LOW_MEMORY


async def test_a_password_verifies_and_another_does_not() -> None:
    kept = Passwords()
    hashed = await kept.hash("correct horse battery")
    assert hashed.startswith("$argon2id$")
    assert hashed != await kept.hash("correct horse battery")
    assert await kept.verify(hashed, "correct horse battery")
    assert not await kept.verify(hashed, "correct horse batterx")
    assert not await kept.verify("", "correct horse battery")
    assert not await kept.verify("not a hash", "correct horse battery")


async def test_what_keyboards_compose_differently_is_one_password() -> None:
    kept = Passwords()
    assert await kept.verify(await kept.hash("caf\u00e9 caf\u00e9 caf\u00e9"), "cafe\u0301 cafe\u0301 cafe\u0301")


async def test_hashes_of_other_parameters_are_outdated_and_still_verify() -> None:
    old = argon2.PasswordHasher(time_cost=2, memory_cost=16, parallelism=1).hash("correct horse battery")
    kept = Passwords(argon2.PasswordHasher.from_parameters(CHEAPEST))
    assert await kept.verify(old, "correct horse battery")
    assert kept.outdated(old)
    assert not kept.outdated(await kept.hash("correct horse battery"))


async def test_only_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "HASHES_WAITING_MAX", 3)
    kept = Passwords()
    answers = await asyncio.gather(*(kept.hash("correct horse battery") for _ in range(6)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, Away)]
    assert [error.reason for error in refused] == [Reason.TOO_BUSY] * 3
    assert len(await kept.hash("correct horse battery")) > 0


def test_secrets_of_programs() -> None:
    secret = new_secret()
    assert len(secret) >= 43
    assert verify_secret(secret_digest(secret), secret)
    assert not verify_secret(secret_digest(secret), new_secret())
    assert not verify_secret("", secret)
    assert secret not in secret_digest(secret)
