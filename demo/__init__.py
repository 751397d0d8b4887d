"""The demonstration: five nodes on one machine, real reports, and an independent reconciliation."""
