-- Approvals, trust lists, keys and revocations.
SELECT 1;
