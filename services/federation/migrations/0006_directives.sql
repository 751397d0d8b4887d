-- Directives as this node knows them: given here, passed on, or for this node to act upon.
CREATE TABLE directives (
    id text COLLATE "C" PRIMARY KEY,
    upper text NOT NULL,                   -- the peer that it came from; '' when it was given here
    lower text NOT NULL,                   -- the peer that it was passed to; '' when this node has to act
    from_node text NOT NULL,
    to_node text NOT NULL,
    zone text NOT NULL,
    organisation text NOT NULL,            -- of this node; '' for another node's, or whoever is on duty
    issuer text NOT NULL,                  -- the person of this node who gave it; '' for another node's
    state smallint NOT NULL,
    issued_at timestamptz NOT NULL,
    escalations integer NOT NULL,
    look_at timestamptz,                   -- when something is due if nobody does anything; NULL for never
    directive bytea NOT NULL               -- quintet.federation.v1.Directive
);
CREATE INDEX directives_newest ON directives (issued_at DESC, id DESC);
CREATE INDEX directives_look ON directives (look_at) WHERE look_at IS NOT NULL;
CREATE INDEX directives_escalated ON directives (lower) WHERE escalations > 0;
