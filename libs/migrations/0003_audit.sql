-- Every change by whom, hash-chained. Entries are written unsealed in the transaction of the change; the sealer gives them
-- their place in the chain soon after, because ids of concurrent transactions do not become visible in order.
CREATE TABLE audit_entries (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    time timestamptz NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    resource text NOT NULL,
    -- JSON as text: jsonb would rewrite numbers, and the hash is over their exact values.
    detail text NOT NULL,
    trace_id text NOT NULL,
    sequence bigint UNIQUE,
    previous_hash bytea,
    hash bytea,
    CHECK ((sequence IS NULL) = (hash IS NULL) AND (sequence IS NULL) = (previous_hash IS NULL))
);
CREATE INDEX audit_entries_unsealed ON audit_entries (id) WHERE sequence IS NULL;
CREATE INDEX audit_entries_resource ON audit_entries (resource, sequence);
CREATE INDEX audit_entries_actor ON audit_entries (actor, sequence);

-- Statements of the node, signed, of how far the chain had grown and what its head was.
CREATE TABLE audit_checkpoints (
    sequence bigint PRIMARY KEY,
    head bytea NOT NULL,
    time timestamptz NOT NULL,
    -- The canonical JSON that was signed, and the fingerprint of the key that signed it.
    statement text NOT NULL,
    key_id text NOT NULL,
    signature bytea NOT NULL
);

-- Defence in depth: not even the service that owns the log rewrites it in passing. (What an owner of the database can
-- still do, the chain and the checkpoints show.)
CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND TG_TABLE_NAME = 'audit_entries' THEN
        IF OLD.sequence IS NULL AND NEW.sequence IS NOT NULL
            AND (NEW.id, NEW.time, NEW.actor, NEW.action, NEW.resource, NEW.detail, NEW.trace_id)
                = (OLD.id, OLD.time, OLD.actor, OLD.action, OLD.resource, OLD.detail, OLD.trace_id)
        THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION '% of % is refused: the audit log is only added to', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER audit_entries_refuse BEFORE UPDATE OR DELETE ON audit_entries
    FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_entries_refuse_truncate BEFORE TRUNCATE ON audit_entries
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_checkpoints_refuse BEFORE UPDATE OR DELETE ON audit_checkpoints
    FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_checkpoints_refuse_truncate BEFORE TRUNCATE ON audit_checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
