"""Faults done on purpose to real nodes, and the same independent reconciliation after each."""
