"""Alerts of other systems as they arrive: read, mapped to triggers and paths, and kept."""
