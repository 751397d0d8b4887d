-- What was counted under contracts, objectives, disclosures.
SELECT 1;
