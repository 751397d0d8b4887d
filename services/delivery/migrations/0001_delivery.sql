-- What residents asked, and what they are told became of it.
CREATE TABLE requests (
    id text COLLATE "C" PRIMARY KEY,
    number text NOT NULL CONSTRAINT requests_number UNIQUE,
    zone text NOT NULL,
    type text NOT NULL,
    description text NOT NULL,
    place jsonb, -- null: a matter of the whole city
    component jsonb, -- null: none was named
    channel text NOT NULL,
    reporter text NOT NULL,
    contact text NOT NULL,
    external_id text NOT NULL,
    reported_at timestamptz NOT NULL,
    filed_at timestamptz NOT NULL,
    flags jsonb NOT NULL,
    -- From here on what management said of the event; copied from event_states so that lists need no join.
    status text NOT NULL,
    event text NOT NULL DEFAULT '',
    merged boolean NOT NULL DEFAULT false,
    event_status text NOT NULL DEFAULT '',
    event_revision bigint NOT NULL DEFAULT 0,
    organisation text NOT NULL DEFAULT '',
    due_at timestamptz,
    answer text NOT NULL DEFAULT '',
    -- How the event stood when it began to stand for this request: the steps before are not this reporter's.
    linked_at timestamptz,
    linked_revision bigint NOT NULL DEFAULT 0,
    linked_status text NOT NULL DEFAULT '',
    linked_event_status text NOT NULL DEFAULT '',
    linked_organisation text NOT NULL DEFAULT '',
    -- How often its report had been moved from event to event when it came to this one.
    linked_moves integer NOT NULL DEFAULT 0,
    rating smallint NOT NULL DEFAULT 0 CHECK (rating BETWEEN 0 AND 5),
    rating_comment text NOT NULL DEFAULT '',
    rated_at timestamptz
);
CREATE UNIQUE INDEX requests_external_id ON requests (reporter, external_id) WHERE external_id <> '';
CREATE INDEX requests_event ON requests (event) WHERE event <> '';
CREATE INDEX requests_newest ON requests (filed_at DESC, id DESC);
CREATE INDEX requests_reporter ON requests (reporter, filed_at DESC, id DESC);
CREATE INDEX requests_zone ON requests (zone, filed_at DESC, id DESC);

-- Where the report of a request stood, for those that were moved by hand: one row for each event, the first among them.
-- `left_event` is the one before, which stood for it until its revision `left_revision`.
CREATE TABLE request_links (
    request text COLLATE "C" NOT NULL REFERENCES requests,
    moves integer NOT NULL,
    event text COLLATE "C" NOT NULL,
    merged boolean NOT NULL,
    time timestamptz NOT NULL,
    revision bigint NOT NULL,
    status text NOT NULL,
    event_status text NOT NULL,
    organisation text NOT NULL,
    left_event text COLLATE "C" NOT NULL,
    left_revision bigint NOT NULL,
    PRIMARY KEY (request, moves)
);

-- The newest that is known of each event, also of those that no request here is tied to yet: facts may come in any order.
-- Each value carries the revision it comes from and gives way to a higher one only.
CREATE TABLE event_states (
    event text COLLATE "C" PRIMARY KEY,
    revision bigint NOT NULL,
    status text NOT NULL, -- of the requests
    event_status text NOT NULL,
    organisation text NOT NULL,
    due_revision bigint NOT NULL,
    due_at timestamptz,
    answer_revision bigint NOT NULL,
    answer text NOT NULL
);

-- Steps of events, as reporters see them.
CREATE TABLE event_steps (
    event text COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    status text NOT NULL,
    event_status text NOT NULL,
    organisation text NOT NULL,
    note text NOT NULL,
    time timestamptz NOT NULL,
    PRIMARY KEY (event, revision)
);

-- The catalogue of service items. `grams` is what a search looks at (services/delivery/search.py), `plain` the title in
-- the same spelling.
CREATE TABLE service_items (
    code text COLLATE "C" PRIMARY KEY,
    title text NOT NULL,
    department text NOT NULL,
    main_item text NOT NULL,
    task_type text NOT NULL,
    plain text NOT NULL,
    grams text[] NOT NULL,
    changed_at timestamptz NOT NULL
);
CREATE INDEX service_items_grams ON service_items USING gin (grams);

CREATE TABLE applications (
    id text COLLATE "C" PRIMARY KEY,
    zone text NOT NULL,
    service_item text NOT NULL,
    service_item_title text NOT NULL,
    applicant text NOT NULL,
    subject_name text NOT NULL,
    form jsonb NOT NULL,
    state text NOT NULL,
    submitted_at timestamptz NOT NULL,
    decided_at timestamptz,
    decided_by text NOT NULL DEFAULT '',
    decision_reason text NOT NULL DEFAULT '',
    certificate text NOT NULL DEFAULT ''
);
CREATE INDEX applications_newest ON applications (submitted_at DESC, id DESC);
CREATE INDEX applications_applicant ON applications (applicant, submitted_at DESC, id DESC);

CREATE TABLE certificates (
    id text COLLATE "C" PRIMARY KEY,
    zone text NOT NULL,
    application text NOT NULL UNIQUE REFERENCES applications (id),
    service_item text NOT NULL,
    holder text NOT NULL,
    subject_name text NOT NULL,
    issued_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    credential text NOT NULL,
    revoked_at timestamptz,
    revoked_by text NOT NULL DEFAULT '',
    revoked_reason text NOT NULL DEFAULT ''
);
