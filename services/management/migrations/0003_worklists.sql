-- Who has an event, and as a member of which organisation: they lose it with their post there.
ALTER TABLE events
    ADD COLUMN assignee text NOT NULL DEFAULT '',
    ADD COLUMN assigned_as text NOT NULL DEFAULT '',
    -- The order of deadlines; what has none comes last. Keys of pages cannot be null.
    ADD COLUMN due_order timestamptz NOT NULL GENERATED ALWAYS AS (
        coalesce(due_at, '2200-01-01 00:00:00+00'::timestamptz)
    ) STORED;
ALTER TABLE event_steps ADD COLUMN assignee text NOT NULL DEFAULT '';

-- Open events in the orders of work lists. Behind the order stand the columns by which lists are narrowed: whoever sees
-- few of the open events, or none, has the others passed over inside the index, without a look at their rows; words in
-- titles are looked for and counts are read in the index, too.
CREATE INDEX events_work_due ON events (due_order, id, zone, organisation, status, loop, type, assignee, node)
    INCLUDE (title) WHERE closed_at IS NULL;
CREATE INDEX events_work_opened ON events (opened_at, id, zone, organisation, status, loop, type, assignee, node)
    INCLUDE (title) WHERE closed_at IS NULL;

-- Which events changed in which transaction, for the streams of changes: whoever has read under a snapshot finds here
-- what that did not hold. A queue: rows live for minutes.
CREATE TABLE event_changes (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    event_id bigint NOT NULL
)
WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_insert_threshold = -1);
CREATE INDEX event_changes_xid ON event_changes (xid);
-- When which transactions were already over: what is older than the first of these is forgotten.
CREATE TABLE event_change_marks (
    xid xid8 PRIMARY KEY,
    marked_at timestamptz NOT NULL
);
INSERT INTO event_change_marks (xid, marked_at) VALUES (pg_current_xact_id(), clock_timestamp());

-- Lists that people keep under a name. `definition` is the filter as it was given, in the JSON of its proto.
CREATE TABLE saved_filters (
    name text PRIMARY KEY,
    owner text NOT NULL,
    organisation text NOT NULL,
    definition jsonb NOT NULL,
    revision bigint NOT NULL,
    changed_at timestamptz NOT NULL
);
CREATE INDEX saved_filters_owner ON saved_filters (owner, name);
CREATE INDEX saved_filters_organisation ON saved_filters (organisation, name) WHERE organisation <> '';
