-- Indicators: figures computed from facts. A definition is JSON; `counted_since` moves when it begins to count anew.
CREATE TABLE indicators (
    name text PRIMARY KEY,
    version integer NOT NULL,
    definition text NOT NULL,
    counted_since timestamptz NOT NULL,
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL
);

-- The facts of one zone alone in one step of an indicator's window, of STANDING how many things stood there at that time.
CREATE TABLE indicator_buckets (
    indicator text NOT NULL REFERENCES indicators ON DELETE CASCADE,
    at timestamptz NOT NULL,
    zone text NOT NULL,
    facts bigint NOT NULL,
    total double precision NOT NULL,
    greatest double precision NOT NULL,
    latest double precision NOT NULL,
    latest_at timestamptz NOT NULL,
    PRIMARY KEY (indicator, at, zone)
);

-- The things that stand, by the key of their facts.
CREATE TABLE indicator_standing (
    indicator text NOT NULL REFERENCES indicators ON DELETE CASCADE,
    key text NOT NULL,
    zone text NOT NULL,
    since timestamptz NOT NULL,
    due_at timestamptz,
    PRIMARY KEY (indicator, key)
);
CREATE INDEX indicator_standing_zone ON indicator_standing (indicator, zone, due_at);

-- Where the thresholds of an indicator stand in each zone that they watch.
CREATE TABLE indicator_watched (
    indicator text NOT NULL REFERENCES indicators ON DELETE CASCADE,
    level integer NOT NULL,
    zone text NOT NULL,
    beyond_since timestamptz,
    crossed boolean NOT NULL,
    PRIMARY KEY (indicator, level, zone)
);

-- Warnings to the public. `content` is what is in force, `draft` what is written since, both JSON; `level`, `zones` and
-- `expires_at` are those of what is in force, else of the draft.
CREATE TABLE public_warnings (
    name text PRIMARY KEY,
    zone text NOT NULL,
    state text NOT NULL,
    content text,
    draft text,
    level integer NOT NULL,
    zones text[] NOT NULL,
    expires_at timestamptz NOT NULL,
    revision integer NOT NULL,
    drafted_by text NOT NULL,
    approved_by text NOT NULL,
    source text NOT NULL,
    explanation text,
    created_at timestamptz NOT NULL,
    published_at timestamptz,
    updated_at timestamptz,
    cleared_at timestamptz,
    ended_at timestamptz,
    ending text NOT NULL,
    review text NOT NULL,
    etag bigint NOT NULL
);
CREATE INDEX public_warnings_created_at ON public_warnings (created_at DESC, name DESC);
CREATE INDEX public_warnings_in_force ON public_warnings (updated_at DESC, name DESC) WHERE state = 'published';
-- An indicator has one live warning per zone, which grows graver instead of a second one.
CREATE UNIQUE INDEX public_warnings_of_an_indicator ON public_warnings (source, zone)
    WHERE source LIKE 'indicators/%' AND state IN ('draft', 'approved', 'published');

-- Who must acknowledge a warning. `escalated_from` is whose place a recipient takes who was not asked at first.
CREATE TABLE warning_receipts (
    warning text NOT NULL REFERENCES public_warnings ON DELETE CASCADE,
    recipient text NOT NULL,
    revision integer NOT NULL,
    due_at timestamptz NOT NULL,
    acknowledged_at timestamptz,
    acknowledged_by text NOT NULL DEFAULT '',
    escalated_at timestamptz,
    escalated_from text NOT NULL DEFAULT '',
    PRIMARY KEY (warning, recipient)
);
CREATE INDEX warning_receipts_due ON warning_receipts (due_at) WHERE acknowledged_at IS NULL AND escalated_at IS NULL;

-- What the sensors' warnings of perception say, for the centre's list.
CREATE TABLE sensor_warnings (
    name text PRIMARY KEY,
    zone text NOT NULL,
    level integer NOT NULL,
    zh text NOT NULL,
    en text NOT NULL,
    raised_at timestamptz NOT NULL,
    ended_at timestamptz
);
CREATE INDEX sensor_warnings_raised_at ON sensor_warnings (raised_at DESC, name DESC);

-- People to visit. Personal: nothing of this is stated as a fact.
CREATE TABLE warning_visits (
    warning text NOT NULL REFERENCES public_warnings ON DELETE CASCADE,
    number integer NOT NULL,
    who text NOT NULL,
    place text NOT NULL,
    why text NOT NULL,
    assigned_to text NOT NULL,
    outcome text NOT NULL DEFAULT '',
    note text NOT NULL DEFAULT '',
    visited_at timestamptz,
    visited_by text NOT NULL DEFAULT '',
    PRIMARY KEY (warning, number)
);

-- What was said in the Common Alerting Protocol, as it was said.
CREATE TABLE cap_messages (
    warning text NOT NULL REFERENCES public_warnings ON DELETE CASCADE,
    number integer NOT NULL,
    identifier text NOT NULL,
    zh text NOT NULL,
    en text NOT NULL,
    sent_at timestamptz NOT NULL,
    xml text NOT NULL,
    PRIMARY KEY (warning, number)
);

-- Who is told over the network, and what is still to be told.
CREATE TABLE webhooks (
    name text PRIMARY KEY,
    organisation text NOT NULL,
    zones text[] NOT NULL,
    url text NOT NULL,
    paused boolean NOT NULL,
    last_error text NOT NULL DEFAULT ''
);
CREATE TABLE webhook_deliveries (
    id uuid PRIMARY KEY,
    webhook text NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    body bytea NOT NULL,
    attempts integer NOT NULL,
    next_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX webhook_deliveries_next_at ON webhook_deliveries (next_at);
