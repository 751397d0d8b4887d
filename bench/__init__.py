"""Benchmarks of whole nodes. See README.md for what is measured and how."""
