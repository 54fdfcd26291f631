"""Recorded traces as input: read, mapped to runs, and stored as history or played live."""
