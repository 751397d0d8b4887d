-- Calendars of working time. A change makes a new version; what was reckoned by an earlier one can still be explained.
CREATE TABLE calendars (
    name text PRIMARY KEY,
    -- The present version; 0 only inside the transaction that makes the first one.
    version integer NOT NULL
);
CREATE TABLE calendar_versions (
    name text NOT NULL REFERENCES calendars,
    version integer NOT NULL,
    definition jsonb NOT NULL,
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (name, version)
);
-- Whose calendar it is by the present versions: an organisation has one at most.
CREATE TABLE calendar_organisations (
    organisation text CONSTRAINT calendar_organisations_pkey PRIMARY KEY,
    calendar text NOT NULL REFERENCES calendars
);
-- Counts the changes of all calendars, so that each process can tell with one look whether what it holds is the present.
CREATE TABLE calendar_revision (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    revision bigint NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT '-infinity',
    -- The revision by which all open events are known to be reckoned.
    settled bigint NOT NULL DEFAULT 0
);
INSERT INTO calendar_revision (revision) VALUES (0);

-- The deadlines of events besides due_at: as opened, and of the present step.
ALTER TABLE events ADD COLUMN first_due_at timestamptz;
ALTER TABLE events ADD COLUMN step_due_at timestamptz;
-- What the deadlines of an own event were reckoned from: calendars with their versions, pauses (model.Clocks).
ALTER TABLE events ADD COLUMN clocks jsonb NOT NULL DEFAULT '{}';
ALTER TABLE events ADD COLUMN suspended_until timestamptz;
ALTER TABLE events ADD COLUMN reopens integer NOT NULL DEFAULT 0;
ALTER TABLE events ADD COLUMN reopen_until timestamptz;
-- When the clock task has to look at it: a reminder, a missed deadline, a rung of the ladder, the end of a suspension.
ALTER TABLE events ADD COLUMN next_clock_at timestamptz;
CREATE INDEX events_next_clock ON events (next_clock_at) WHERE next_clock_at IS NOT NULL;

-- The ledger of exceptions: of own events and, mirrored from their facts, of those that other nodes handle. It does not refer to
-- the row of the event, which another node may tell of later than of the exception.
CREATE TABLE event_exceptions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL CONSTRAINT event_exceptions_name_key UNIQUE,
    event text NOT NULL,
    zone text NOT NULL,
    node text NOT NULL,
    kind text NOT NULL,
    state text NOT NULL,
    reason text NOT NULL,
    minutes integer NOT NULL,
    until timestamptz,
    role text NOT NULL,
    organisation text NOT NULL,
    asked_by text NOT NULL,
    asked_at timestamptz NOT NULL,
    decide_by timestamptz,
    decided_by text NOT NULL,
    decided_at timestamptz,
    note text NOT NULL,
    ended_at timestamptz,
    due_before timestamptz,
    due_after timestamptz,
    step_due_before timestamptz,
    step_due_after timestamptz,
    -- The revision of the event that it made; 0 while it has no effect.
    revision bigint NOT NULL,
    explanation jsonb
);
-- One of a kind waits for its decision at a time.
CREATE UNIQUE INDEX event_exceptions_asked_key ON event_exceptions (event, kind) WHERE state = 'asked';
CREATE INDEX event_exceptions_event ON event_exceptions (event, asked_at DESC, id DESC);
CREATE INDEX event_exceptions_zone ON event_exceptions (zone, asked_at DESC, id DESC);
CREATE INDEX event_exceptions_zone_asked ON event_exceptions (zone, asked_at DESC, id DESC) WHERE state = 'asked';
CREATE INDEX event_exceptions_lapse ON event_exceptions (decide_by) WHERE state = 'asked';
