-- The system whose record an event was imported from; empty for one that was reported here. Reports of the past are
-- merged among their own kind only.
ALTER TABLE events ADD COLUMN origin text NOT NULL DEFAULT '';
CREATE INDEX events_past_near ON events (origin, type, latitude) WHERE origin <> '' AND latitude IS NOT NULL;
CREATE INDEX events_past_address ON events (origin, type, address_key) WHERE origin <> '' AND address_key <> '';

ALTER TABLE event_reports DROP CONSTRAINT event_reports_kind_check;
ALTER TABLE event_reports ADD CONSTRAINT event_reports_kind_check
    CHECK (kind IN ('request', 'warning', 'officer', 'import'));
