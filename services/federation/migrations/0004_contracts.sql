-- Amendments, waiting states and transfers.
SELECT 1;
