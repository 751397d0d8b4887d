-- Loops that events follow, as the texts that were put. A change makes a new version; events keep the one with which they were
-- opened.
CREATE TABLE loops (
    name text PRIMARY KEY,
    -- The present version; 0 only inside the transaction that makes the first one.
    version integer NOT NULL
);
CREATE TABLE loop_versions (
    -- Grows in the order of the commits: changes of loops take turns. Whoever has seen a row has seen all before it.
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT loop_versions_id_key UNIQUE,
    name text NOT NULL REFERENCES loops,
    version integer NOT NULL,
    definition text NOT NULL,
    shipped boolean NOT NULL,
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (name, version)
);

-- The version of its loop with which an event was opened; 0 for an event of another node.
ALTER TABLE events ADD COLUMN loop_version integer NOT NULL DEFAULT 1;
