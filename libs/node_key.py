"""The node's own Ed25519 key: signs checkpoints of the audit logs, envelopes to peers, receipts and contracts."""

import base64

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from libs.state import Secrets

SECRET_NAME = "node-key"  # noqa: S105 - the name of a file


def ensure_node_key(secrets: Secrets) -> Ed25519PrivateKey:
    """Return the key, made when there is none yet."""
    try:
        return load_node_key(secrets)
    except FileNotFoundError:
        made = Ed25519PrivateKey.generate()
        # Another process may do the same at the same time: the first file counts.
        secrets.set(SECRET_NAME, base64.b64encode(made.private_bytes_raw()).decode(), replace=False)
        return load_node_key(secrets)


def load_node_key(secrets: Secrets) -> Ed25519PrivateKey:
    """Return the key. Raises FileNotFoundError when the node was never prepared."""
    return Ed25519PrivateKey.from_private_bytes(base64.b64decode(secrets.read(SECRET_NAME)))
