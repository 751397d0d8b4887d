-- Reporters who are asked by a form whether their request is solved. A request that was closed again may be asked again.
CREATE TABLE follow_ups (
    follow_up text COLLATE "C" PRIMARY KEY,
    request text COLLATE "C" NOT NULL REFERENCES requests (id),
    asked_at timestamptz NOT NULL,
    -- When nobody waits for an answer any more: it was given, a person has asked, or nobody has in time. Kept for a while.
    over_at timestamptz
);
CREATE INDEX follow_ups_open ON follow_ups (request, asked_at) WHERE over_at IS NULL;
CREATE INDEX follow_ups_over ON follow_ups (over_at) WHERE over_at IS NOT NULL;
