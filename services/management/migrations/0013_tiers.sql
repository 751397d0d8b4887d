-- Nodes that have, or had, a zone of this node: what they say comes from below. All others are beside this node or above it.
CREATE TABLE nodes_below (
    node text PRIMARY KEY
);
INSERT INTO nodes_below (node) SELECT DISTINCT node FROM delegations;
-- Nodes above this one that asked for an event or answered an offer: one that moves there is told of from there.
CREATE TABLE nodes_above (
    node text PRIMARY KEY
);

-- The home of an event is `node`. True where that is a node above this one, to which the event moved: only from there it is told of.
ALTER TABLE events ADD COLUMN home_above boolean NOT NULL DEFAULT false;
-- Every change of an event's home, with the revision that it made.
CREATE TABLE event_moves (
    event_id bigint NOT NULL REFERENCES events,
    revision bigint NOT NULL,
    from_node text NOT NULL,
    to_node text NOT NULL,
    PRIMARY KEY (event_id, revision)
);

-- Askings for events of nodes below, at the node that asked and at the node that was asked.
CREATE TABLE take_overs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL CONSTRAINT take_overs_name_key UNIQUE,
    event text NOT NULL,
    title text NOT NULL,
    zone text NOT NULL,
    from_node text NOT NULL,
    to_node text NOT NULL,
    organisation text NOT NULL,
    reason text NOT NULL,
    asked_by text NOT NULL,
    asked_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    -- 'asked', 'moved' or 'refused'; that time is over is not written down.
    state text NOT NULL,
    answered_at timestamptz,
    refusal text NOT NULL,
    refusal_zh text NOT NULL,
    refusal_en text NOT NULL,
    revision bigint NOT NULL
);
CREATE INDEX take_overs_event ON take_overs (event, id DESC);
-- The node of the other organisation where that is one of another tier; empty for the node that handles the event.
ALTER TABLE handovers ADD COLUMN to_node text NOT NULL DEFAULT '';
-- What people of this node accepted of other nodes' hand-overs: only such an event may move here.
CREATE TABLE handover_acceptances (
    handover text PRIMARY KEY,
    accepted_by text NOT NULL,
    accepted_at timestamptz NOT NULL
);
CREATE INDEX take_overs_zone ON take_overs (zone, asked_at DESC, id DESC);
