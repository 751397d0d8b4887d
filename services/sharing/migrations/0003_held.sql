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
