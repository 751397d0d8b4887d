-- Facts that this service states: written in the transaction of the change, deleted once the bus has stored them.
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    fact_id uuid NOT NULL,
    subject text NOT NULL,
    key text NOT NULL,
    fact bytea STORAGE EXTERNAL NOT NULL,  -- it is gone before compressing it has paid
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
-- A queue: rows live for milliseconds, so that vacuum must come by count, not by share of the table.
WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_insert_threshold = -1);

-- Ids of the facts that this service has taken in, so that each takes effect once. Purged after the bus has forgotten them.
CREATE TABLE inbox (
    fact_id uuid PRIMARY KEY,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX inbox_received_at ON inbox USING brin (received_at);

-- Facts taken in but not yet applied: the first of a key failed, those behind it keep their order.
CREATE TABLE inbox_waiting (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    fact_id uuid NOT NULL UNIQUE,
    type text NOT NULL,
    key text NOT NULL,
    fact bytea NOT NULL,
    attempts integer NOT NULL,
    error text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_attempt_at timestamptz NOT NULL
);
CREATE INDEX inbox_waiting_key ON inbox_waiting (key, id);

-- Facts that were given up, until an operator retries or discards them.
CREATE TABLE inbox_dead (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    fact_id uuid NOT NULL UNIQUE,
    type text NOT NULL,
    key text NOT NULL,
    fact bytea NOT NULL,
    attempts integer NOT NULL,
    error text NOT NULL,
    died_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
