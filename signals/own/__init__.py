"""Signals that teams define themselves: their definitions, version by version."""
