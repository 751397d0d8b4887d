-- Every fact and answer counted under a contract, so that a difference between the two ends can be found. Rows are only
-- added, and deleted when they are old (metering.LEDGER_KEEP_DAYS).
CREATE TABLE settlement_ledger (
    contract text NOT NULL,
    sender text NOT NULL,                  -- the node that sent the fact or answered the question
    day date NOT NULL,                     -- UTC day of the fact's time
    id uuid NOT NULL,                      -- of the fact, or of the question
    kind smallint NOT NULL,                -- 0 a fact, 1 an answered question
    rows bigint NOT NULL,
    bytes bigint NOT NULL,
    lane smallint NOT NULL DEFAULT 0,      -- at the sender of a fact: where it stands in the queue
    sequence bigint NOT NULL DEFAULT 0,
    noted_at timestamptz NOT NULL,
    PRIMARY KEY (contract, sender, day, id)
);

-- What was counted per contract, sender and day: here, and at the other end as it last said.
CREATE TABLE settlement_days (
    contract text NOT NULL,
    sender text NOT NULL,
    day date NOT NULL,
    facts bigint NOT NULL DEFAULT 0,
    rows bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    queries bigint NOT NULL DEFAULT 0,
    query_rows bigint NOT NULL DEFAULT 0,
    digest numeric NOT NULL DEFAULT 0,     -- sum modulo 2^256 of SHA-256 of the ids
    newest timestamptz,                    -- the latest time of a fact
    noted_at timestamptz NOT NULL,         -- when the last one was counted
    purged boolean NOT NULL DEFAULT false, -- entries of the ledger were deleted: it cannot be counted again
    other_facts bigint NOT NULL DEFAULT 0,
    other_rows bigint NOT NULL DEFAULT 0,
    other_bytes bigint NOT NULL DEFAULT 0,
    other_queries bigint NOT NULL DEFAULT 0,
    other_query_rows bigint NOT NULL DEFAULT 0,
    other_digest numeric NOT NULL DEFAULT 0,
    stated_at timestamptz,                 -- when the other end said so
    check_at timestamptz,                  -- when to compare next; unset when both agreed and nothing was counted since
    attempts integer NOT NULL DEFAULT 0,   -- comparisons of ids since both last agreed
    differs boolean NOT NULL DEFAULT false,  -- a difference was found, and the alarm set, since both last agreed
    asked bigint NOT NULL DEFAULT 0,       -- the sequence of the last question to the other end: one at a time waits
    listed_at timestamptz,                 -- when the last portion of ids was sent; unset when none is awaited
    listed_through text NOT NULL DEFAULT '',  -- the last id of that portion
    PRIMARY KEY (contract, sender, day)
) WITH (fillfactor = 70);
CREATE INDEX settlement_days_differ ON settlement_days (contract) WHERE differs;
CREATE INDEX settlement_days_due ON settlement_days (check_at) WHERE check_at IS NOT NULL;

-- How contracts with objectives flow: from this node as it finds out itself, from the other end as it last said.
CREATE TABLE contract_flows (
    contract text NOT NULL,
    sender text NOT NULL,                  -- the node that owes the facts
    waiting bigint NOT NULL DEFAULT 0,     -- at the sender: the sequence of the oldest envelope without a receipt, 0 none
    searched bigint NOT NULL DEFAULT 0,    -- no earlier envelope than this waits
    acknowledged bigint NOT NULL DEFAULT 0,  -- how far the peer was then
    stated bigint NOT NULL DEFAULT 0,      -- the sequence of the last statement: one at a time waits
    stated_at timestamptz,
    oldest_fact text NOT NULL DEFAULT '',  -- what was last found, or told by the other end
    oldest_change timestamptz,             -- its own time
    change_age_s double precision NOT NULL DEFAULT 0,   -- age of that fact at told_at
    wait_s double precision NOT NULL DEFAULT 0,         -- and how long it had waited
    told_at timestamptz NOT NULL,          -- by the clock of this node
    PRIMARY KEY (contract, sender)
);

-- What was given of a person's data, to whom and for what. Kept for disclosures.DISCLOSURES_KEEP_DAYS after the last time.
CREATE TABLE disclosures (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    person bytea NOT NULL,                 -- keyed hash: the value itself is not kept
    contract text NOT NULL,
    what text NOT NULL,                    -- the product, or the type of the fact
    on_request boolean NOT NULL,
    fields text[] NOT NULL,                -- "name", or "name MASKING_HASH"
    peer text NOT NULL,
    purpose text NOT NULL,
    count bigint NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    UNIQUE (person, contract, what, on_request, fields)
) WITH (fillfactor = 70);
CREATE INDEX disclosures_old ON disclosures (last_at);
