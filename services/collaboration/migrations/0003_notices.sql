-- Whom a notice is for depends on the roles that people hold now.
ALTER TABLE posts ADD COLUMN role text COLLATE "C" NOT NULL DEFAULT '';
CREATE INDEX posts_role ON posts (node, role) WHERE role <> '';

-- What roles are told of. `id` comes from that of the fact: told twice, it is one notice.
CREATE TABLE notices (
    id text COLLATE "C" PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('reminder', 'escalation', 'handover', 'whistle')),
    title text NOT NULL,
    text_zh text NOT NULL,
    text_en text NOT NULL,
    subject text NOT NULL,
    due_at timestamptz,
    role text COLLATE "C" NOT NULL,
    organisation text COLLATE "C" NOT NULL, -- '' for whoever holds the role in the zone
    zone text NOT NULL,
    node text NOT NULL,
    urgent boolean NOT NULL,
    created_at timestamptz NOT NULL,
    acknowledged_at timestamptz,
    acknowledged_by text NOT NULL DEFAULT ''
);
CREATE INDEX notices_newest ON notices (role, created_at DESC, id DESC);
CREATE INDEX notices_waiting ON notices (role, created_at DESC, id DESC) WHERE acknowledged_at IS NULL;
CREATE INDEX notices_created ON notices (created_at);
