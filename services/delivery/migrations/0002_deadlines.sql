-- What management said of the deadlines of events: of each value the one with the highest revision of the event.
CREATE TABLE event_deadlines (
    event text COLLATE "C" PRIMARY KEY,
    revision bigint NOT NULL,
    first_due_at timestamptz,
    suspended_until timestamptz,
    reopen_until timestamptz
);

-- Why the deadline of an event moved, as reporters see it.
CREATE TABLE event_deadline_changes (
    event text COLLATE "C" NOT NULL,
    exception text COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    due_before timestamptz NOT NULL,
    due_after timestamptz NOT NULL,
    reason_zh text NOT NULL,
    reason_en text NOT NULL,
    time timestamptz NOT NULL,
    PRIMARY KEY (event, exception)
);
