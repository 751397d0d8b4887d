-- Counts that need several facts: kept until the last part is here, then they replace all given before.
CREATE TABLE staged_counts (
    contract text NOT NULL,
    snapshot text NOT NULL,
    part integer NOT NULL,
    fields text[] NOT NULL,
    rows text NOT NULL,
    PRIMARY KEY (contract, part)
);
