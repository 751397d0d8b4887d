-- A directive from above becomes one task of the organisation that it is for.
ALTER TABLE tasks ADD COLUMN directive text NOT NULL DEFAULT '';
CREATE UNIQUE INDEX tasks_directive ON tasks (directive) WHERE directive <> '';
