-- How reporters rated the handling of their requests: of own events and, told by their nodes, of events elsewhere. It does not
-- refer to the row of the event, which another node may tell of later than of the rating.
CREATE TABLE event_ratings (
    event text NOT NULL,
    request text NOT NULL,
    rating smallint NOT NULL CHECK (rating BETWEEN 1 AND 5),
    rated_at timestamptz NOT NULL,
    PRIMARY KEY (event, request)
);

-- Events by the times that scorecards count by; by when they occurred the analysis has an index.
CREATE INDEX events_opened ON events (zone, opened_at);
CREATE INDEX events_closed ON events (zone, closed_at) WHERE closed_at IS NOT NULL;

-- The formulas of scorecards, as YAML. A change makes a new version; scorecards keep theirs.
CREATE TABLE scorecard_definitions (
    name text PRIMARY KEY,
    -- The present version; 0 only inside the transaction that makes the first one.
    version integer NOT NULL
);
CREATE TABLE scorecard_definition_versions (
    name text NOT NULL REFERENCES scorecard_definitions,
    version integer NOT NULL,
    source text NOT NULL,
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (name, version)
);

CREATE TABLE scorecards (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    zone text NOT NULL,
    definition text NOT NULL,
    definition_version integer NOT NULL,
    period_from timestamptz NOT NULL,
    period_to timestamptz NOT NULL,
    -- The latest published version; 0 for none.
    published integer NOT NULL DEFAULT 0,
    FOREIGN KEY (definition, definition_version) REFERENCES scorecard_definition_versions,
    CHECK (period_from < period_to)
);
CREATE INDEX scorecards_zone ON scorecards (zone, id DESC);

CREATE TABLE scorecard_versions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scorecard bigint NOT NULL REFERENCES scorecards,
    number integer NOT NULL CHECK (number > 0),
    as_of timestamptz NOT NULL,
    reason text NOT NULL,
    made_by text NOT NULL,
    -- What was counted in all: JSON of events, exclusions by code, events of other nodes, events without their history.
    totals jsonb NOT NULL DEFAULT '{}',
    published_by text NOT NULL DEFAULT '',
    published_at timestamptz,
    content_hash bytea NOT NULL DEFAULT '',
    previous_hash bytea NOT NULL DEFAULT '',
    signature bytea NOT NULL DEFAULT '',
    UNIQUE (scorecard, number)
);

-- The scores of a version: JSON of figures and points.
CREATE TABLE scorecard_scores (
    version_id bigint NOT NULL REFERENCES scorecard_versions ON DELETE CASCADE,
    kind text NOT NULL,
    subject text NOT NULL,
    score jsonb NOT NULL,
    PRIMARY KEY (version_id, kind, subject)
);

-- Every event of a version's period as it counts. It does not refer to the event: the list stays as it was published.
CREATE TABLE scorecard_events (
    version_id bigint NOT NULL REFERENCES scorecard_versions ON DELETE CASCADE,
    event_id bigint NOT NULL,
    event text NOT NULL,
    zone text NOT NULL,
    -- The zone and those above it, as far up as the scorecard's.
    zones text[] NOT NULL,
    tier text NOT NULL,
    type text NOT NULL,
    node text NOT NULL,
    handler text NOT NULL,
    first_organisation text NOT NULL,
    -- One character per indicator, in the order of the definition: y met, n not met, ? not known, - outside.
    verdicts text NOT NULL,
    -- Why it is kept out of all figures; empty when it is not.
    excluded text NOT NULL,
    -- Appeals by which it counts otherwise than by its facts.
    rulings text[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (version_id, event_id)
);
CREATE INDEX scorecard_events_event ON scorecard_events (version_id, event);

CREATE TABLE scorecard_appeals (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    scorecard bigint NOT NULL REFERENCES scorecards,
    version integer NOT NULL,
    organisation text NOT NULL,
    indicator text NOT NULL,
    wanted text NOT NULL,
    events text[] NOT NULL,
    reason text NOT NULL,
    state text NOT NULL,
    asked_by text NOT NULL,
    asked_at timestamptz NOT NULL,
    decided_by text NOT NULL DEFAULT '',
    decided_at timestamptz,
    note text NOT NULL DEFAULT ''
);
CREATE INDEX scorecard_appeals_scorecard ON scorecard_appeals (scorecard, id DESC);

-- Reports: what was counted when each was made. They are rendered when they are read.
CREATE TABLE reports (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    zone text NOT NULL,
    kind text NOT NULL,
    organisation text NOT NULL,
    type text NOT NULL,
    period_from timestamptz NOT NULL,
    period_to timestamptz NOT NULL,
    made_by text NOT NULL,
    made_at timestamptz NOT NULL,
    content jsonb NOT NULL
);
CREATE INDEX reports_zone ON reports (zone, id DESC);
