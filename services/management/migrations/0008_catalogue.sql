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

-- What steps show: names of evidence, that of other nodes' events among them.
ALTER TABLE event_steps ADD COLUMN evidence text[] NOT NULL DEFAULT '{}';

-- Photos and files of the node's own events. The bytes are in the object store, under `object`.
CREATE TABLE evidence (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL CONSTRAINT evidence_name_key UNIQUE,
    event_id bigint NOT NULL REFERENCES events,
    object text NOT NULL,
    file_name text NOT NULL,
    media_type text NOT NULL,
    size_bytes integer NOT NULL,
    sha256 bytea NOT NULL,
    uploaded_by text NOT NULL,
    uploaded_at timestamptz NOT NULL
);
CREATE INDEX evidence_event ON evidence (event_id, id);

-- Files on their way. The row is there before the object and goes when the evidence comes, so that no object is without a row.
CREATE TABLE evidence_uploads (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL CONSTRAINT evidence_uploads_name_key UNIQUE,
    event_id bigint NOT NULL REFERENCES events,
    object text NOT NULL,
    file_name text NOT NULL,
    size_bytes integer NOT NULL,
    started_by text NOT NULL,
    started_at timestamptz NOT NULL,
    -- All parts are there and stay as they are: whoever finishes it, and however often, makes the same of them.
    closed boolean NOT NULL DEFAULT false,
    -- Nobody may finish it any more; its object is being removed.
    abandoned boolean NOT NULL DEFAULT false
);
CREATE INDEX evidence_uploads_started ON evidence_uploads (started_at);
CREATE INDEX evidence_uploads_starter ON evidence_uploads (started_by);
CREATE TABLE evidence_parts (
    upload_id bigint NOT NULL REFERENCES evidence_uploads ON DELETE CASCADE,
    number integer NOT NULL,
    -- Photos do not get smaller.
    content bytea STORAGE EXTERNAL NOT NULL,
    PRIMARY KEY (upload_id, number)
);

-- Kinds of components, in versions like those of events.
CREATE TABLE component_types (
    name text PRIMARY KEY,
    -- The present version; 0 only inside the transaction that makes the first one.
    version integer NOT NULL,
    -- Of the present version: the types of events that can be reported of it.
    event_types text[] NOT NULL DEFAULT '{}'
);
CREATE INDEX component_types_event_types ON component_types USING gin (event_types);
CREATE TABLE component_type_versions (
    name text NOT NULL REFERENCES component_types,
    version integer NOT NULL,
    definition jsonb NOT NULL,
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (name, version)
);
