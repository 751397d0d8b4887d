-- Approvals, certificates and revocations.
ALTER TABLE peers
    ADD COLUMN state_reason text NOT NULL DEFAULT '',
    ADD COLUMN state_since timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN join_address text NOT NULL DEFAULT '';

-- Certificates that this node has issued to peers. One that is not here, or was revoked, opens nothing.
CREATE TABLE issued_certificates (
    serial text PRIMARY KEY,               -- hex
    peer text NOT NULL REFERENCES peers (node),
    key_name text NOT NULL,                -- names the public key: a revoked one is never certified again
    not_after timestamptz NOT NULL,
    revoked_at timestamptz,
    reason text NOT NULL DEFAULT ''
);
CREATE INDEX issued_certificates_peer ON issued_certificates (peer, not_after);

-- What an invitation is worth: the answer is made anew each time the same joiner asks, until the end.
ALTER TABLE invitations DROP COLUMN response;

-- Nodes that have asked this one to join and wait for people. Also those that must be approved again.
CREATE TABLE join_requests (
    node text PRIMARY KEY REFERENCES peers (node),
    token_hash bytea NOT NULL,
    expires_at timestamptz,                -- the request lapses when nobody decides; null: it never does
    kind smallint NOT NULL,
    zone text NOT NULL,
    charter bytea NOT NULL
);

CREATE TABLE peer_approvals (
    node text NOT NULL REFERENCES peers (node),
    person text NOT NULL,
    root_fingerprint text NOT NULL,
    time timestamptz NOT NULL,
    PRIMARY KEY (node, person)
);

-- Nodes that this one has asked to join, and goes on asking.
CREATE TABLE pending_joins (
    node text PRIMARY KEY REFERENCES peers (node),
    invitation bytea NOT NULL,
    card bytea NOT NULL,
    expires_at timestamptz NOT NULL
);

-- The child has lost the zone of its charter: from the fact that says so on, nothing new is handed to it.
ALTER TABLE contracts ADD COLUMN zone_withdrawn boolean NOT NULL DEFAULT false;

-- The membership of the child is over: what its charter would send, and what waits for it, comes back to this node. Set
-- until the place in the stream of facts at which the charter has ended.
ALTER TABLE contracts ADD COLUMN returning_facts boolean NOT NULL DEFAULT false;
CREATE INDEX contracts_returning ON contracts (peer) WHERE returning_facts;

-- Envelopes that came back, until their facts are stated again.
CREATE TABLE returned_facts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    envelope bytea NOT NULL
);
