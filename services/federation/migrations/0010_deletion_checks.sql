-- The provider's check of deletion proofs.
ALTER TABLE settlement_days ADD COLUMN query_digest numeric NOT NULL DEFAULT 0;  -- the part of digest that is of answers

ALTER TABLE deletion_proofs
    ADD COLUMN taken_at timestamptz NOT NULL,
    ADD COLUMN checked smallint NOT NULL,              -- quintet.federation.v1.DeletionCheck
    ADD COLUMN check_text text NOT NULL DEFAULT '',
    ADD COLUMN checked_at timestamptz,
    ADD COLUMN check_at timestamptz;                   -- when to look again; unset when nothing can change any more
CREATE INDEX deletion_proofs_check_at ON deletion_proofs (check_at) WHERE check_at IS NOT NULL;

-- What proofs of consumers say was received, and is gone. Several may name a day: what came late went later.
CREATE TABLE deletion_days (
    contract text NOT NULL,
    day date NOT NULL,
    proof uuid NOT NULL REFERENCES deletion_proofs (id),
    facts bigint NOT NULL,
    rows bigint NOT NULL,
    digest numeric NOT NULL,               -- sum modulo 2^256 of SHA-256 of the facts' ids
    PRIMARY KEY (contract, day, proof)
);
CREATE INDEX deletion_days_proof ON deletion_days (proof);
