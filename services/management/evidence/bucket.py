"""Where the bytes of evidence are kept: a bucket of an S3-compatible store."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from services.management.evidence.objects import OPERATION_TIMEOUT_S, StoreAway, Trouble, checked

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from obstore.store import ClientConfig, RetryConfig, S3Credential

    from libs.config import BucketSection

T = TypeVar("T")
# The id of a key and the key.
Keys = tuple[str, str]

CONNECT_TIMEOUT_S = 3.0
# 20 MiB pass in this time at 10 Mbit/s.
REQUEST_TIMEOUT_S = 20.0
RETRIES_MAX = 3
RETRY_DELAY_FIRST_S = 0.1
RETRY_DELAY_MAX_S = 1.0
# After this no request is sent again.
RETRIES_END_S = 15.0

# The error codes of the protocol stand in the body of an answer, which says more than others need to know.
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,64})</Code>")
_NO_BUCKET = "NoSuchBucket"
# 400 and not 403, at some stores: the region or the time does not fit.
_REFUSED = frozenset(("AuthorizationHeaderMalformed", "RequestTimeTooSkewed", "InvalidToken"))
_UNTRUSTED = "InvalidCertificate"


class Bucket:
    """Objects in a bucket. Each is put by one request, which the store takes whole or not at all."""

    kind = "bucket"

    def __init__(self, section: BucketSection, keys: Callable[[], Keys]) -> None:
        """`keys` is asked again when the store refuses those that it gave: they may have been exchanged.

        Raises OSError when the file of certificates cannot be read, ValueError when it holds none, and what `keys`
        does.
        """
        self._section = section
        self._keys = keys
        self._prefix = f"{section.prefix}/" if section.prefix else ""
        self._store = _store(section, keys())

    async def put(self, name: str, content: bytes) -> None:
        # Never as a multipart upload: one that is broken off leaves parts that nobody sees, and somebody pays for.
        await self._asked(self._store.put_async(self._path(name), content, use_multipart=False))

    async def get(self, name: str) -> bytes | None:
        try:
            return await self._asked(self._read(self._path(name)))
        except FileNotFoundError:
            return None

    async def delete(self, name: str) -> None:
        with suppress(FileNotFoundError):  # most stores do not mind
            await self._asked(self._store.delete_async(self._path(name)))

    async def _read(self, path: str) -> bytes:
        found = await self._store.get_async(path)
        return bytes(await found.bytes_async())

    async def _asked(self, answer: Awaitable[T]) -> T:
        """Return what the store answers. Raises StoreAway, and FileNotFoundError when there is no such object."""
        try:
            async with asyncio.timeout(OPERATION_TIMEOUT_S):
                return await answer
        except TimeoutError:
            raise StoreAway(Trouble.AWAY, f"the store did not answer within {OPERATION_TIMEOUT_S:g} s") from None
        except (BaseError, OSError) as error:
            if isinstance(error, FileNotFoundError) and _code(error) != _NO_BUCKET:
                raise
            away = _away(error)
            if away.trouble is Trouble.REFUSED:
                with suppress(OSError, ValueError):  # else the keys stay those that there were
                    self._store = _store(self._section, self._keys())
            raise away from None

    def _path(self, name: str) -> str:
        return self._prefix + checked(name)


def _store(section: BucketSection, keys: Keys) -> S3Store:
    """Open the bucket. Whatever the environment of the process could say otherwise is said here."""
    endpoint = _endpoint(section)

    def credential() -> S3Credential:
        return {"access_key_id": keys[0], "secret_access_key": keys[1], "token": None, "expires_at": None}

    client: ClientConfig = {
        "allow_http": urlsplit(endpoint).scheme == "http",
        "allow_invalid_certificates": False,
        "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
        "timeout": timedelta(seconds=REQUEST_TIMEOUT_S),
        "default_content_type": "application/octet-stream",
    }
    if section.ca is not None:
        client["root_certificate"] = section.ca.read_bytes()
    retries: RetryConfig = {
        "max_retries": RETRIES_MAX,
        "retry_timeout": timedelta(seconds=RETRIES_END_S),
        "backoff": {
            "init_backoff": timedelta(seconds=RETRY_DELAY_FIRST_S),
            "max_backoff": timedelta(seconds=RETRY_DELAY_MAX_S),
            "base": 2,
        },
    }
    return S3Store(
        section.bucket,
        endpoint=endpoint,
        aws_endpoint_url_s3=endpoint,
        region=section.region,
        virtual_hosted_style_request=not section.path_style,
        skip_signature=False,
        unsigned_payload=False,  # the store compares the hash in the signature with what arrived
        disable_bulk_delete=True,  # not every store has it
        client_options=client,
        retry_config=retries,
        credential_provider=credential,
    )


def _endpoint(section: BucketSection) -> str:
    if section.path_style:
        return section.endpoint
    parts = urlsplit(section.endpoint)
    return f"{parts.scheme}://{section.bucket}.{parts.netloc}"


def _code(error: Exception) -> str:
    """Return the error code with which a store answered, "" when it did not."""
    found = _CODE.search(str(error))
    return found[1] if found else ""


def _away(error: Exception) -> StoreAway:
    """Say what is wrong, without the text of the error: that holds what a store says of keys, and addresses."""
    code = _code(error)
    said = f" ({code})" if code else ""
    if code == _NO_BUCKET:
        return StoreAway(Trouble.NO_BUCKET, "the bucket does not exist")
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or code in _REFUSED:
        return StoreAway(Trouble.REFUSED, f"the store refuses the node's keys{said}")
    if code:
        return StoreAway(Trouble.FAULTY, f"the store answers with an error{said}")
    if _UNTRUSTED in str(error):
        return StoreAway(Trouble.UNTRUSTED, "the certificate of the store is not trusted")
    return StoreAway(Trouble.AWAY, "the store cannot be reached")
