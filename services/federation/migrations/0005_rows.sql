-- What consumers have deleted of rows that were given under contracts: own statements, and those of peers.
CREATE TABLE deletion_proofs (
    id uuid PRIMARY KEY,
    contract text NOT NULL,
    proof bytea NOT NULL,                  -- quintet.federation.v1.DeletionProof, as signed
    key_id text NOT NULL,
    signature bytea NOT NULL
);
CREATE INDEX deletion_proofs_contract ON deletion_proofs (contract, id DESC);
