"""Pause, roll back and the rest: one transactional function."""
