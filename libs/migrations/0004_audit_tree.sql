-- The Merkle tree over the chain. Its leaves are the hashes of the entries; kept are the roots of its full subtrees of
-- 256, 65 536, ... leaves only: any other node follows from at most 128 of them or of the leaves.
CREATE TABLE audit_tiles (
    level smallint NOT NULL,
    index bigint NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (level, index)
);
CREATE TRIGGER audit_tiles_refuse BEFORE UPDATE OR DELETE ON audit_tiles
    FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_tiles_refuse_truncate BEFORE TRUNCATE ON audit_tiles
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();

-- The root of the tree; empty in checkpoints that were signed before there was one.
ALTER TABLE audit_checkpoints ADD COLUMN root bytea NOT NULL DEFAULT '';
