-- What devices of a kind measure.
CREATE TABLE device_models (
    name text PRIMARY KEY,
    title_zh text NOT NULL,
    title_en text NOT NULL
);

CREATE TABLE indicators (
    model text NOT NULL REFERENCES device_models (name),
    code text NOT NULL,
    place integer NOT NULL,                -- order in the model
    title_zh text NOT NULL,
    title_en text NOT NULL,
    unit text NOT NULL,
    minimum double precision,
    maximum double precision,
    PRIMARY KEY (model, code)
);
CREATE INDEX indicators_code ON indicators (code);

CREATE TABLE devices (
    number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL CONSTRAINT devices_name_key UNIQUE,
    -- The last part of the name: what a device calls itself over MQTT.
    id text NOT NULL CONSTRAINT devices_id_key UNIQUE,
    zone text NOT NULL,
    model text NOT NULL REFERENCES device_models (name),
    title_zh text NOT NULL,
    title_en text NOT NULL,
    latitude double precision,
    longitude double precision,
    organisation text NOT NULL
);
CREATE INDEX devices_zone ON devices (zone, name);
CREATE INDEX devices_model ON devices (model);

-- One indicator of one device. Made with the device, so that taking readings in only has to lock rows that are there.
-- Whoever writes readings, alarm states or days of a series holds the lock of its row.
CREATE TABLE series (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device integer NOT NULL REFERENCES devices (number),
    indicator text NOT NULL,
    -- The latest reading by its own time.
    latest_time timestamptz,
    latest_value double precision,
    latest_suspect boolean NOT NULL DEFAULT false,
    -- Time of the latest good reading: rules have judged up to here.
    good_time timestamptz,
    -- When a reading last came in, by the clock of the node.
    seen_at timestamptz,
    UNIQUE (device, indicator)
)
WITH (fillfactor = 50); -- updated with every batch, in place

-- Every reading once, in one plain table, which takes them in fastest; partitions by time pay when old ones are to be
-- dropped by age. No foreign key: its check per row would cost more than the row, and a series is never deleted.
CREATE TABLE readings (
    series integer NOT NULL,
    time timestamptz NOT NULL,
    value double precision NOT NULL,
    suspect boolean NOT NULL,
    PRIMARY KEY (series, time)
);

CREATE TABLE rules (
    name text PRIMARY KEY,
    title_zh text NOT NULL,
    title_en text NOT NULL,
    zone text NOT NULL,
    indicator text NOT NULL,
    comparison smallint NOT NULL,
    raise_at double precision NOT NULL,
    clear_at double precision NOT NULL,
    minimum_duration_s bigint NOT NULL,
    level smallint NOT NULL,
    event_type text NOT NULL,
    disabled boolean NOT NULL,
    -- Counts the changes: what a rule had begun to watch before one starts anew.
    revision integer NOT NULL DEFAULT 1,
    true_alarms bigint NOT NULL DEFAULT 0,
    false_alarms bigint NOT NULL DEFAULT 0
);
CREATE INDEX rules_indicator ON rules (indicator);
CREATE INDEX rules_zone ON rules (zone);

CREATE TABLE warnings (
    name text PRIMARY KEY,
    zone text NOT NULL,
    rule text NOT NULL REFERENCES rules (name),
    device text NOT NULL,
    organisation text NOT NULL,
    indicator text NOT NULL,
    level smallint NOT NULL,
    state smallint NOT NULL,
    since timestamptz NOT NULL,
    raised_at timestamptz NOT NULL,
    ended_at timestamptz,
    value double precision NOT NULL,
    peak double precision NOT NULL,
    reason_zh text NOT NULL,
    reason_en text NOT NULL,
    inputs jsonb NOT NULL,
    event_type text NOT NULL,
    verdict smallint NOT NULL DEFAULT 0,
    latitude double precision,
    longitude double precision
);
CREATE INDEX warnings_zone ON warnings (zone, raised_at DESC, name DESC);
CREATE INDEX warnings_raised_at ON warnings (raised_at DESC, name DESC);

-- What a rule is watching: the value is beyond the threshold, or has raised a warning. No row: nothing.
CREATE TABLE watches (
    rule text NOT NULL REFERENCES rules (name),
    series integer NOT NULL REFERENCES series (id),
    -- The rule as it was when this began.
    revision integer NOT NULL,
    comparison smallint NOT NULL,
    raise_at double precision NOT NULL,
    clear_at double precision NOT NULL,
    minimum_duration_s bigint NOT NULL,
    since timestamptz NOT NULL,
    first_value double precision NOT NULL,
    peak double precision NOT NULL,
    readings integer NOT NULL,
    -- The running warning; null while the value has not stayed beyond the threshold for long enough.
    warning text REFERENCES warnings (name),
    PRIMARY KEY (series, rule)
);

-- The days for which an aggregate was stated, in the node's time zone.
CREATE TABLE days (
    series integer NOT NULL REFERENCES series (id),
    day date NOT NULL,
    revision bigint NOT NULL,
    PRIMARY KEY (series, day)
);

-- What came over MQTT and could not be stored, the newest DEAD_LETTERS_MAX.
CREATE TABLE dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject text NOT NULL,
    stream_sequence bigint NOT NULL UNIQUE,
    payload bytea NOT NULL,
    error text NOT NULL,
    received_at timestamptz NOT NULL
);
