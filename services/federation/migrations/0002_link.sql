-- What people should look at now: of a peer, of a contract with it, or of the node itself when there is no peer.
CREATE TABLE alarms (
    key text PRIMARY KEY,
    peer text NOT NULL,
    contract text NOT NULL,
    name text NOT NULL,
    text text NOT NULL,
    since timestamptz NOT NULL
);
CREATE INDEX alarms_peer ON alarms (peer);

-- What goes to a peer, by lane. Sequences are given out under the lock of the row: no gaps. A chain is the digest of all
-- envelopes of the lane so far; two nodes that agree on it agree on every one of them.
CREATE TABLE peer_lanes (
    peer text NOT NULL REFERENCES peers (node),
    lane smallint NOT NULL,
    last_assigned bigint NOT NULL DEFAULT 0,
    last_chain bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    assigned_bytes bigint NOT NULL DEFAULT 0,      -- size of everything assigned so far
    acknowledged bigint NOT NULL DEFAULT 0,
    acknowledged_chain bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    acknowledged_bytes bigint NOT NULL DEFAULT 0,  -- and of everything acknowledged: the difference is the backlog
    healing_until bigint NOT NULL DEFAULT 0,       -- what is sent again to a peer that was restored from a backup
    PRIMARY KEY (peer, lane)
)
-- Few rows that change all the time.
WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- What came from a peer, by lane.
CREATE TABLE peer_received (
    peer text NOT NULL REFERENCES peers (node),
    lane smallint NOT NULL,
    received bigint NOT NULL DEFAULT 0,
    chain bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    PRIMARY KEY (peer, lane)
)
WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

ALTER TABLE peers
    DROP COLUMN last_assigned, DROP COLUMN acknowledged, DROP COLUMN received,
    ADD COLUMN previous_epoch text NOT NULL DEFAULT '',  -- the life before, while the peer may still know only that
    ADD COLUMN epoch_there text NOT NULL DEFAULT '';     -- the life of ours that the peer said it knew

-- What waits for the peer's receipt, and for a time what has one: a peer that was restored is sent it again.
-- Bytes and chain count from the beginning of the lane, so that neither backlog nor place need counting.
DROP TABLE peer_outbox;
CREATE TABLE peer_outbox (
    peer text NOT NULL,
    lane smallint NOT NULL,
    sequence bigint NOT NULL,
    contract text NOT NULL,
    envelope bytea STORAGE EXTERNAL NOT NULL,  -- compressed on the wire; here its size is what the limits count
    chain bytea NOT NULL,
    total_bytes bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (peer, lane, sequence)
)
WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_insert_threshold = -1);

DROP TABLE receipts;
CREATE TABLE receipts (
    peer text NOT NULL REFERENCES peers (node),
    epoch text NOT NULL,
    lane smallint NOT NULL,
    sequence bigint NOT NULL,
    receipt bytea NOT NULL,
    key_id text NOT NULL,
    signature bytea NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (peer, epoch, lane, sequence)
);
CREATE INDEX receipts_received ON receipts (peer, lane, received_at);

-- What has no receipt yet, for operators and tests: an empty view is a link at rest.
CREATE VIEW peer_waiting AS
    SELECT o.peer, o.lane, o.sequence, o.contract, o.created_at FROM peer_outbox o
    JOIN peer_lanes l ON l.peer = o.peer AND l.lane = o.lane AND o.sequence > l.acknowledged;

-- Envelopes from peers whose application failed for no reason that the protocol knows, until a person decides.
CREATE TABLE peer_dead_letters (
    id text PRIMARY KEY,
    peer text NOT NULL REFERENCES peers (node),
    lane smallint NOT NULL,
    sequence bigint NOT NULL,
    contract text NOT NULL,
    body text NOT NULL,
    envelope bytea NOT NULL,
    error text NOT NULL,
    attempts integer NOT NULL DEFAULT 1,
    received_at timestamptz NOT NULL
);
CREATE INDEX peer_dead_letters_peer ON peer_dead_letters (peer, id);

-- How often each reason was given per contract and UTC day; only the first of them are listed one by one.
CREATE TABLE refusal_days (
    contract text NOT NULL,
    reason text NOT NULL,
    day date NOT NULL,
    refused bigint NOT NULL,
    PRIMARY KEY (contract, reason, day)
);

-- Contracts some of whose rows found the bulk lane full: when there is room again all rows are stated anew.
CREATE TABLE bulk_skipped (
    contract text PRIMARY KEY REFERENCES contracts (id),
    since timestamptz NOT NULL
);
