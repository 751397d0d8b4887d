-- Zones of this node that child nodes handle, with what lies below. Kept from the stream of facts rather than asked of
-- identity: federation begins to send a zone's requests down at the fact ZoneDelegated, so from the same place in the stream
-- on they must not be handled here, and before it they must.
CREATE TABLE delegations (
    zone text PRIMARY KEY,
    node text NOT NULL
);

-- Kinds of events. A change makes a new version; events keep the one with which they were opened.
CREATE TABLE event_types (
    name text PRIMARY KEY,
    -- The present version; 0 only inside the transaction that makes the first one.
    version integer NOT NULL
);
CREATE TABLE event_type_versions (
    name text NOT NULL REFERENCES event_types,
    version integer NOT NULL,
    definition jsonb NOT NULL,
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (name, version)
);

-- The node's own events and, mirrored from their facts, those that other nodes handle: one list, told apart by `node`.
CREATE TABLE events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL CONSTRAINT events_name_key UNIQUE,
    zone text NOT NULL,
    node text NOT NULL,
    type text NOT NULL,
    type_version integer NOT NULL,
    loop text NOT NULL,
    title text NOT NULL,
    description text NOT NULL,
    address text NOT NULL,
    -- The address in the form in which equal ones are equal; empty for one that names no place.
    address_key text NOT NULL,
    latitude double precision,
    longitude double precision,
    zone_hint text NOT NULL,
    neighbourhood text NOT NULL,
    status text NOT NULL,
    organisation text NOT NULL,
    -- What routing found when the event was opened.
    suggestion text NOT NULL,
    -- Organisations with shares of a joint disposal, and all who work on the event.
    supporters text[] NOT NULL,
    handlers text[] NOT NULL GENERATED ALWAYS AS (
        CASE WHEN organisation = '' THEN supporters ELSE array_prepend(organisation, supporters) END
    ) STORED,
    routing jsonb,
    occurred_at timestamptz NOT NULL,
    opened_at timestamptz NOT NULL,
    -- When the last step of the loop happened, by its actor's word.
    step_at timestamptz NOT NULL,
    due_at timestamptz,
    -- Set while the event is in none of the open states of its loop.
    closed_at timestamptz,
    revision bigint NOT NULL,
    reports integer NOT NULL,
    warning text NOT NULL,
    shares integer NOT NULL,
    shares_open integer NOT NULL CHECK (shares_open BETWEEN 0 AND shares),
    flags jsonb NOT NULL,
    returns integer NOT NULL,
    answer text NOT NULL,
    -- Another node's event of whose opening this node was not told: what is not known of it is empty.
    partial boolean NOT NULL,
    CHECK ((latitude IS NULL) = (longitude IS NULL))
);
-- Lists, newest first: of a zone, of a zone by status, of an organisation, of those with shares.
CREATE INDEX events_zone ON events (zone, opened_at DESC, id DESC);
CREATE INDEX events_zone_status ON events (zone, status, opened_at DESC, id DESC);
-- The zone stands at the end so that an organisation's events elsewhere are passed over inside the index.
CREATE INDEX events_organisation ON events (organisation, opened_at DESC, id DESC, zone) WHERE organisation <> '';
CREATE INDEX events_supporters ON events USING gin (supporters) WHERE shares > 0;
-- Merge candidates: open events of a type in a band of latitude, or at one address.
CREATE INDEX events_near ON events (node, type, latitude) WHERE closed_at IS NULL AND latitude IS NOT NULL;
CREATE INDEX events_address ON events (node, type, address_key) WHERE closed_at IS NULL AND address_key <> '';

-- Every report that events stand for, with the revision of the event that it made. `source` is the request or the
-- warning, null for an officer's own; a source is reported once, however often it is delivered.
CREATE TABLE event_reports (
    event_id bigint NOT NULL REFERENCES events,
    revision bigint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('request', 'warning', 'officer')),
    source text CONSTRAINT event_reports_source_key UNIQUE,
    merged boolean NOT NULL,
    PRIMARY KEY (event_id, revision)
);

-- Every step of every event: who did what when and why.
CREATE TABLE event_steps (
    event_id bigint NOT NULL REFERENCES events,
    revision bigint NOT NULL,
    action text NOT NULL,
    from_status text NOT NULL,
    to_status text NOT NULL,
    actor text NOT NULL,
    organisation text NOT NULL,
    reason text NOT NULL,
    explanation jsonb,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (event_id, revision)
);

-- Shares of joint disposals.
CREATE TABLE sub_orders (
    event_id bigint NOT NULL REFERENCES events,
    number integer NOT NULL CHECK (number > 0),
    organisation text NOT NULL,
    instruction text NOT NULL,
    lead boolean NOT NULL,
    done_at timestamptz,
    withdrawn_at timestamptz,
    note text NOT NULL,
    PRIMARY KEY (event_id, number),
    CHECK (done_at IS NULL OR withdrawn_at IS NULL)
);

-- How many events, requests and merged requests there are. A change adds rows of differences in its own transaction, which
-- no other transaction waits for; now and then they are folded into the sums. What is right at any moment is the sum over
-- both tables. Requests stand in the row of the status that the event had at the time: only their sum means something.
CREATE TABLE counters (
    zone text NOT NULL,
    node text NOT NULL,
    status text NOT NULL,
    events bigint NOT NULL,
    requests bigint NOT NULL,
    merged bigint NOT NULL,
    PRIMARY KEY (zone, node, status)
);
CREATE TABLE counter_deltas (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    zone text NOT NULL,
    node text NOT NULL,
    status text NOT NULL,
    events integer NOT NULL,
    requests integer NOT NULL,
    merged integer NOT NULL
)
-- A queue: rows live for seconds, so that vacuum must come by count, not by share of the table.
WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_insert_threshold = -1);
