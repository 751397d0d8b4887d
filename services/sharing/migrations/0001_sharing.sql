-- The catalogue: this node's products, and those that it holds under contracts with partners.
CREATE TABLE products (
    name text PRIMARY KEY,
    node text NOT NULL,                    -- who provides it
    title_zh text NOT NULL,
    title_en text NOT NULL,
    description_zh text NOT NULL,
    description_en text NOT NULL,
    owner text NOT NULL,
    zone text NOT NULL,
    version integer NOT NULL,
    fields jsonb NOT NULL,
    update_frequency text NOT NULL,
    offered boolean NOT NULL,
    source_fact text NOT NULL,             -- '' for a product that is not made from facts
    source_columns jsonb NOT NULL,
    source_where jsonb NOT NULL,
    -- Kept with every row written: counting them would take longer with every day.
    row_count bigint NOT NULL DEFAULT 0,
    rows_at timestamptz
);
CREATE INDEX products_source_fact ON products (source_fact) WHERE source_fact <> '';

-- Rows of products. Those of the node's own have no contract; a partner's are kept apart by the contract they came under.
CREATE TABLE rows (
    -- Pages go on from here: the key itself may be personal data, and does not leave in a page token.
    id bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    product text NOT NULL,
    contract text NOT NULL,
    -- Canonical JSON of the values of the key fields, in the order of the product's fields.
    key text NOT NULL COLLATE "C",
    row jsonb NOT NULL,
    version integer NOT NULL,
    zone text NOT NULL,
    -- The fact that it is from: an older one, handed in late, does not replace it.
    fact_id uuid NOT NULL,
    updated_at timestamptz NOT NULL,
    -- Of the node's own: changed, and not yet stated in a ProductRowsWritten.
    unstated boolean NOT NULL,
    PRIMARY KEY (product, contract, key)
);
CREATE INDEX rows_unstated ON rows (product, zone, id) WHERE unstated;

-- The exchange contracts under which this node receives a product, as federation last stated them.
CREATE TABLE contracts (
    name text PRIMARY KEY,
    product text NOT NULL,                 -- as it is called here: products/{node}.{id}
    provider text NOT NULL,
    version integer NOT NULL,
    fields text[] NOT NULL,                -- that it gives, masked or not
    active boolean NOT NULL,
    valid_from timestamptz,
    valid_until timestamptz,
    fact_id uuid NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX contracts_product ON contracts (product);

-- Contracts that came into force and whose consumers have not been told yet of the rows that were there before.
CREATE TABLE restatements (
    contract text PRIMARY KEY,
    product text NOT NULL,
    version integer NOT NULL,
    after_id bigint NOT NULL DEFAULT 0     -- rows up to this one are stated
);
