"""Runs come in: validated, durable, drained exactly once."""
