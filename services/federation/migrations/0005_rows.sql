-- Retention, schedules and deletion proofs.
SELECT 1;
