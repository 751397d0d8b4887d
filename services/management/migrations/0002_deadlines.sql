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
    revision bigint NOT NULL
);
INSERT INTO calendar_revision (revision) VALUES (0);

-- The deadlines of events besides due_at: as opened, and of the present step.
ALTER TABLE events ADD COLUMN first_due_at timestamptz;
ALTER TABLE events ADD COLUMN step_due_at timestamptz;
-- What the deadlines of an own event were reckoned from: calendars with their versions, pauses (model.Clocks).
ALTER TABLE events ADD COLUMN clocks jsonb NOT NULL DEFAULT '{}';
