-- The signed and numbered lists of this node, and the newest that was taken from each peer.
CREATE TABLE trust_lists (
    node text NOT NULL,
    number bigint NOT NULL,
    list bytea NOT NULL,                   -- quintet.federation.v1.TrustList, as signed
    root_signature bytea NOT NULL,
    kept_at timestamptz NOT NULL,          -- when it was made, or received
    PRIMARY KEY (node, number)
);

-- All keys with which this node and its peers have ever signed. None is deleted: old evidence verifies with old keys.
CREATE TABLE signing_keys (
    node text NOT NULL,
    key_id text NOT NULL,
    key bytea NOT NULL,                    -- Ed25519, public
    valid_from timestamptz NOT NULL,
    retired_at timestamptz,
    revoked_at timestamptz,
    revoked_reason text NOT NULL DEFAULT '',
    PRIMARY KEY (node, key_id)
);

-- The number of the newest list of this node that the peer has confirmed.
ALTER TABLE peers ADD COLUMN trust_acknowledged bigint NOT NULL DEFAULT 0;
