-- Cosignatures.
SELECT 1;
