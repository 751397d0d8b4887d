-- What happened where and when, for the analysis: every question that it asks is about a zone and a stretch of time.
CREATE INDEX events_occurred ON events (zone, occurred_at, type) WHERE NOT partial;

-- Emerging issues that were stated as facts, so that each is stated once while its window lasts.
CREATE TABLE emerging_stated (
    zone text NOT NULL,
    type text NOT NULL,
    window_end timestamptz NOT NULL,
    PRIMARY KEY (zone, type)
);
