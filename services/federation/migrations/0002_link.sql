-- What people should look at now: of a peer, of a contract with it, or of the node itself when there is no peer.
CREATE TABLE alarms (
    key text PRIMARY KEY,
    peer text NOT NULL,
    contract text NOT NULL,
    name text NOT NULL,
    text text NOT NULL,
    since timestamptz NOT NULL
);
CREATE INDEX alarms_peer ON alarms (peer);
