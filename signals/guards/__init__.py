"""Expansion criteria and rollback triggers, and what they say now."""
