-- Amendments, waiting states, what happened to contracts, and transfers.
ALTER TABLE contracts
    ADD COLUMN version integer NOT NULL DEFAULT 1,
    ADD COLUMN amends text NOT NULL DEFAULT '',
    ADD COLUMN superseded_by text NOT NULL DEFAULT '',
    -- When it came or will come into force.
    ADD COLUMN in_force_at timestamptz,
    -- A finalised amendment is not in force before the provider says at which place of the flow it takes over.
    ADD COLUMN awaits_switch boolean NOT NULL DEFAULT false,
    -- The provider has put the place of the switch into its stream of facts.
    ADD COLUMN switch_stated boolean NOT NULL DEFAULT false,
    -- A superseded charter under which the child's facts may still come, until it says that they are all sent.
    ADD COLUMN draining boolean NOT NULL DEFAULT false,
    -- Rows come only when the consumer asks, as the terms say.
    ADD COLUMN pulled boolean NOT NULL DEFAULT false,
    -- The message that ended it or gave notice: of two that cross, both nodes keep the same one.
    ADD COLUMN ended_by_message text NOT NULL DEFAULT '',
    ADD COLUMN terminates_at timestamptz,
    -- When a contract in force ends by the clock: a notice takes effect, or its validity is over.
    ADD COLUMN ends_at timestamptz,
    -- The step that is owed: until when, and when the owner is and was reminded.
    ADD COLUMN waiting_since timestamptz,
    ADD COLUMN deadline timestamptz,
    ADD COLUMN remind_at timestamptz,
    ADD COLUMN reminded_at timestamptz;
CREATE INDEX contracts_in_force ON contracts (kind, state);
CREATE INDEX contracts_amends ON contracts (amends) WHERE amends <> '';
CREATE INDEX contracts_deadline ON contracts (least(deadline, ends_at, remind_at))
    WHERE least(deadline, ends_at, remind_at) IS NOT NULL;
CREATE INDEX contracts_switch ON contracts (in_force_at) WHERE awaits_switch AND NOT switch_stated;

CREATE TABLE contract_steps (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    contract text NOT NULL,
    transfer text NOT NULL DEFAULT '',
    message_id text NOT NULL,
    type text NOT NULL,
    node text NOT NULL,
    actor text NOT NULL,
    time timestamptz NOT NULL,
    state text NOT NULL,
    outcome text NOT NULL,
    text text NOT NULL
);
CREATE INDEX contract_steps_contract ON contract_steps (contract, id);

CREATE TABLE transfers (
    id text PRIMARY KEY,
    contract text NOT NULL REFERENCES contracts (id),
    state smallint NOT NULL,
    step bigint NOT NULL,
    -- Whether the provider took the step that stands.
    by_provider boolean NOT NULL,
    reason text NOT NULL DEFAULT '',
    changed_by text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    waiting_since timestamptz,
    deadline timestamptz,
    remind_at timestamptz,
    reminded_at timestamptz
);
CREATE INDEX transfers_contract ON transfers (contract);
CREATE INDEX transfers_list ON transfers (created_at DESC, id DESC);
CREATE INDEX transfers_deadline ON transfers (least(deadline, remind_at)) WHERE least(deadline, remind_at) IS NOT NULL;
