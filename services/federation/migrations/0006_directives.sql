-- Directives.
SELECT 1;
