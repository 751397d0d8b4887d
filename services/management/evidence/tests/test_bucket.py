"""A bucket: what can be wrong with one, and how that is named."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
import pytest
from structlog.testing import capture_logs

from deploy.testing_s3 import KEEPER, READER, Account
from libs.config import EVIDENCE_KEYS, Secrets, load_config
from services.management.evidence.bucket import Bucket
from services.management.evidence.objects import StoreAway, Trouble
from services.management.evidence.watch import StoreWatch
from services.management.evidence.wiring import open_objects

if TYPE_CHECKING:
    from pathlib import Path

    from services.management.evidence.objects import Objects
    from services.management.evidence.tests.stores import BucketStore

NAME = "ab/photo1"
NODE = '[node]\nid = "sf"\nname = "Node"\nzone = "us-ca-sf"\ntimezone = "UTC"\nstate = "state"\n'


async def found(objects: Objects) -> tuple[Trouble | None, str]:
    """Return what the watch finds, and everything that it says of it."""
    with capture_logs() as logs:
        trouble = await StoreWatch(objects).check()
    return trouble, str(logs)


async def test_a_missing_bucket_is_named_and_is_not_a_missing_photo(bucket: BucketStore) -> None:
    objects = bucket.opened()
    bucket.server.drop_bucket(bucket.bucket)
    try:
        assert (await found(objects))[0] is Trouble.NO_BUCKET
        with pytest.raises(StoreAway, match="the bucket does not exist"):
            await objects.get(NAME)
    finally:
        bucket.server.make_bucket(bucket.bucket)
    assert (await found(objects))[0] is None


@pytest.mark.parametrize(
    ("account", "code"),
    [
        (Account(KEEPER.access_key, "not-the-secret"), "SignatureDoesNotMatch"),
        (Account("nobody-we-know", "not-the-secret"), "InvalidAccessKeyId"),
        (READER, "AccessDenied"),
    ],
)
async def test_refused_keys_are_named_without_telling_them(bucket: BucketStore, account: Account, code: str) -> None:
    bucket.use(account)
    trouble, said = await found(bucket.opened())
    assert trouble is Trouble.REFUSED
    assert code in said
    with pytest.raises(StoreAway) as caught:
        await bucket.opened().put(NAME, b"x")
    for secret in (account.secret_key, account.access_key):
        assert secret not in said
        assert secret not in str(caught.value)
        assert secret not in str(caught.value.metadata)


async def test_exchanged_keys_are_taken_up_without_a_restart(bucket: BucketStore) -> None:
    bucket.use(Account(KEEPER.access_key, "the-old-secret"))
    objects = bucket.opened()
    watch = StoreWatch(objects)
    assert await watch.check() is Trouble.REFUSED
    bucket.use(KEEPER)
    assert await watch.check() is Trouble.REFUSED
    assert await watch.check() is None
    await objects.put(NAME, b"x")


async def test_a_certificate_of_nobody_known_is_refused(bucket: BucketStore) -> None:
    trouble, _ = await found(Bucket(bucket.section(ca=False), bucket.keys))
    assert trouble is Trouble.UNTRUSTED


async def test_nodes_share_a_bucket_without_meeting(bucket: BucketStore) -> None:
    ours, theirs = (Bucket(bucket.section(prefix=node), bucket.keys) for node in ("sf", "sf-d6"))
    await ours.put(NAME, b"ours")
    assert await theirs.get(NAME) is None
    await theirs.put(NAME, b"theirs")
    await theirs.delete(NAME)
    assert await ours.get(NAME) == b"ours"


@pytest.mark.parametrize(
    ("path_style", "url"),
    [
        (True, "https://s3.example:9000/{bucket}/sf/ab/photo1?"),
        (False, "https://{bucket}.s3.example:9000/sf/ab/photo1?"),
    ],
)
async def test_the_bucket_stands_in_the_path_or_in_the_host(bucket: BucketStore, path_style: bool, url: str) -> None:
    section = replace(bucket.section(url="https://s3.example:9000"), path_style=path_style)
    objects = Bucket(section, bucket.keys)
    signed = await obstore.sign_async(objects._store, "GET", objects._path(NAME), timedelta(minutes=1))
    assert signed.startswith(url.format(bucket=bucket.bucket))


async def test_the_environment_has_no_say(bucket: BucketStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL_S3": "https://127.0.0.1:1",
        "AWS_ENDPOINT": "https://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_SESSION_TOKEN": "of-another-session",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
        "AWS_REGION": "eu-north-1",
        "AWS_BUCKET": "another",
    }.items():
        monkeypatch.setenv(name, value)
    assert (await found(bucket.opened()))[0] is None


def test_what_lacks_is_named_at_the_start(tmp_path: Path) -> None:
    section = '[evidence]\nendpoint = "https://127.0.0.1:1"\nbucket = "evidence"\nca = "ca.pem"\n'
    path = tmp_path / "node.toml"
    path.write_text(NODE + section)
    config = load_config(path)
    with pytest.raises(FileNotFoundError, match=EVIDENCE_KEYS[0]):
        open_objects(config)
    secrets = Secrets(config.node.secrets)
    secrets.set(EVIDENCE_KEYS[0], "id")
    with pytest.raises(FileNotFoundError, match=EVIDENCE_KEYS[1]):
        open_objects(config)
    secrets.set(EVIDENCE_KEYS[1], "key")
    with pytest.raises(FileNotFoundError, match=r"ca\.pem"):
        open_objects(config)
    (tmp_path / "ca.pem").write_text("not a certificate")
    with pytest.raises(ValueError, match="certificates"):
        open_objects(config)
