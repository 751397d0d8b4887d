-- Names and codes compare by their bytes (COLLATE "C"): pages continue after a name, whatever the locale of the server.

-- Zones as a tree. `depth` counts the zones above, so that a list can give parents before children; one more for zones
-- that are not below the node's own, which thus is the first of all.
CREATE TABLE zones (
    code text COLLATE "C" PRIMARY KEY,
    parent text COLLATE "C" REFERENCES zones (code),
    depth integer NOT NULL,
    kind smallint NOT NULL,
    title_zh text NOT NULL,
    title_en text NOT NULL,
    -- GeoJSON as it was given; empty when not known.
    boundary text NOT NULL,
    -- What versions.version was after the last change of the zone.
    version bigint NOT NULL
);
CREATE INDEX zones_order ON zones (depth, code);
CREATE INDEX zones_parent ON zones (parent);
CREATE INDEX zones_version ON zones (version);

-- Which child node is authoritative for a zone, as federation says; also for a zone that is not there yet.
CREATE TABLE delegations (
    zone text COLLATE "C" PRIMARY KEY,
    node text NOT NULL
);

-- Other names of zones and their former codes. `folded` is what makes two spellings one name.
CREATE TABLE zone_aliases (
    folded text COLLATE "C" NOT NULL CONSTRAINT zone_aliases_folded_key UNIQUE,
    zone text COLLATE "C" NOT NULL REFERENCES zones (code) ON DELETE CASCADE,
    place integer NOT NULL,
    alias text NOT NULL,
    PRIMARY KEY (zone, place)
);

CREATE TABLE organisations (
    name text COLLATE "C" PRIMARY KEY,
    title_zh text NOT NULL,
    title_en text NOT NULL,
    zone text COLLATE "C" NOT NULL REFERENCES zones (code),
    parent text COLLATE "C" REFERENCES organisations (name)
);

-- Who can sign in: people (`people/..`) and programs (`serviceAccounts/..`, whose login is their name).
CREATE TABLE accounts (
    name text COLLATE "C" PRIMARY KEY,
    login text COLLATE "C" NOT NULL CONSTRAINT accounts_login_key UNIQUE,
    display_name text NOT NULL DEFAULT '',
    title_zh text NOT NULL DEFAULT '',
    title_en text NOT NULL DEFAULT '',
    disabled boolean NOT NULL,
    -- argon2id of a person's password, SHA-256 of a program's random secret; empty: cannot sign in.
    secret_hash text NOT NULL DEFAULT '',
    CHECK (name ~ '^(people|serviceAccounts)/')
);

-- A role held in an organisation (none for residents), for a zone and all below. Built-in roles have no row of their own,
-- so `role` refers to no table.
CREATE TABLE posts (
    account text COLLATE "C" NOT NULL REFERENCES accounts (name) ON DELETE CASCADE,
    place integer NOT NULL,
    role text COLLATE "C" NOT NULL,
    zone text COLLATE "C" NOT NULL REFERENCES zones (code),
    organisation text COLLATE "C" REFERENCES organisations (name),
    title_zh text NOT NULL,
    title_en text NOT NULL,
    PRIMARY KEY (account, place),
    UNIQUE NULLS NOT DISTINCT (account, role, zone, organisation)
);
CREATE INDEX posts_zone ON posts (zone);
CREATE INDEX posts_organisation ON posts (organisation);

-- The node's own roles; the built-in ones stand in policy.csv.
CREATE TABLE roles (
    id text COLLATE "C" PRIMARY KEY,
    title_zh text NOT NULL,
    title_en text NOT NULL,
    inherits text[] COLLATE "C" NOT NULL
);
CREATE TABLE role_grants (
    role text COLLATE "C" NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
    permission text COLLATE "C" NOT NULL,
    scope text NOT NULL CHECK (scope IN ('zone', 'organisation', 'own')),
    PRIMARY KEY (role, permission, scope)
);

CREATE TABLE sessions (
    id uuid PRIMARY KEY,
    account text COLLATE "C" NOT NULL REFERENCES accounts (name) ON DELETE CASCADE,
    opened_at timestamptz NOT NULL,
    -- When the latest refresh token ends, and with it the session.
    expires_at timestamptz NOT NULL,
    -- Set when the session ended before its time: signed out, a refresh token came twice, the account changed.
    ended_at timestamptz
);
CREATE INDEX sessions_account ON sessions (account) WHERE ended_at IS NULL;
CREATE INDEX sessions_expires_at ON sessions (expires_at);

-- SHA-256 of every refresh token of a session, used ones too: one that comes again betrays a theft.
CREATE TABLE refresh_tokens (
    hash bytea PRIMARY KEY,
    session uuid NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    used_at timestamptz
);
CREATE INDEX refresh_tokens_session ON refresh_tokens (session);

-- Failed sign-ins by SHA-256 of the login, whether or not it exists; people also mistype their password into that field.
CREATE TABLE sign_in_failures (
    login_hash bytea PRIMARY KEY,
    failures integer NOT NULL,
    last_at timestamptz NOT NULL,
    locked_until timestamptz
);
CREATE INDEX sign_in_failures_last_at ON sign_in_failures (last_at);

-- Counts changes, so that every replica knows when what it keeps in memory is stale.
CREATE TABLE versions (
    name text PRIMARY KEY,
    version bigint NOT NULL
);
INSERT INTO versions (name, version) VALUES ('zones', 1), ('roles', 1);
