-- Lists narrowed to one component, or to all of a type. Most events have none and are in none of these indexes.
-- The history of one component, closed events among it; its open events are in events_component, too.
CREATE INDEX events_component_listed ON events (component_key, opened_at DESC, id DESC) WHERE component_key <> '';
CREATE INDEX events_component_type ON events (component_type, zone, opened_at DESC, id DESC) WHERE component_type <> '';
-- Work lists of a type: few enough to be sorted, whatever the order.
CREATE INDEX events_work_component
    ON events (component_type, due_order, id, zone, organisation, status, loop, type, assignee, node)
    WHERE closed_at IS NULL AND component_type <> '';
