-- Counts that need several facts: kept until the last part is here, then they replace all given before.
CREATE TABLE staged_counts (
    contract text NOT NULL,
    snapshot text NOT NULL,
    part integer NOT NULL,
    fields text[] NOT NULL,
    rows text NOT NULL,
    PRIMARY KEY (contract, part)
);

-- When a row last came: from then on counts how long it may be kept.
ALTER TABLE rows ADD COLUMN received_at timestamptz;
UPDATE rows SET received_at = updated_at WHERE contract <> '';

ALTER TABLE contracts ADD COLUMN terms bytea NOT NULL DEFAULT '';  -- quintet.federation.v1.Terms
ALTER TABLE contracts ADD COLUMN ended boolean NOT NULL DEFAULT false;  -- terminated, for good
ALTER TABLE contracts ADD COLUMN retention_days integer NOT NULL DEFAULT 0;
ALTER TABLE contracts ADD COLUMN retention_checked_at timestamptz;

-- What was received under each contract on each UTC day of the facts' own time, until no row of it is held any more.
CREATE TABLE received_days (
    contract text NOT NULL,                -- under which it came
    day date NOT NULL,
    held_under text NOT NULL,              -- under which it is held: the contract, or its successor
    facts bigint NOT NULL,
    rows bigint NOT NULL,                  -- in these facts
    digest numeric NOT NULL,               -- sum modulo 2^256 of SHA-256 of the facts' ids
    received_at timestamptz NOT NULL,      -- when the last of them came
    PRIMARY KEY (contract, day)
) WITH (fillfactor = 70);
CREATE INDEX received_days_held ON received_days (held_under, received_at);

-- Deletions under way: rows go in portions, and what is deleted is summed up for the proof.
CREATE TABLE deletions (
    id uuid PRIMARY KEY,
    contract text NOT NULL,
    product text NOT NULL,
    reason text NOT NULL,
    successor text NOT NULL,               -- the contract that goes on holding the rows; '' when they go
    held_before timestamptz,               -- only rows received before; null for all
    rows bigint NOT NULL DEFAULT 0,
    digest bytea NOT NULL,                 -- sum modulo 2^256 of the digests of the rows, big-endian
    UNIQUE (contract, reason)
);
