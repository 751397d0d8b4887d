-- Hand-overs of own events and, mirrored from their facts, of those that other nodes handle. Like the ledger of exceptions it does
-- not refer to the row of the event.
CREATE TABLE handovers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL CONSTRAINT handovers_name_key UNIQUE,
    event text NOT NULL,
    title text NOT NULL,
    zone text NOT NULL,
    node text NOT NULL,
    from_organisation text NOT NULL,
    to_organisation text NOT NULL,
    organisations text[] NOT NULL GENERATED ALWAYS AS (ARRAY[from_organisation, to_organisation]) STORED,
    reason text NOT NULL,
    boundary text NOT NULL,
    state text NOT NULL,
    offered_by text NOT NULL,
    offered_at timestamptz NOT NULL,
    answer_due_at timestamptz NOT NULL,
    answered_by text NOT NULL,
    answered_at timestamptz,
    answer text NOT NULL,
    disputed_by text NOT NULL,
    disputed_at timestamptz,
    dispute text NOT NULL,
    decide_due_at timestamptz,
    -- How many times a dispute was brought before somebody: its rung of the ladder.
    rung integer NOT NULL,
    decided_by text NOT NULL,
    decided_at timestamptz,
    decision text NOT NULL,
    explanation jsonb,
    version integer NOT NULL,
    -- The revision of the event that the last turn made.
    revision bigint NOT NULL
);
CREATE INDEX handovers_event ON handovers (event, id DESC);
CREATE INDEX handovers_zone ON handovers (zone, offered_at DESC, id DESC);
-- What waits for somebody.
CREATE INDEX handovers_waiting ON handovers (node, state) WHERE state IN ('offered', 'disputed', 'refused', 'lapsed');

-- Who had an event and should not have had it: it was returned, or handed over. Routing learns from it at once.
CREATE TABLE routing_corrections (
    event_id bigint NOT NULL REFERENCES events,
    revision bigint NOT NULL,
    type text NOT NULL,
    zone text NOT NULL,
    organisation text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (event_id, revision)
);
CREATE INDEX routing_corrections_type ON routing_corrections (type, at DESC);
-- The latest events of a type that came to an end with an organisation: what suggestions are made of.
CREATE INDEX events_ended ON events (type, closed_at DESC) WHERE closed_at IS NOT NULL AND organisation <> '' AND NOT partial;

-- Calls to a place, own ones and those of other nodes. Who was called, and who came, is in `summons`: a list of objects.
CREATE TABLE whistles (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL CONSTRAINT whistles_name_key UNIQUE,
    zone text NOT NULL,
    node text NOT NULL,
    event text NOT NULL,
    address text NOT NULL,
    latitude double precision,
    longitude double precision,
    radius_m double precision NOT NULL,
    instruction text NOT NULL,
    organisations text[] NOT NULL,
    summons jsonb NOT NULL,
    blown_by text NOT NULL,
    blown_at timestamptz NOT NULL,
    report_by timestamptz NOT NULL,
    remind_at timestamptz NOT NULL,
    finished_by text NOT NULL,
    finished_at timestamptz,
    outcome text NOT NULL,
    version bigint NOT NULL,
    -- How many have not reported in; 0 when it is finished.
    waiting integer NOT NULL,
    -- When the task has to look at an own one: somebody is to be reminded, or missed. Null for nothing ahead.
    next_at timestamptz
);
CREATE INDEX whistles_zone ON whistles (zone, blown_at DESC, id DESC);
CREATE INDEX whistles_open ON whistles (zone) WHERE finished_at IS NULL;
CREATE INDEX whistles_event ON whistles (event, id DESC) WHERE event <> '';
CREATE INDEX whistles_next ON whistles (next_at) WHERE next_at IS NOT NULL;
