"""The node's own Ed25519 key: signs checkpoints of the audit logs, envelopes to peers, receipts and contracts.

The key can be replaced while the node runs. All its processes read the same folder of secrets each time they sign, so
that they change over together; the public keys of those before stay, as what they signed has to verify.
"""

import base64
import json
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from libs.state import Secrets

SECRET_NAME = "node-key"  # noqa: S105 - the name of a file
# Public keys, hex, the oldest first.
PAST_NAME = "node-keys-past"


class NodeKeys:
    """The node's present key and the public keys before it."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._text = ""
        self._key: Ed25519PrivateKey | None = None

    def present(self) -> Ed25519PrivateKey:
        """Return the key that signs now. Raises FileNotFoundError when the node was never prepared."""
        text = self._secrets.read(SECRET_NAME)
        if self._key is None or text != self._text:
            self._key, self._text = decoded(text), text
        return self._key

    def public(self) -> list[Ed25519PublicKey]:
        """Return all public keys, the present one last."""
        return [*(Ed25519PublicKey.from_public_bytes(raw) for raw in self._past()), self.present().public_key()]

    def replace(self, key: Ed25519PrivateKey) -> None:
        """Sign with another key from now on; the private half of the present one is gone."""
        before = self.present().public_key().public_bytes_raw()
        if before == key.public_key().public_bytes_raw():
            return
        # First the public half: there is no moment at which a signature could not be verified.
        self._secrets.set(PAST_NAME, json.dumps([raw.hex() for raw in [*self._past(), before]]))
        self._secrets.set(SECRET_NAME, encoded(key))

    def _past(self) -> Sequence[bytes]:
        try:
            return [bytes.fromhex(raw) for raw in json.loads(self._secrets.read(PAST_NAME))]
        except FileNotFoundError:
            return []


def encoded(key: Ed25519PrivateKey) -> str:
    """Return a private key as it stands in the folder of secrets."""
    return base64.b64encode(key.private_bytes_raw()).decode()


def decoded(text: str) -> Ed25519PrivateKey:
    """Return the key of such a text."""
    return Ed25519PrivateKey.from_private_bytes(base64.b64decode(text))


def ensure_node_key(secrets: Secrets) -> Ed25519PrivateKey:
    """Return the key, made when there is none yet."""
    # Another process may do the same at the same time: the first file counts.
    try:
        secrets.read(SECRET_NAME)
    except FileNotFoundError:
        secrets.set(SECRET_NAME, encoded(Ed25519PrivateKey.generate()), replace=False)
    return NodeKeys(secrets).present()
