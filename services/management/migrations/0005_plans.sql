-- Contingency plans and their versions: a run keeps the version with which it was activated.
CREATE TABLE plans (
    name text PRIMARY KEY,
    version integer NOT NULL
);
CREATE TABLE plan_versions (
    name text NOT NULL REFERENCES plans,
    version integer NOT NULL,
    definition text NOT NULL,
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (name, version)
);

-- Plans in action. How a run stands follows from its changes, now as at any time.
CREATE TABLE plan_runs (
    name text PRIMARY KEY,
    zone text NOT NULL,
    plan text NOT NULL,
    version integer NOT NULL,
    warning text NOT NULL,
    explanation text,
    activated_at timestamptz NOT NULL,
    FOREIGN KEY (plan, version) REFERENCES plan_versions (name, version)
);
CREATE INDEX plan_runs_activated_at ON plan_runs (activated_at DESC, name DESC);
-- A plan answers a warning once.
CREATE UNIQUE INDEX plan_runs_of_a_warning ON plan_runs (plan, warning) WHERE warning <> '';
CREATE TABLE plan_changes (
    run text NOT NULL REFERENCES plan_runs,
    number integer NOT NULL,
    at timestamptz NOT NULL,
    kind text NOT NULL,
    step text NOT NULL,
    actor text NOT NULL,
    note text NOT NULL,
    PRIMARY KEY (run, number)
);
