-- Peers, and the two sequences between each of them and this node.
CREATE TABLE peers (
    node text PRIMARY KEY,
    title text NOT NULL,
    kind smallint NOT NULL,
    state smallint NOT NULL,
    zone text NOT NULL,
    link_address text NOT NULL,
    dial boolean NOT NULL,                 -- this node opens the stream
    root_certificate text NOT NULL,        -- the peer's own root, pinned
    certificate text NOT NULL,             -- ours for calls to the peer, issued by it; '' until it has
    epoch text NOT NULL,                   -- names the life of our sequence
    last_assigned bigint NOT NULL DEFAULT 0,
    acknowledged bigint NOT NULL DEFAULT 0,
    received_epoch text NOT NULL DEFAULT '',
    received bigint NOT NULL DEFAULT 0,
    joined_at timestamptz NOT NULL,
    last_contact timestamptz,
    last_error text NOT NULL DEFAULT ''
);

-- What waits for the peer's receipt. The sequence is given out under the lock of the peer's row: no gaps.
CREATE TABLE peer_outbox (
    peer text NOT NULL REFERENCES peers (node),
    sequence bigint NOT NULL,
    contract text NOT NULL,
    envelope bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (peer, sequence)
);
CREATE INDEX peer_outbox_contract ON peer_outbox (contract);

-- The peers' signed word for what they have committed.
CREATE TABLE receipts (
    peer text NOT NULL REFERENCES peers (node),
    sequence bigint NOT NULL,
    receipt bytea NOT NULL,
    key_id text NOT NULL,
    signature bytea NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (peer, sequence)
);

CREATE TABLE invitations (
    token_hash bytea PRIMARY KEY,
    node text NOT NULL,
    kind smallint NOT NULL,
    zone text NOT NULL,
    charter bytea NOT NULL,
    expires_at timestamptz NOT NULL,
    used_by bytea,                         -- SHA-256 of the joiner's card: the same joiner may ask again
    response bytea
);

-- A zone is delegated to one node at most.
CREATE TABLE delegations (
    zone text PRIMARY KEY,
    node text NOT NULL REFERENCES peers (node)
);

CREATE TABLE contracts (
    id text PRIMARY KEY,
    kind smallint NOT NULL,
    peer text NOT NULL REFERENCES peers (node),
    provider text NOT NULL,
    consumer text NOT NULL,
    state smallint NOT NULL,
    terms bytea NOT NULL,
    agreement_hash bytea NOT NULL DEFAULT '',
    provider_signature text NOT NULL DEFAULT '',
    consumer_signature text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    reason text NOT NULL DEFAULT '',
    terminated_by text NOT NULL DEFAULT '',
    -- Set at a place in the stream of facts, not at a time: facts before it are not of this contract.
    flowing boolean NOT NULL DEFAULT false,
    facts_sent bigint NOT NULL DEFAULT 0,
    facts_received bigint NOT NULL DEFAULT 0,
    rows_sent bigint NOT NULL DEFAULT 0,
    rows_received bigint NOT NULL DEFAULT 0,
    refused bigint NOT NULL DEFAULT 0,
    quota_day date,
    quota_rows bigint NOT NULL DEFAULT 0
);
CREATE INDEX contracts_list ON contracts (created_at DESC, id DESC);
CREATE INDEX contracts_flowing ON contracts (peer) WHERE flowing;

-- Steps of negotiations that were applied: a repeated message changes nothing.
CREATE TABLE contract_messages (
    id text PRIMARY KEY,
    contract text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE refusals (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    contract text NOT NULL,
    time timestamptz NOT NULL,
    reason text NOT NULL,
    description text NOT NULL,
    actor text NOT NULL,
    node text NOT NULL
);
CREATE INDEX refusals_contract ON refusals (contract, id DESC);
