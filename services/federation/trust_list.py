"""Trust lists and cards as they are signed and verified: pure functions. docs/protocol.md has the bytes."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from libs.errors import Forbidden, Invalid, Reason
from quintet.federation.v1 import link_pb2, trust_pb2
from services.federation import pki
from services.federation.key_ring import SigningKey
from services.federation.signing import SIGNING_KEY_BYTES, key_id

if TYPE_CHECKING:
    from datetime import datetime

    from google.protobuf.timestamp_pb2 import Timestamp

TRUST_PREFIX = b"quintet-trust-v1\0"
CARD_PREFIX = b"quintet-card-v1\0"
NODE_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
TRUST_LIST_BYTES_MAX = 1024 * 1024
KEYS_MAX = 1_000
HANDOVERS_MAX = 50


def sealed(authority: pki.Authority, listed: trust_pb2.TrustList) -> trust_pb2.SignedTrustList:
    """Return the list with the signature of the node's root."""
    data = listed.SerializeToString(deterministic=True)
    return trust_pb2.SignedTrustList(list=data, root_signature=authority.sign(TRUST_PREFIX + data))


def opened(signed: trust_pb2.SignedTrustList, root: str, node: str) -> trust_pb2.TrustList:
    """Return the list of a node for which a root certificate (PEM) is pinned: the present one, or one before.

    Raises Forbidden(SIGNATURE_INVALID) for another signature, Invalid for what the list says.
    """
    if len(signed.list) > TRUST_LIST_BYTES_MAX:
        raise Invalid("trustList", f"must have at most {TRUST_LIST_BYTES_MAX} bytes")
    try:
        listed = trust_pb2.TrustList.FromString(signed.list)
    except DecodeError as error:
        raise Invalid("trustList", "must be a TrustList") from error
    present = pki.fingerprint(listed.root_certificate, field="trustList.rootCertificate")
    if present != pki.fingerprint(root):
        _check_handed_over(listed, root, node)
    pki.check_signature(listed.root_certificate, TRUST_PREFIX + signed.list, signed.root_signature)
    if listed.node != node or listed.number < 1:
        raise Invalid("trustList.node", f"must be {node}, with a number from 1")
    ids = {key.key_id for key in listed.keys}
    if not 0 < len(listed.keys) <= KEYS_MAX or len(ids) != len(listed.keys):
        raise Invalid("trustList.keys", f"must be from 1 to {KEYS_MAX}, each once")
    if any(len(key.key) != SIGNING_KEY_BYTES or key_id(key.key) != key.key_id for key in listed.keys):
        raise Invalid("trustList.keys", f"must have {SIGNING_KEY_BYTES} bytes and the id that follows from them")
    try:
        keys_of(listed)
    except (ValueError, OverflowError) as error:
        raise Invalid("trustList.keys", "must have times of this age") from error
    return listed


def _check_handed_over(listed: trust_pb2.TrustList, root: str, node: str) -> None:
    """Check that a pinned root leads to the one of the list. Raises Forbidden(SIGNATURE_INVALID)."""
    if len(listed.handovers) > HANDOVERS_MAX:
        raise Invalid("trustList.handovers", f"must be at most {HANDOVERS_MAX}")
    at = root
    for each in listed.handovers:
        with suppress(Forbidden):  # it begins at a root before the pinned one
            pki.check_signature(at, pki.handover_message(node, each.root_certificate), each.signature)
            at = each.root_certificate
    if at == root or at != listed.root_certificate:
        raise Forbidden(Reason.SIGNATURE_INVALID, "the root of the list does not follow the pinned root")


def keys_of(listed: trust_pb2.TrustList) -> list[SigningKey]:
    """Return the keys in a list."""
    return [
        SigningKey(
            listed.node,
            key.key_id,
            key.key,
            key.valid_from.ToDatetime(UTC),
            _time(key, "retired_at"),
            _time(key, "revoked_at"),
            key.revoked_reason,
        )
        for key in listed.keys
    ]


def listed_key(key: SigningKey) -> trust_pb2.TrustedKey:
    """Return a key as it stands in a list."""
    message = trust_pb2.TrustedKey(key_id=key.key_id, key=key.key, revoked_reason=key.revoked_reason)
    for name in ("valid_from", "retired_at", "revoked_at"):
        value: datetime | None = getattr(key, name)
        if value is not None:
            getattr(message, name).FromDatetime(value)
    return message


def same(one: trust_pb2.TrustList, other: trust_pb2.TrustList) -> bool:
    """Say whether two lists of a node differ in nothing but their number and time."""
    return (one.node, one.root_certificate, list(one.keys), list(one.peers), list(one.handovers)) == (
        other.node, other.root_certificate, list(other.keys), list(other.peers), list(other.handovers),
    )  # fmt: skip


def sealed_card(authority: pki.Authority, card: link_pb2.NodeCard) -> link_pb2.SignedNodeCard:
    """Return the card with the signature of the node's root."""
    data = card.SerializeToString(deterministic=True)
    return link_pb2.SignedNodeCard(card=data, root_signature=authority.sign(CARD_PREFIX + data))


def opened_card(signed: link_pb2.SignedNodeCard, audience: str) -> link_pb2.NodeCard:
    """Return what another node says of itself to the node `audience`, bound to the root that it names.

    Whose root that is, people say. Raises Invalid, or Forbidden(SIGNATURE_INVALID).
    """
    try:
        card = link_pb2.NodeCard.FromString(signed.card)
    except DecodeError as error:
        raise Invalid("card.card", "must be a NodeCard") from error
    if not NODE_ID.fullmatch(card.node):
        raise Invalid("card.node", f"must match {NODE_ID.pattern}")
    pki.fingerprint(card.root_certificate, field="card.rootCertificate")
    pki.check_signature(card.root_certificate, CARD_PREFIX + signed.card, signed.root_signature)
    if card.audience != audience:
        raise Forbidden(Reason.SIGNATURE_INVALID, "the card was made for another node")
    opened(card.trust_list, card.root_certificate, card.node)
    return card


def _time(key: trust_pb2.TrustedKey, name: str) -> datetime | None:
    value: Timestamp = getattr(key, name)
    return value.ToDatetime(UTC) if key.HasField(name) else None  # type: ignore[arg-type]  # a name of its fields
