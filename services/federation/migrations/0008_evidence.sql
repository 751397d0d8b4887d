-- What peers were asked to cosign of this node's logs, and their answers.
CREATE TABLE cosignatures (
    peer text NOT NULL REFERENCES peers (node),
    part text NOT NULL,
    size bigint NOT NULL,
    statement text NOT NULL,               -- the checkpoint as this node signed it
    key_id text NOT NULL,
    signature bytea NOT NULL,
    offered_at timestamptz NOT NULL,
    answered_at timestamptz,
    refusal text NOT NULL DEFAULT '',
    peer_size bigint NOT NULL DEFAULT 0,   -- of the newest checkpoint that the peer holds: the next proof begins there
    peer_key_id text NOT NULL DEFAULT '',
    cosignature bytea NOT NULL DEFAULT '',
    PRIMARY KEY (peer, part, size)
);

-- The newest checkpoint of each log of each peer that this node has cosigned. `forked` says what is wrong with what was
-- offered since; empty when nothing is.
CREATE TABLE cosigned (
    peer text NOT NULL REFERENCES peers (node),
    part text NOT NULL,
    size bigint NOT NULL,
    root bytea NOT NULL,
    statement text NOT NULL,
    key_id text NOT NULL,
    signature bytea NOT NULL,
    cosigned_at timestamptz NOT NULL,
    forked text NOT NULL DEFAULT '',
    PRIMARY KEY (peer, part)
);
