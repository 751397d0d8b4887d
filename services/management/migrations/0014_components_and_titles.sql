-- The component that the first report of an event names: its type and its own code, empty for what is not known.
ALTER TABLE events
    ADD COLUMN component_type text NOT NULL DEFAULT '',
    ADD COLUMN component_code text NOT NULL DEFAULT '',
    -- Type and code in the form in which equal ones are equal; empty for a component that cannot be told from its like.
    ADD COLUMN component_key text NOT NULL DEFAULT '';
-- Merge candidates: open events of one component.
CREATE INDEX events_component ON events (node, component_key) WHERE closed_at IS NULL AND component_key <> '';

-- What organisations are called, of this node and of the tiers below, as identity states it. Reports name them by it.
CREATE TABLE organisation_titles (
    name text PRIMARY KEY,
    node text NOT NULL,
    zh text NOT NULL,
    en text NOT NULL
);
