-- Rows go to partners contract by contract, each from where it stands in the order of the product's changes.
--
-- Whoever writes rows of an own product holds the lock of the product until the commit, so that the numbers of changes
-- become visible in their order.
CREATE SEQUENCE row_changes;
ALTER TABLE rows ADD COLUMN change bigint;  -- of the node's own
UPDATE rows SET change = id WHERE contract = '';
SELECT setval('row_changes', (SELECT coalesce(max(id), 0) + 1 FROM rows));
DROP INDEX rows_unstated;
ALTER TABLE rows DROP COLUMN unstated;
CREATE INDEX rows_change ON rows (product, change) WHERE contract = '';
ALTER TABLE products ADD COLUMN last_change bigint NOT NULL DEFAULT 0;
UPDATE products p SET last_change = (SELECT coalesce(max(change), 0) FROM rows r WHERE r.product = p.name);

DROP TABLE restatements;

-- What this node provides: one flow for each exchange contract that was ever in force.
CREATE TABLE flows (
    contract text PRIMARY KEY,
    product text NOT NULL,
    version integer NOT NULL,
    terms bytea NOT NULL,                  -- quintet.federation.v1.Terms
    active boolean NOT NULL,               -- the contract is in force
    running boolean NOT NULL,              -- and its transfer is not suspended
    fact_id uuid NOT NULL,                 -- what federation last said of it
    after_change bigint NOT NULL DEFAULT 0, -- changes up to this one are stated
    on_schedule boolean NOT NULL,
    next_at timestamptz,                   -- when rows are due; null when the consumer fetches them itself
    stated_at timestamptz NOT NULL,        -- flows take turns
    quota_day date,
    quota_rows bigint NOT NULL DEFAULT 0   -- stated on that day
);
CREATE INDEX flows_next_at ON flows (next_at) WHERE active AND running;
