-- What was merged by hand: the event that stands for the reports since, and the one from which an event was split off.
ALTER TABLE events
    ADD COLUMN merged_into text NOT NULL DEFAULT '',
    ADD COLUMN split_from text NOT NULL DEFAULT '',
    -- Of another node's event: the revision whose fact said how many reports it has.
    ADD COLUMN reports_revision bigint NOT NULL DEFAULT 0;

-- What a merged report said, should it get an event of its own one day; that of the first report stands in the event. `moves`
-- counts how often it was moved to another event by hand.
ALTER TABLE event_reports
    ADD COLUMN said jsonb,
    ADD COLUMN moves integer NOT NULL DEFAULT 0;
CREATE INDEX event_reports_not_first ON event_reports (event_id) WHERE merged OR moves > 0;

-- What may be the same as what. One that nobody decided lapses when one of the two events is closed, which is not stored.
CREATE TABLE merge_suggestions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id bigint NOT NULL REFERENCES events,
    same_as_id bigint NOT NULL REFERENCES events,
    zone text NOT NULL,
    type text NOT NULL,
    score double precision NOT NULL,
    explanation jsonb NOT NULL,
    state text NOT NULL CHECK (state IN ('open', 'accepted', 'dismissed')),
    suggested_at timestamptz NOT NULL,
    decided_by text NOT NULL,
    decided_at timestamptz,
    reason text NOT NULL,
    UNIQUE (event_id, same_as_id)
);
CREATE INDEX merge_suggestions_zone ON merge_suggestions (zone, suggested_at DESC, id DESC);
CREATE INDEX merge_suggestions_same_as ON merge_suggestions (same_as_id);

-- What is near is told by the index alone; only what is near is looked at.
DROP INDEX events_near;
CREATE INDEX events_near ON events (node, type, latitude, longitude) WHERE closed_at IS NULL AND latitude IS NOT NULL;
