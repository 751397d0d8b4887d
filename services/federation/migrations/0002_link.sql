-- Lanes, retained envelopes and dead letters of the links.
SELECT 1;
