"""Whole federations under test: the demo, as a newcomer starts it, seen from outside."""
