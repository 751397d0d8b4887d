-- The directory, as the identity services of this node and of its peers state it. Names are unique per node only.
CREATE TABLE organisations (
    node text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    title_zh text NOT NULL,
    title_en text NOT NULL,
    zone text NOT NULL,
    PRIMARY KEY (name, node)
);

CREATE TABLE people (
    node text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    display_name text NOT NULL,
    PRIMARY KEY (node, name)
);

-- No reference to organisations: a person may be known before the organisation is.
CREATE TABLE posts (
    node text COLLATE "C" NOT NULL,
    person text COLLATE "C" NOT NULL,
    place smallint NOT NULL, -- among the person's posts
    organisation text COLLATE "C" NOT NULL,
    zone text NOT NULL,
    title_zh text NOT NULL,
    title_en text NOT NULL,
    PRIMARY KEY (node, person, place),
    FOREIGN KEY (node, person) REFERENCES people (node, name) ON DELETE CASCADE
);
CREATE INDEX posts_organisation ON posts (node, organisation, person, place);

CREATE TABLE channels (
    id text COLLATE "C" PRIMARY KEY,
    title text NOT NULL,
    event text NOT NULL,
    zone text NOT NULL, -- the event's; of channels about none, the node's
    organisations text[] NOT NULL,
    joint boolean NOT NULL, -- made for a joint disposal, of which an event has one channel
    messages bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL
);
CREATE UNIQUE INDEX channels_joint ON channels (event) WHERE joint;
CREATE INDEX channels_newest ON channels (created_at DESC, id DESC);
CREATE INDEX channels_event ON channels (event) WHERE event <> '';
CREATE INDEX channels_organisations ON channels USING gin (organisations);

-- Numbered without gaps under the lock of the channel: whoever reads on behind the last number misses nothing.
CREATE TABLE messages (
    channel text COLLATE "C" NOT NULL REFERENCES channels (id),
    sequence bigint NOT NULL,
    author text NOT NULL,
    text text NOT NULL,
    time timestamptz NOT NULL,
    PRIMARY KEY (channel, sequence)
);

CREATE TABLE tasks (
    id text COLLATE "C" PRIMARY KEY,
    title text NOT NULL,
    instruction text NOT NULL,
    channel text NOT NULL,
    event text NOT NULL,
    zone text NOT NULL, -- as of channels
    sub_order text NOT NULL,
    organisation text NOT NULL,
    assignee text NOT NULL DEFAULT '',
    state text NOT NULL,
    due_at timestamptz,
    note text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL,
    done_at timestamptz,
    revision bigint NOT NULL
);
CREATE UNIQUE INDEX tasks_sub_order ON tasks (event, sub_order) WHERE sub_order <> '';
CREATE INDEX tasks_newest ON tasks (created_at DESC, id DESC);
CREATE INDEX tasks_organisation ON tasks (organisation, created_at DESC, id DESC);
CREATE INDEX tasks_event ON tasks (event) WHERE event <> '';
