-- Answers already given, by who asked what under which request_id, so that a retried request is answered, not repeated.
CREATE TABLE request_log (
    subject text NOT NULL,
    method text NOT NULL,
    request_id text NOT NULL,
    request_hash bytea NOT NULL,
    -- Empty only inside the transaction that is doing the work.
    response bytea,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (subject, method, request_id)
);
CREATE INDEX request_log_created_at ON request_log USING brin (created_at);

-- Undoes a statement, and has its transaction tried again, when what it was to change is not as it was read.
CREATE FUNCTION unchanged(ok boolean) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF NOT ok THEN
        RAISE EXCEPTION 'changed since it was read' USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN true;
END
$$;
