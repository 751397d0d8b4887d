-- Approvals, trust lists, keys and revocations.
ALTER TABLE peers ADD COLUMN state_reason text NOT NULL DEFAULT '';

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
