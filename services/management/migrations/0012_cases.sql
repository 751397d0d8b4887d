-- Work in the order of the deadline of its present step; what has none comes last. Like events_work_due.
ALTER TABLE events ADD COLUMN step_due_order timestamptz NOT NULL GENERATED ALWAYS AS (
    coalesce(step_due_at, '2200-01-01 00:00:00+00'::timestamptz)
) STORED;
CREATE INDEX events_work_step_due ON events (step_due_order, id, zone, organisation, status, loop, type, assignee, node)
    INCLUDE (title) WHERE closed_at IS NULL;

-- Whose reporters are asked whether it is solved.
CREATE TABLE follow_up_policies (
    name text PRIMARY KEY,
    definition jsonb NOT NULL,
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL
);
-- The seed of each month's draw; it is shown once the month is over.
CREATE TABLE follow_up_periods (
    period text PRIMARY KEY,
    seed text NOT NULL,
    begun_at timestamptz NOT NULL
);
-- Reporters to be asked, and those whom the draw left out. Nothing here says who they are. `node` is the one that asks: those of
-- other nodes are what came of theirs.
CREATE TABLE follow_ups (
    name text PRIMARY KEY,
    zone text NOT NULL,
    node text NOT NULL,
    request text NOT NULL,
    event text NOT NULL,
    -- The revision with which the event was closed: closed again, it is followed up again.
    event_revision bigint NOT NULL,
    organisation text NOT NULL,
    type text NOT NULL,
    policy text NOT NULL,
    period text NOT NULL,
    draw double precision NOT NULL,
    explanation jsonb,
    state text NOT NULL,
    asked_at timestamptz NOT NULL,
    call_at timestamptz NOT NULL,
    tries integer NOT NULL,
    caller text NOT NULL,
    -- Until when the caller has it; NULL when nobody has.
    claim_ends_at timestamptz,
    satisfaction smallint NOT NULL,
    note text NOT NULL,
    way text NOT NULL,
    finished_at timestamptz,
    finished_by text NOT NULL,
    reopened boolean NOT NULL,
    UNIQUE (request, event_revision, node)
);
CREATE INDEX follow_ups_zone ON follow_ups (zone, state, call_at, name);
CREATE INDEX follow_ups_event ON follow_ups (event);
CREATE INDEX follow_ups_period ON follow_ups (period, zone, organisation);
CREATE INDEX follow_ups_open ON follow_ups (call_at, name) WHERE state = 'open';
CREATE INDEX follow_ups_over ON follow_ups (coalesce(finished_at, asked_at)) WHERE state <> 'open';
-- What is left of those that were kept long enough: how many there were, and what they said, by nobody in particular.
CREATE TABLE follow_up_counts (
    period text NOT NULL,
    zone text NOT NULL,
    organisation text NOT NULL,
    drawn bigint NOT NULL,
    not_drawn bigint NOT NULL,
    solved bigint NOT NULL,
    not_solved bigint NOT NULL,
    not_reached bigint NOT NULL,
    withdrawn bigint NOT NULL,
    not_made bigint NOT NULL,
    reopened bigint NOT NULL,
    by_form bigint NOT NULL,
    rated bigint NOT NULL,
    satisfactions bigint NOT NULL,      -- their sum
    PRIMARY KEY (period, zone, organisation)
);

-- Difficult cases with what worked. `version` is the published one, 0 for none yet; type, tags and grams are its own.
CREATE TABLE cases (
    name text PRIMARY KEY,
    zone text NOT NULL,
    event text NOT NULL,
    type text NOT NULL,
    organisation text NOT NULL,
    version integer NOT NULL,
    last_version integer NOT NULL,
    awaiting integer NOT NULL,
    place_class text NOT NULL,
    tags text[] NOT NULL,
    -- What a search and a suggestion look at: words of English, pairs of characters of Chinese.
    grams text[] NOT NULL,
    created_at timestamptz NOT NULL,
    retired_at timestamptz,
    retired_reason text NOT NULL,
    helped integer NOT NULL,
    did_not_help integer NOT NULL,
    revision bigint NOT NULL
);
CREATE INDEX cases_grams ON cases USING gin (grams) WHERE version > 0 AND retired_at IS NULL;
CREATE INDEX cases_type ON cases (type, created_at DESC, name DESC) WHERE version > 0 AND retired_at IS NULL;
CREATE INDEX cases_newest ON cases (created_at DESC, name DESC) WHERE version > 0 AND retired_at IS NULL;
CREATE INDEX cases_awaiting ON cases (created_at DESC, name DESC) WHERE awaiting > 0;
CREATE TABLE case_versions (
    name text NOT NULL REFERENCES cases,
    version integer NOT NULL,
    content jsonb NOT NULL,
    state text NOT NULL,
    written_by text NOT NULL,
    written_at timestamptz NOT NULL,
    reviewed_by text NOT NULL,
    reviewed_at timestamptz,
    note text NOT NULL,
    masked text[] NOT NULL,
    PRIMARY KEY (name, version)
);
CREATE TABLE case_ratings (
    name text NOT NULL REFERENCES cases,
    event text NOT NULL,
    helped boolean NOT NULL,
    rated_by text NOT NULL,
    rated_at timestamptz NOT NULL,
    PRIMARY KEY (name, event)
);

-- The directive that a change of a run is about; empty for none. Steps that other nodes have, by their directive's subject.
ALTER TABLE plan_changes ADD COLUMN directive text NOT NULL DEFAULT '';
