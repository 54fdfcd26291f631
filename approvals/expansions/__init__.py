"""Expansions: asked for with frozen evidence, approved by somebody else, started by the owner."""
